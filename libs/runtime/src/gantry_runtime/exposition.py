"""The metrics of all processes of a service as one Prometheus page."""

import os
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_DEAD = "dead"

# prometheus_client has no types for what serves several processes: hence what mypy is told below.
# When a process began to count is of no use where processes are summed.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Exposition:
    """Sums the mapped files in one folder, to which the children of a supervisor write.

    Files are named ``<kind>_<pid>.db`` or ``gauge_<mode>_<pid>.db`` (prometheus_client). What dead
    processes counted must stay counted, so their files are folded into one per kind.
    """

    def __init__(self, folder: Path, own: CollectorRegistry) -> None:
        self._folder = folder
        self._own = own
        self._lock = threading.Lock()
        self._children = CollectorRegistry()
        MultiProcessCollector(self._children, str(folder))  # type: ignore[no-untyped-call]

    def page(self) -> bytes:
        """The supervisor's own metrics followed by the children's."""
        with self._lock:
            return generate_latest(self._own) + generate_latest(self._children)

    def forget_dead(self) -> None:
        """Drop the live gauges of processes that have ended, and fold their counts together."""
        with self._lock:
            self._forget_dead()

    def _forget_dead(self) -> None:
        for file in sorted(self._folder.glob("*.db")):
            pid = file.stem.rpartition("_")[2]
            if pid == _DEAD or not pid.isdigit() or _alive(int(pid)):
                continue
            mark_process_dead(int(pid), str(self._folder))  # type: ignore[no-untyped-call]
            kind = file.stem.partition("_")[0]
            if kind in {"counter", "histogram", "summary"} and file.exists():
                self._fold(file, self._folder / f"{kind}_{_DEAD}.db")

    @staticmethod
    def _fold(file: Path, into: Path) -> None:
        total = MmapedDict(str(into))  # type: ignore[no-untyped-call]
        try:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
                before, _ = total.read_value(key)  # type: ignore[no-untyped-call]
                total.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]
        finally:
            total.close()  # type: ignore[no-untyped-call]
        file.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

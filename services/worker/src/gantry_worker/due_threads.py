"""Threads that do what is due, one thing after the other, until they shall stop."""

import threading
import time
from collections.abc import Callable, Mapping

from gantry_domain.errors import TransientError
from gantry_runtime.logs import get_logger

log = get_logger(__name__)

_LOOK_SECONDS = 0.5


class DueThreads:
    """One thread for each kind of work; what fails is due again when its lease is over."""

    def __init__(
        self,
        works: Mapping[str, Callable[[], bool]],
        *,
        stopping: threading.Event,
        failed: Callable[[], None],
    ) -> None:
        """`works` by the names of their threads: each does one thing, and says whether there was
        any. `failed` counts what nobody expected."""
        self._stopping = stopping
        self._failed = failed
        self._threads = [
            threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
            for name, work in works.items()
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> bool:
        """Wait for the threads, which end once they shall stop; whether all have."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, name: str, work: Callable[[], bool]) -> None:
        while not self._stopping.is_set():
            try:
                worked = work()
            except TransientError as error:
                log.warning("work_waits", thread=name, error=type(error).__name__)
                worked = False
            except Exception:  # the thread's door: without it nothing of its kind would be done
                self._failed()
                log.exception("work_failed", thread=name)
                worked = False
            if not worked:
                self._stopping.wait(_LOOK_SECONDS)

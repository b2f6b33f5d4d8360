"""One run of Gantry, started as its users start it and looked at from outside."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from blackbox.datasets import SECRET
from blackbox.metrics import Metrics
from blackbox.processes import Seen, descendants, processes_of
from blackbox.stores import FolderStore, Store
from blackbox.waiting import until

COMMAND = Path(sys.executable).with_name("gantry")
ROOT = Path(__file__).parents[3]

# The default addresses of the black-box contract; GANTRY_PORT_BASE is added to each.
PORTS = {
    "dimse": 11112,
    "find": 11113,
    "orders": 11114,
    "hl7": 2575,
    "http": 8080,
    "ingress": 9101,
    "worker": 9102,
    "query": 9103,
    "worklist": 9104,
}
_ALL_PORTS = tuple(PORTS.values())
SERVICES = ("ingress", "worker", "query", "worklist")


# While this process lives, no other test process takes these; the testkit does the same.
_claimed: dict[int, int] = {}  # base to file descriptor


def _claim(base: int) -> bool:
    if base not in _claimed:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0gantry-tests-{base}")  # abstract: it goes with the process
        except OSError:
            claim.close()
            return False
        _claimed[base] = claim.detach()  # open until we end
    return True


def free_port_base() -> int:
    """A GANTRY_PORT_BASE whose ports nobody listens on."""
    for base in random.sample(range(1000, 20_001, 100), 191):
        with ExitStack() as stack:
            try:
                if not _claim(base):
                    continue
                for port in _ALL_PORTS:
                    taken = stack.enter_context(socket.socket())
                    taken.bind(("127.0.0.1", port + base))
            except OSError:
                continue
            return base
    raise AssertionError("no free range of ports on this machine")


def environment(names: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command: ours without any GANTRY name, and `names`."""
    ours = {k: v for k, v in os.environ.items() if not k.lstrip("_").startswith("GANTRY_")}
    return ours | dict(names)


class Gantry:
    """`gantry up` in a data folder and on ports of its own.

    Its settings are the text `config`, in which FOLDER stands for a folder of its own, and where
    its object store is; None: in its data folder.
    """

    def __init__(
        self, *, config: str = "", prefix: Sequence[str] = (), store: Store | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gantry-system-"))
        # PostgreSQL runs as another user when we are root, and must be able to come in.
        self.folder.chmod(0o711)
        self.data = self.folder / "data"
        self.store: Store = store or FolderStore(self.data / "objects")
        config = self.store.config + config
        self.base = free_port_base()
        self.prefix = tuple(prefix)
        self.command = COMMAND
        self.names = {
            "GANTRY_DATA": str(self.data),
            "GANTRY_PORT_BASE": str(self.base),
            **self.store.names,
        }
        if config:
            file = self.folder / "gantry.yaml"
            file.write_text(config.replace("FOLDER", str(self.folder)), encoding="utf-8")
            file.chmod(0o644)
            self.names["GANTRY_CONFIG"] = str(file)
        self.lines: list[str] = []
        self.complaints = self.folder / "stderr"
        self.up: subprocess.Popen[str] | None = None
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port('http')}", timeout=30)

    def port(self, name: str) -> int:
        """The port of a door, or of a service's metrics."""
        return PORTS[name] + self.base

    def start(self, *arguments: str, seconds: float = 90.0) -> str:
        """Starts it and waits for the line ``gantry ready``, which is returned."""
        with self.complaints.open("ab") as complaints:
            self.up = subprocess.Popen(
                [*self.prefix, str(self.command), "up", *arguments],
                env=environment(self.names),
                stdout=subprocess.PIPE,
                stderr=complaints,
                stdin=subprocess.DEVNULL,
                text=True,
                cwd=self.folder,
                start_new_session=True,
            )
        self.lines.clear()
        threading.Thread(target=self._listen, args=(self.up,), daemon=True).start()
        try:
            return until(self._ready_line, "the line `gantry ready`", seconds=seconds)
        except AssertionError:
            self.kill()
            raise

    def _listen(self, up: subprocess.Popen[str]) -> None:
        assert up.stdout is not None
        with up.stdout as stdout:
            self.lines.extend(line.rstrip("\n") for line in _each(stdout))

    def _ready_line(self) -> str | None:
        assert self.up is not None
        for line in tuple(self.lines):
            if line.startswith("gantry ready"):
                return line
        code = self.up.poll()
        if code is not None:
            raise AssertionError(f"`gantry up` ended with {code}: {self.said()[-2000:]}")
        return None

    def said(self) -> str:
        """All that it wrote: on its outputs and into the logs of its services."""
        logs = sorted((self.data / "logs").glob("*")) if (self.data / "logs").exists() else []
        files = [self.complaints, *(log for log in logs if log.is_file())]
        return "\n".join(
            [*self.lines, *(file.read_text(errors="replace") for file in files if file.exists())]
        )

    def begin(
        self, *arguments: str, names: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Another `gantry` command with the same settings."""
        return subprocess.Popen(
            [*self.prefix, str(self.command), *arguments],
            env=environment(self.names | dict(names or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
        )

    def run(
        self, *arguments: str, names: Mapping[str, str] | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """The same, to its end."""
        with self.begin(*arguments, names=names) as command:
            try:
                out, err = command.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                command.kill()
                raise
        return subprocess.CompletedProcess(command.args, command.returncode, out, err)

    def stop(self, *, seconds: float = 60.0) -> int:
        """SIGTERM as an operator sends it; its exit status once no process of it is left."""
        assert self.up is not None
        self.up.terminate()
        code = self.up.wait(timeout=seconds)
        until(lambda: not self.processes(), "no process is left", seconds=5)
        return code

    def stop_cleanly(self) -> None:
        """Stops it; nothing must have gone wrong by then, and nobody's name been written down."""
        code = self.stop()
        said = self.said()
        assert code == 0, said[-2000:]
        trace = said.find("Traceback (most recent call last)")
        assert trace < 0, said[max(0, trace - 500) :][:4000]
        assert SECRET.casefold() not in said.casefold()

    def kill(self) -> None:
        """Ends every process of it at once, whatever state they are in."""
        for _ in range(20):
            left = self.processes()
            if not left:
                break
            for seen in left.values():
                seen.send(signal.SIGKILL)
        if self.up is not None:
            self.up.wait(timeout=10)

    def clean(self) -> None:
        """Kills what is left and removes the folder, unless SYSTEM_TESTS_KEEP is set."""
        self.kill()
        self.http.close()
        if os.environ.get("SYSTEM_TESTS_KEEP"):
            return
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> dict[int, Seen]:
        """All that runs for it."""
        return processes_of(self.data)

    def supervisor(self, service: str) -> Seen:
        """The process that watches a service's others."""

        def found() -> list[Seen]:
            everyone = self.processes().values()
            return [seen for seen in everyone if seen.module == f"gantry_{service}"]

        # A child that it is just starting looks like it for a moment.
        until(lambda: len(found()) == 1, f"one supervisor of {service}", seconds=5)
        return found()[0]

    def children(self, service: str) -> list[Seen]:
        """All processes below a service's supervisor."""
        everyone = self.processes()
        roots = {p for p, seen in everyone.items() if seen.module == f"gantry_{service}"}
        return [everyone[pid] for pid in sorted(descendants(everyone, roots) - roots)]

    def engine(self, program: str) -> Seen:
        """The first process of an engine: ``postgres`` or ``redis-server``."""
        everyone = self.processes()
        found = [s for s in everyone.values() if Path(s.arguments[0].split()[0]).name == program]
        roots = [seen for seen in found if seen.parent not in {other.pid for other in found}]
        assert len(roots) == 1, f"{len(roots)} processes {program}"
        return roots[0]

    def metrics(self, service: str) -> Metrics:
        """What a service's ``/metrics`` shows now."""
        answer = httpx.get(f"http://127.0.0.1:{self.port(service)}/metrics", timeout=10)
        assert answer.status_code == 200
        return Metrics.parse(answer.text)

    def readiness(self, service: str) -> tuple[int, Any]:
        """The status and the body of a service's ``/readyz``; 0 where nobody answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port(service)}/readyz", timeout=10)
        except httpx.TransportError:
            return 0, None
        return answer.status_code, answer.json()

    def lacking(self, service: str) -> list[str]:
        """What each of a service's processes says that it lacks, ready or not."""
        _, told = self.readiness(service)
        return [process["reason"] for process in told["processes"]] if told else []

    def restarts(self, service: str) -> int:
        """How often a service's processes were started again."""
        return sum(process["restarts"] for process in self.readiness(service)[1]["processes"])

    def ready(self) -> bool:
        """Whether all services say so."""
        return all(self.readiness(service)[0] == 200 for service in SERVICES)


def _each(stream: Any) -> Iterator[str]:
    try:
        yield from stream
    except ValueError:  # closed under the reader at the end of a test
        return


def refused(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a command says what the user did wrong."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("gantry: ")
    assert "Traceback" not in lines[0]
    return lines[0]

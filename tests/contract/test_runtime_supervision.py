"""Supervision with real processes: restarts, drain, probes, metrics, and no orphans."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gantry_testkit.waiting import until

_CHILDREN = Path(__file__).parent / "runtime_children"


class RunningService:
    """A supervisor in a process of its own."""

    def __init__(
        self,
        folder: Path,
        mode: str,
        *,
        count: int = 2,
        grace: float = 10.0,
        stalled_after: float = 30.0,
    ) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.stderr = (folder / "stderr").open("w+b")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "supervised_service",
                mode,
                str(count),
                str(folder),
                str(self.port),
                str(grace),
                str(stalled_after),
            ],
            env={**os.environ, "PYTHONPATH": str(_CHILDREN), "TMPDIR": str(folder)},
            stderr=self.stderr,
            start_new_session=True,
        )

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def health(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/readyz")[1] or "{}"))

    def metric(self, name: str) -> float:
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def call(self) -> int:
        """The process that answers at the door."""
        port = int((self.folder / "door").read_text())
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return int(connection.makefile().readline())

    def pids(self, name: str = "") -> list[int]:
        return [int(file.name.rpartition("-")[2]) for file in self.folder.glob(f"pid-{name}*")]

    def said(self) -> list[dict[str, Any]]:
        self.stderr.flush()
        lines = (self.folder / "stderr").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def end(self) -> None:
        for pid in [self.process.pid, *self.pids()]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self.stderr.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


Start = Callable[..., RunningService]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[RunningService] = []

    def begin(mode: str, **options: Any) -> RunningService:
        running.append(RunningService(tmp_path, mode, **options))
        return running[-1]

    yield begin
    for service in running:
        service.end()


def test_children_share_the_socket_and_the_metrics(start: Start, tmp_path: Path) -> None:
    service = start("echo", count=2)
    until(lambda: service.get("/readyz")[0] == 200, "ready")
    answered = {service.call() for _ in range(40)}
    assert answered <= set(service.pids())
    until(lambda: service.metric("gantry_child_connections_total") == 40, "40 counted")
    assert service.metric("gantry_ready ") == 1
    assert service.metric('gantry_processes{state="ready"}') == 2
    assert service.get("/healthz")[0] == 200
    assert service.get("/nowhere")[0] == 404
    service.process.terminate()
    assert service.process.wait(10) == 0
    assert not any(alive(pid) for pid in service.pids())
    assert not list(tmp_path.glob("gantry-metrics-*"))


def test_a_killed_child_is_restarted_and_its_counts_stay(start: Start) -> None:
    service = start("echo", count=1)
    until(lambda: service.get("/readyz")[0] == 200, "ready")
    victim = service.call()
    os.kill(victim, signal.SIGKILL)
    until(lambda: service.metric("gantry_process_restarts_total") == 1, "one restart")
    until(lambda: service.get("/readyz")[0] == 200, "ready again")
    assert service.call() != victim
    until(lambda: service.metric("gantry_child_connections_total") == 2, "both counted")


def test_a_child_that_keeps_dying_is_restarted_ever_more_rarely(start: Start) -> None:
    service = start("crash", count=1)
    until(lambda: len(service.pids()) >= 4, "four starts")
    status, body = service.get("/readyz")
    assert status == 503
    assert "exit status 3" in body or "starting" in body
    delays = [e["starts_again_in"] for e in service.said() if e["event"] == "process_ended"]
    assert delays[:3] == [0.2, 0.4, 0.8]
    assert service.get("/healthz")[0] == 200
    service.process.terminate()
    assert service.process.wait(10) == 0


def test_readyz_says_what_a_child_waits_for(start: Start) -> None:
    service = start("never_ready", count=1)
    until(lambda: "the database is away" in service.get("/readyz")[1], "the reason")
    assert service.get("/readyz")[0] == 503
    assert service.health()["processes"][0]["state"] == "not_ready"


def test_sigterm_drains_and_no_new_connection_is_taken(start: Start, tmp_path: Path) -> None:
    service = start("slow", count=1)
    until(lambda: service.get("/readyz")[0] == 200, "ready")
    service.process.terminate()
    until((tmp_path / "draining").exists, "draining")
    assert service.get("/readyz")[0] == 503
    assert service.process.wait(10) == 0
    assert (tmp_path / "drained").exists()
    with pytest.raises(ConnectionRefusedError):
        service.call()


def test_what_does_not_end_in_time_is_killed(start: Start) -> None:
    service = start("stubborn", count=2, grace=0.5)
    until(lambda: service.get("/readyz")[0] == 200, "ready")
    service.process.terminate()
    assert service.process.wait(10) == 1
    assert not any(alive(pid) for pid in service.pids())


def test_a_second_signal_hurries(start: Start) -> None:
    service = start("stubborn", count=1, grace=100)
    until(lambda: service.get("/readyz")[0] == 200, "ready")
    service.process.terminate()
    until(lambda: service.get("/readyz")[0] == 503, "draining")
    service.process.send_signal(signal.SIGINT)
    service.process.wait(10)
    assert not any(alive(pid) for pid in service.pids())


def test_a_killed_supervisor_leaves_no_orphans(start: Start) -> None:
    service = start("grandchild", count=2)
    until(lambda: service.get("/readyz")[0] == 200, "ready")
    until(lambda: len(service.pids("sleeper")) == 2, "grandchildren")
    assert all(alive(pid) for pid in service.pids())
    service.process.kill()
    service.process.wait(10)
    until(lambda: not any(alive(pid) for pid in service.pids()), "all gone", seconds=5)


def test_a_stopped_child_is_noticed(start: Start) -> None:
    service = start("echo", count=1, stalled_after=2.5)
    until(lambda: service.get("/readyz")[0] == 200, "ready")
    (child,) = service.pids()
    os.kill(child, signal.SIGSTOP)
    until(lambda: service.get("/healthz")[0] == 503, "not healthy")
    assert service.health()["processes"][0]["state"] == "stalled"
    until(lambda: len(service.pids()) == 2, "killed and started again")
    until(lambda: service.get("/readyz")[0] == 200, "ready again")
    assert service.get("/healthz")[0] == 200


def test_a_metrics_port_in_use_is_one_line_and_status_2(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "supervised_service",
                "echo",
                "1",
                str(tmp_path),
                str(port),
                "1",
                "30",
            ],
            env={**os.environ, "PYTHONPATH": str(_CHILDREN)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"gantry: port {port} on 127.0.0.1 (metrics of demo) is in use")
    assert done.stderr.count("\n") == 1

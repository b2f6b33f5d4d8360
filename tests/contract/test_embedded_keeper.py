"""The keeper of `gantry up` with real processes: order, restarts, and failing starts."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gantry_cli.keeper import Keeper, StartFailed, StopRequested

_WAITS = """
import signal, sys, time
from pathlib import Path
name, folder = sys.argv[1], Path(sys.argv[2])
def stop(*_):
    with (folder / "order").open("a") as order:
        order.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(folder / f"{name}.ready").touch()
signal.pause()
"""


@dataclass
class Program:
    """Something to keep: a Python program, ready once it touched a file."""

    name: str
    folder: Path
    program: str = _WAITS
    stops_last: bool = False
    grace: float = 10.0
    stop_signal: signal.Signals = signal.SIGTERM
    pid: int = 0

    def start(self, output: int) -> "subprocess.Popen[bytes]":
        started = subprocess.Popen(
            [sys.executable, "-c", self.program, self.name, str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self.pid = started.pid
        return started

    def ready(self) -> str:
        return "" if (self.folder / f"{self.name}.ready").exists() else "has not touched its file"


def soon(what: Callable[[], None], seconds: float) -> None:
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()


def test_services_stop_in_the_order_of_the_flow_and_engines_after_them(tmp_path: Path) -> None:
    keeper = Keeper(logs=tmp_path, say=print)
    with keeper.running():
        engines = [Program(name, tmp_path, stops_last=True) for name in ("postgres", "redis")]
        keeper.start(engines, patience=20)
        services = [Program(name, tmp_path) for name in ("ingress", "worker", "query")]
        keeper.start(services, patience=20)
        soon(lambda: os.kill(os.getpid(), signal.SIGTERM), 0.2)
        keeper.watch()
        assert keeper.stop_requested
    order = (tmp_path / "order").read_text().split()
    assert order == ["ingress", "worker", "query", "redis", "postgres"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_ends_by_itself_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Keeper(logs=tmp_path, say=said.append)
    once = "import sys; sys.stderr.write('gantry: out of luck\\n')\n" + _WAITS.replace(
        "signal.pause()", "sys.exit(3) if (folder / 'again').exists() else signal.pause()"
    )
    program = Program("worker", tmp_path, program=once)
    with keeper.running():
        keeper.start([program], patience=20)
        (tmp_path / "again").touch()
        (tmp_path / "worker.ready").unlink()
        os.kill(program.pid, signal.SIGKILL)
        keeper.watch(until=time.monotonic() + 2.5)
    assert said[0].startswith(
        "worker ended with signal SIGKILL (out of luck); it starts again in 0.2"
    )
    assert said[1].startswith(
        "worker ended with exit status 3 (out of luck); it starts again in 0.4"
    )


def test_a_start_that_fails_says_why_and_ends_the_others(tmp_path: Path) -> None:
    keeper = Keeper(logs=tmp_path, say=print)
    fails = "import sys; sys.stderr.write('gantry: port 1 is in use\\n'); sys.exit(2)"
    with keeper.running():
        keeper.start([Program("ingress", tmp_path)], patience=20)
        with pytest.raises(StartFailed, match=r"worker did not start: port 1 is in use \(log: /"):
            keeper.start([Program("worker", tmp_path, program=fails)], patience=20)
    assert (tmp_path / "order").read_text() == "ingress\n"


def test_what_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    keeper = Keeper(logs=tmp_path, say=print)
    idle = "import signal; signal.pause()"
    with (
        pytest.raises(StartFailed, match=r"query did not start: not ready in 0 s: has not touched"),
        keeper.running(),
    ):
        keeper.start([Program("query", tmp_path, program=idle)], patience=0.4)


def test_a_signal_during_the_start_stops_it(tmp_path: Path) -> None:
    keeper = Keeper(logs=tmp_path, say=print)
    idle = "import signal; signal.pause()"
    soon(lambda: os.kill(os.getpid(), signal.SIGINT), 0.3)
    with pytest.raises(StopRequested), keeper.running():
        keeper.start([Program("query", tmp_path, program=idle)], patience=60)


def test_what_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Keeper(logs=tmp_path, say=said.append)
    deaf = _WAITS.replace(
        "signal.signal(signal.SIGTERM, stop)", "signal.signal(15, signal.SIG_IGN)"
    )
    deaf = deaf.replace("signal.pause()", "[time.sleep(1) for _ in range(60)]")
    began = time.monotonic()
    with keeper.running():
        keeper.start([Program("ingress", tmp_path, program=deaf, grace=1.0)], patience=20)
    assert time.monotonic() - began < 10
    assert said == ["ingress did not end within 1 s and is killed"]

"""Keeps processes running in the foreground: starts, restarts, and stops them in order."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

from gantry_cli.logfile import LogFile
from gantry_domain.errors import GantryError
from gantry_runtime.backoff import Backoff

_LOOK_AGAIN = 0.1
_WATCH = 5.0


class StopRequested(Exception):
    """Someone asked to stop before all had started."""


class StartFailed(GantryError):
    """Something did not start; the line says what, why, and where its log is."""


class Kept(Protocol):
    """What a keeper can run: an engine or a service."""

    name: str
    stop_signal: signal.Signals
    grace: float
    """Seconds from the stop signal to SIGKILL."""
    stops_last: bool
    """Others need it: it is stopped after those that do not."""

    def start(self, output: int) -> subprocess.Popen[bytes]:
        """Start it, writing to `output`."""

    def ready(self) -> str:
        """Empty when it is ready, else what is missing."""


class _Run:
    def __init__(self, kept: Kept, log: LogFile) -> None:
        self.kept = kept
        self.log = log
        self.popen: subprocess.Popen[bytes] | None = None
        self.backoff = Backoff()
        self.started = 0.0
        self.start_at: float | None = None

    def start(self) -> None:
        output = self.log.pipe()
        try:
            self.popen = self.kept.start(output)
        finally:
            os.close(output)
        self.started = time.monotonic()
        self.start_at = None

    def signal(self, number: int) -> None:
        if self.popen is not None and self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(number)


class Keeper:
    """Used in the main thread, as a context manager that leaves nothing running behind."""

    def __init__(
        self,
        *,
        logs: Path,
        say: Callable[[str], None],
        echo: bool = False,
        interrupt: bool = False,
    ) -> None:
        """Logs go to files in `logs`, with `echo` to stderr too; `say` takes lines for people.

        With `interrupt` a signal raises KeyboardInterrupt, for work that does not watch for it.
        """
        self._interrupt = interrupt
        self._logs = logs
        self._say = say
        self._echo = echo
        self._runs: list[_Run] = []
        self._stops = 0
        self._wake, self._sender = socket.socketpair()
        self._wake.setblocking(False)
        self._sender.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)

    @contextlib.contextmanager
    def running(self) -> Iterator["Keeper"]:
        """Take the signals; at the end stop whatever runs, in the order of its start."""
        numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
            numbers.append(signal.SIGHUP)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        old_wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        try:
            yield self
        finally:
            self._interrupt = False
            self._stop_all()
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._selector.close()
            self._wake.close()
            self._sender.close()

    @property
    def stop_requested(self) -> bool:
        """Whether a signal asked to stop."""
        return self._stops > 0

    def check(self) -> None:
        """:raises StopRequested: a signal asked to stop."""
        if self._stops:
            raise StopRequested

    def start(self, kept: Sequence[Kept], *, patience: float) -> None:
        """Start all of them and return once all are ready.

        :raises StartFailed: one ended, or was not ready within `patience` seconds.
        :raises StopRequested: a signal came first.
        """
        runs = [_Run(one, LogFile(self._logs / f"{one.name}.log", echo=self._echo)) for one in kept]
        self._runs.extend(runs)
        for run in runs:
            run.start()
        deadline = time.monotonic() + patience
        waiting = runs
        while waiting:
            missing = {}
            for run in waiting:
                assert run.popen is not None
                status = run.popen.poll()
                if status is not None:
                    run.log.settle()
                    raise StartFailed(self._why(run, f"ended with {ending(status)}"))
                if said := run.kept.ready():
                    missing[run] = said
            waiting = list(missing)
            if waiting and time.monotonic() > deadline:
                run = waiting[0]
                raise StartFailed(self._why(run, f"not ready in {patience:.0f} s: {missing[run]}"))
            if waiting:
                self._pause(_LOOK_AGAIN)
            self.check()

    def watch(self, until: float | None = None) -> None:
        """Restart what ends by itself, until a signal asks to stop (or `until`, monotonic)."""
        while not self._stops and (until is None or time.monotonic() < until):
            now = time.monotonic()
            due = [run.start_at for run in self._runs if run.start_at is not None]
            self._pause(max(0.0, min([_WATCH, *(at - now for at in due)])))
            now = time.monotonic()
            for run in self._runs:
                if self._stops:
                    return
                if run.start_at is not None:
                    if now >= run.start_at:
                        self._restart(run)
                elif run.popen is not None and (status := run.popen.poll()) is not None:
                    delay = run.backoff.after(now - run.started)
                    run.start_at = now + delay
                    run.log.settle()
                    complaint = run.log.complaint()
                    self._say(
                        f"{run.kept.name} ended with {ending(status)}"
                        + (f" ({complaint})" if complaint else "")
                        + f"; it starts again in {delay:.1f} s (log: {run.log.file})"
                    )

    def _restart(self, run: _Run) -> None:
        run.log.forget()
        try:
            run.start()
        except (GantryError, OSError) as error:
            delay = run.backoff.after(0)
            run.start_at = time.monotonic() + delay
            self._say(f"{run.kept.name} could not be started ({error}); again in {delay:.1f} s")

    def _why(self, run: _Run, what: str) -> str:
        complaint = run.log.complaint()
        said = f"{run.kept.name} did not start: {complaint or what}"
        return f"{said} (log: {run.log.file})"

    def _stop_all(self) -> None:
        # Services in the order of the flow, so that what was received is still indexed; then the
        # engines that they need.
        engines = [run for run in self._runs if run.kept.stops_last]
        services = [run for run in self._runs if not run.kept.stops_last]
        for run in [*services, *reversed(engines)]:
            self._stop(run)
            run.log.close()

    def _stop(self, run: _Run) -> None:
        popen = run.popen
        if popen is None or popen.poll() is not None:
            return
        stops = self._stops
        run.signal(run.kept.stop_signal)
        deadline = time.monotonic() + run.kept.grace
        while popen.poll() is None:
            self._pause(_LOOK_AGAIN)
            if self._stops > max(stops, 1):
                stops = self._stops
                run.signal(run.kept.stop_signal)
            if time.monotonic() > deadline:
                self._say(
                    f"{run.kept.name} did not end within {run.kept.grace:.0f} s and is killed"
                )
                run.signal(signal.SIGKILL)
                popen.wait()

    def _pause(self, seconds: float) -> None:
        """Until something happens, at most `seconds`."""
        for _ in self._selector.select(seconds):
            with contextlib.suppress(BlockingIOError):
                while self._wake.recv(4096):
                    pass

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._stops += 1
            if self._interrupt:
                raise KeyboardInterrupt


def ending(status: int) -> str:
    """The end of a process in words."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

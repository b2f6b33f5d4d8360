"""One child of a supervisor: its start, its status pipe, its end, its next start."""

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Mapping, Sequence

from gantry_runtime import process as attached
from gantry_runtime.backoff import Backoff
from gantry_runtime.forks import Fork, ForkServer
from gantry_runtime.health import ProcessHealth, ProcessState
from gantry_runtime.logs import get_logger

log = get_logger(__name__)

_LONGEST_LINE = 4096


class Child:
    """Driven by the loop of one supervisor; only ``health`` is called from other threads."""

    def __init__(
        self,
        *,
        name: str,
        module: str,
        arguments: Sequence[str],
        sockets: Mapping[str, socket.socket],
        stop_grace: float,
        stalled_after: float,
        server: ForkServer,
        selector: selectors.BaseSelector,
    ) -> None:
        self.name = name
        self.restarts = 0
        self.was_killed = False
        self._module = module
        self._arguments = tuple(arguments)
        self._sockets = sockets
        self._stop_grace = stop_grace
        self._stalled_after = stalled_after
        self._server = server
        self._selector = selector
        self._backoff = Backoff()
        self._fork: Fork | None = None
        self._status: int | None = None
        self._unread = b""
        self._state: ProcessState = "starting"
        self._reason = ""
        self._started = 0.0
        self._heard = 0.0
        self._start_at: float | None = 0.0
        self._kill_at: float | None = None

    @property
    def running(self) -> bool:
        """Whether its process has not been reaped yet."""
        return self._fork is not None

    @property
    def due(self) -> float | None:
        """When (``time.monotonic``) ``act`` has something to do, if nothing happens before."""
        if self._fork is None:
            return self._start_at
        if self._kill_at is not None:
            return self._kill_at
        return self._heard + 2 * self._stalled_after

    def health(self) -> ProcessHealth:
        """How it fares."""
        state, reason = self._state, self._reason
        silent = time.monotonic() - self._heard
        if self.running and silent > self._stalled_after:
            state, reason = "stalled", f"no sign of life for {silent:.0f} s"
        return ProcessHealth(self.name, state, reason, self.restarts)

    def act(self, now: float, *, stopping: bool) -> None:
        """Start it, or kill it, where that is due."""
        if self._fork is None:
            if not stopping and self._start_at is not None and now >= self._start_at:
                self._start(now)
        elif self._kill_at is not None and now >= self._kill_at:
            log.warning("process_overdue", name=self.name, grace=self._stop_grace)
            self.was_killed = True
            self.kill()
            self._kill_at = now + self._stop_grace
        elif now - self._heard > 2 * self._stalled_after:
            log.error("process_stalled", name=self.name, silent=now - self._heard)
            self.kill()
            self._heard = now

    def terminate(self, now: float) -> None:
        """Ask it to finish what it began."""
        self._start_at = None
        if self._fork is not None:
            self._state, self._reason = "stopping", ""
            self._kill_at = now + self._stop_grace
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, if it runs."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Listen to it no more: its server has ended it."""
        self._close_status()

    def reap(self, now: float) -> bool:
        """Whether its process has ended since the last call; its next start is then planned."""
        if self._fork is None or (status := self._fork.status) is None:
            return False
        self.read_status()
        self._close_status()
        self._fork = None
        if self._kill_at is not None:
            return True
        ran_for = now - self._started
        delay = self._backoff.after(ran_for)
        self.restarts += 1
        self._start_at = now + delay
        self._state, self._reason = "restarting", f"ended with {_ending(status)}"
        log.error(
            "process_ended", name=self.name, status=status, ran_for=ran_for, starts_again_in=delay
        )
        return True

    def read_status(self) -> None:
        """Take in what it told through its pipe."""
        if self._status is None:
            return
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._status, 65536):
                self._heard = time.monotonic()
                *lines, self._unread = (self._unread + chunk).split(b"\n")
                self._unread = self._unread[-_LONGEST_LINE:]
                for line in lines:
                    self._take(line)
            self._close_status()  # the end of the pipe: nothing more comes, and select would spin

    def _take(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            log.error("status_unreadable", name=self.name)
            return
        state = told.get("state")
        if state in {"ready", "not_ready"} and self._kill_at is None:
            if state != self._state or bool(told["reason"]) != bool(self._reason):
                log.info("process_" + state, name=self.name, reason=told["reason"])
            self._state, self._reason = state, told["reason"]

    def _start(self, now: float) -> None:
        status, theirs = os.pipe()
        os.set_blocking(status, False)
        self._state, self._reason = "starting", ""
        try:
            self._fork = self._server.fork(
                self.name,
                module=self._module,
                arguments=self._arguments,
                environ={attached.NAME: self.name},
                status=theirs,
                sockets=self._sockets,
            )
        except OSError as error:
            os.close(status)
            self._start_at = now + self._backoff.after(0)
            log.error("process_not_started", name=self.name, reason=error.strerror)
            return
        finally:
            os.close(theirs)
        self._status = status
        self._selector.register(status, selectors.EVENT_READ, self.read_status)
        self._started = self._heard = now
        self._start_at = None

    def _close_status(self) -> None:
        if self._status is not None:
            self._selector.unregister(self._status)
            os.close(self._status)
            self._status = None
            self._unread = b""

    def _signal(self, number: int) -> None:
        if self._fork is not None:
            self._fork.send_signal(number)


def _ending(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

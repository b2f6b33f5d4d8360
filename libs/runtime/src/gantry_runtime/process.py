"""What a supervised child does first: attach to its supervisor, and tell it how it fares.

The supervisor hands over, in the environment, a pipe for status lines and the listening sockets:

    _GANTRY_PROCESS=dimse-0  _GANTRY_STATUS=7  _GANTRY_SOCKETS=dimse=5,http=6  _GANTRY_PARENT=4711

A status line is JSON: ``{"state": "ready", "reason": ""}``, or with ``"not_ready"``, or ``{}``, a
beat. Outside of a supervisor (a debugger, a test) all of it is absent and nothing is
told.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import threading
from collections.abc import Mapping

from gantry_runtime.lifeline import PARENT, die_with_parent
from gantry_runtime.logs import configure_logs

NAME = "_GANTRY_PROCESS"
STATUS = "_GANTRY_STATUS"
SOCKETS = "_GANTRY_SOCKETS"
BEAT_SECONDS = 1.0
_LONGEST_REASON = 300


class Process:
    """A child's line to its supervisor."""

    def __init__(
        self, *, name: str, status: int | None, sockets: Mapping[str, socket.socket]
    ) -> None:
        self.name = name
        self.sockets = sockets
        self.stopping = threading.Event()
        """Set by SIGTERM or SIGINT: take nothing new, finish what was begun, end."""
        self._status = status
        self._lock = threading.Lock()
        self._told: tuple[str, str] | None = None

    def ready(self, lacking: str = "") -> None:
        """This process takes work.

        `lacking`: what it waits for meanwhile, shown on /readyz; it holds no patient data.
        """
        self._tell("ready", lacking[:_LONGEST_REASON])

    def not_ready(self, reason: str) -> None:
        """Something is away; `reason` is shown on /readyz and holds no patient data."""
        self._tell("not_ready", reason[:_LONGEST_REASON])

    def beat(self) -> None:
        """Called by a thread of ``attach``: this process still runs Python."""
        self._write({})

    def _tell(self, state: str, reason: str) -> None:
        if self._told != (state, reason):
            self._told = (state, reason)
            self._write({"state": state, "reason": reason})

    def _write(self, line: Mapping[str, str]) -> None:
        if self._status is None:
            return
        # A supervisor that has gone takes us with it: nobody is left to tell. A full pipe means
        # that it is stuck; a state is told again by the next beat.
        with self._lock, contextlib.suppress(BrokenPipeError, BlockingIOError):
            if not line and self._told:
                line = {"state": self._told[0], "reason": self._told[1]}
            os.write(self._status, json.dumps(line).encode() + b"\n")


def attach(service: str) -> Process:
    """Make this process a child of its supervisor: logs, signals, sockets, beats.

    Called first in the main thread of the child's ``main``, before any thread or connection.
    """
    # Modules stay to the end: passing over them again and again is most of a collection's work,
    # and was two thirds of the time of a search with many matches.
    gc.freeze()
    environ = os.environ
    name = environ.get(NAME, service)
    if PARENT in environ:
        die_with_parent()
    configure_logs(service, process=name)
    status = int(environ[STATUS]) if STATUS in environ else None
    process = Process(name=name, status=status, sockets=_inherited(environ.get(SOCKETS, "")))

    def stop(_number: int, _frame: object) -> None:
        process.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if status is not None:
        os.set_inheritable(status, False)
        os.set_blocking(status, False)
        threading.Thread(target=_beat, args=(process,), name="beat", daemon=True).start()
    return process


def _inherited(text: str) -> dict[str, socket.socket]:
    sockets = {}
    for pair in filter(None, text.split(",")):
        name, _, descriptor = pair.partition("=")
        sockets[name] = socket.socket(fileno=int(descriptor))
        sockets[name].set_inheritable(False)
    return sockets


def _beat(process: Process) -> None:
    # Beats go on while the process drains, which may take long and is no stall.
    never = threading.Event()
    while not never.wait(BEAT_SECONDS):
        process.beat()

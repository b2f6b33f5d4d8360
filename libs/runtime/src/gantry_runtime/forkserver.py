"""`python -m gantry_runtime.forkserver FD MODULE...`: imports modules once, forks what runs them.

One thread, no store, no connection: a fork of it is as good as a process of its own, is there at
once, and shares the memory of all that was imported. The supervisor speaks to it over the socket
FD (SOCK_SEQPACKET, one JSON object a message):

    {"fork": 3, "module": "gantry_query.http", "arguments": [], "environ": {}, "descriptors": []}
    {"signal": 9, "to": 3}

and is told

    {"forked": 3, "process_id": 4711}        {"ended": 3, "status": -9}

`descriptors` are the names of those that come with the message: the status pipe, then sockets. The
end of the socket ends all children.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gantry_runtime import process as attached
from gantry_runtime.entry import run
from gantry_runtime.lifeline import PARENT, die_with_parent

LONGEST_MESSAGE = 65536
MOST_DESCRIPTORS = 16
STATUS = "status"
"""The name of the descriptor of a child's status pipe."""

_ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class _Birth:
    """What a child has to run, and the descriptors that it was given."""

    module: str
    arguments: Sequence[str]
    environ: Mapping[str, str]
    descriptors: Mapping[str, int]


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}
        """Their process ids by the numbers that the supervisor gave them."""
        self._wake, self._sender = socket.socketpair()
        self._wake.setblocking(False)
        self._sender.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)

    def serve(self) -> _Birth | None:
        """Until the supervisor closes the socket; in each child: what it has to run."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._wake:
                        self._reap()
                        continue
                    message, descriptors, _, _ = socket.recv_fds(
                        self._control, LONGEST_MESSAGE, MOST_DESCRIPTORS
                    )
                    if not message:
                        self._end_all()
                        return None
                    birth = self._obey(json.loads(message), descriptors)
                    if birth is not None:
                        return birth

    def _obey(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> _Birth | None:
        if "signal" in order:
            # Reaped by this process alone: the number cannot have become another's.
            if (child := self._children.get(order["to"])) is not None:
                os.kill(child, order["signal"])
            return None
        child = os.fork()
        if child == 0:
            self._leave()
            return _Birth(
                order["module"],
                order["arguments"],
                order["environ"],
                dict(zip(order["descriptors"], descriptors, strict=True)),
            )
        for descriptor in descriptors:
            os.close(descriptor)
        self._children[order["fork"]] = child
        self._tell({"forked": order["fork"], "process_id": child})
        return None

    def _leave(self) -> None:
        """In a child: nothing of the server stays."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._wake, self._sender, self._control):
            end.close()

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass
        for number, child in list(self._children.items()):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                del self._children[number]
                self._tell({"ended": number, "status": os.waitstatus_to_exitcode(status)})

    def _end_all(self) -> None:
        for child in self._children.values():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _tell(self, message: Mapping[str, int]) -> None:
        # Of a supervisor that has gone the end is read next.
        with contextlib.suppress(BrokenPipeError):
            self._control.send(json.dumps(message).encode())


def main() -> int:
    """Import, fork, and in each child run its module's ``main``."""
    die_with_parent()
    # Who ends all processes at once (systemd) means the children, which finish what they began. And
    # what is sent to a child as soon as it is there waits until it can take it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    descriptor, *modules = sys.argv[1:]
    control = socket.socket(fileno=int(descriptor))
    control.set_inheritable(False)
    for module in modules:
        importlib.import_module(module)
    _forget_own_metrics()
    gc.collect()
    # Not looked at again, so that their memory stays shared.
    gc.freeze()
    birth = _Server(control).serve()
    return 0 if birth is None else _live(birth)


def _live(birth: _Birth) -> int:
    os.setsid()
    descriptors = dict(birth.descriptors)
    name = birth.environ.get(attached.NAME, birth.module)
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)  # what ps and top show
    os.environ |= birth.environ
    os.environ[PARENT] = str(os.getppid())
    os.environ[attached.STATUS] = str(descriptors.pop(STATUS))
    os.environ[attached.SOCKETS] = ",".join(f"{name}={fd}" for name, fd in descriptors.items())
    sys.argv = [birth.module, *birth.arguments]
    module = sys.modules[birth.module]
    _begin_metrics()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    return int(module.main() or 0)


def _forget_own_metrics() -> None:
    """What modules declared when they were imported counts nothing here."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is not None:
        for file in Path(folder).glob(f"*_{os.getpid()}.db"):
            file.unlink()


def _begin_metrics() -> None:
    """Have a file of this process for what its modules declared, all at 0."""
    metrics = sys.modules.get("gantry_runtime.metrics")
    if metrics is not None:
        for _ in metrics.REGISTRY.collect():
            pass


if __name__ == "__main__":
    sys.exit(run(main))

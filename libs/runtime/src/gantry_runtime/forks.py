"""A supervisor's side of its fork server: asks for children, hears of their ends, signals them."""

import contextlib
import json
import selectors
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

from gantry_runtime.forkserver import LONGEST_MESSAGE, STATUS
from gantry_runtime.logs import get_logger

log = get_logger(__name__)

_END_PATIENCE = 5.0


class Fork:
    """One child of the fork server, from the moment it was asked for."""

    def __init__(self, name: str, number: int, server: "ForkServer") -> None:
        self.name = name
        self.number = number
        self.status: int | None = None
        """How it ended: an exit status, or a signal's number as a negative one."""
        self._server = server

    def send_signal(self, number: int) -> None:
        """A signal, unless it has ended."""
        if self.status is None:
            self._server.send({"signal": int(number), "to": self.number})


class ForkServer:
    """Starts the server when the first child is asked for, and again should it end.

    Its children end with it. It is no thread's but that of the supervisor's loop.
    """

    def __init__(
        self,
        modules: Sequence[str],
        environ: Mapping[str, str],
        selector: selectors.BaseSelector,
    ) -> None:
        self._modules = tuple(modules)
        self._environ = environ
        self._selector = selector
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._forks: dict[int, Fork] = {}
        self._asked = 0

    def fork(
        self,
        name: str,
        *,
        module: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        status: int,
        sockets: Mapping[str, socket.socket],
    ) -> Fork:
        """Ask for a process that runs ``module.main()``; OSError if the server cannot be started.

        `status`: the end of a pipe that it writes to.
        """
        if self._control is None:
            self._start()
        self._asked += 1
        fork = self._forks[self._asked] = Fork(name, self._asked, self)
        descriptors = {STATUS: status} | {name: each.fileno() for name, each in sockets.items()}
        self.send(
            {
                "fork": fork.number,
                "module": module,
                "arguments": list(arguments),
                "environ": dict(environ),
                "descriptors": list(descriptors),
            },
            list(descriptors.values()),
        )
        return fork

    def send(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """Tell the server something; nothing if it has ended, for then so have its children."""
        if self._control is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._control, [json.dumps(message).encode()], list(descriptors))

    def close(self) -> None:
        """End the server and, at once, whatever child still runs."""
        if self._process is None:
            return
        self._disconnect()
        try:
            self._process.wait(_END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self) -> None:
        if self._process is not None:
            self._process.wait()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        command = [sys.executable, "-m", "gantry_runtime.forkserver", str(number), *self._modules]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(number,),
                    start_new_session=True,
                )
        except OSError:
            ours.close()
            raise
        self._control = ours
        self._selector.register(ours, selectors.EVENT_READ, self._hear)

    def _hear(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(LONGEST_MESSAGE)
        except ConnectionResetError:
            message = b""
        if not message:
            self._lost()
            return
        told = json.loads(message)
        if "forked" in told:
            name = self._forks[told["forked"]].name
            log.info("process_started", name=name, process_id=told["process_id"])
        else:
            self._forks.pop(told["ended"]).status = told["status"]

    def _lost(self) -> None:
        """The server has ended by itself, and its children with it."""
        assert self._process is not None
        self._disconnect()
        status = self._process.wait()
        log.error("fork_server_ended", status=status)
        for fork in self._forks.values():
            fork.status = status
        self._forks.clear()

    def _disconnect(self) -> None:
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None

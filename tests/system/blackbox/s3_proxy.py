"""Stands before an S3 server and fails as told: says it is busy, stands still, cuts in the middle.

It understands no more of HTTP than where a request's head ends and how long its body is.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

_BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: 43\r\n\r\n<Error><Code>SlowDown</Code>%s</Error>" % (b" " * 7)
)
_CHUNK = 65536


class Proxy:
    """Forwards connections to a port of this machine. A change of its manner ends all of them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._manner = "pass"
        self._cut_after = 0
        self._delay = 0.0
        self.faults = 0
        """How many connections were treated badly."""
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Every request is answered with 503."""
        with self._being("busy"):
            yield

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is answered at all."""
        with self._being("still"):
            yield

    @contextlib.contextmanager
    def cutting(self, after: int) -> Iterator[None]:
        """Each connection ends after so many bytes of requests."""
        self._cut_after = after
        with self._being("cut"):
            yield

    @contextlib.contextmanager
    def losing_answers(self) -> Iterator[None]:
        """What is written arrives and is done, and nobody hears of it."""
        with self._being("deaf"):
            yield

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Each piece of a request and of an answer takes so long."""
        self._delay = seconds
        with self._being("slow"):
            yield

    @contextlib.contextmanager
    def _being(self, manner: str) -> Iterator[None]:
        self._become(manner)
        try:
            yield
        finally:
            self._become("pass")

    def _become(self, manner: str) -> None:
        with self._lock:
            self._manner = manner
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends everything."""
        self._ended.set()
        self._become("still")
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(client.close)
            with self._lock:
                manner = self._manner
                self._open.add(client)
            stack.callback(self._forget, client)
            if manner != "pass":
                self.faults += 1
            with contextlib.suppress(OSError):
                if manner == "busy":
                    _read_request(client)
                    client.sendall(_BUSY)
                elif manner == "still":
                    while client.recv(_CHUNK):
                        pass
                else:
                    self._forward(client, manner, stack)

    def _forget(self, client: socket.socket) -> None:
        with self._lock:
            self._open.discard(client)

    def _forward(self, client: socket.socket, manner: str, stack: contextlib.ExitStack) -> None:
        server = socket.create_connection(("127.0.0.1", self._target))
        stack.callback(server.close)
        for connection in (client, server):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(
            target=self._copy, args=(server, client, manner, "answer"), daemon=True
        )
        back.start()
        self._copy(client, server, manner, "request")
        back.join()

    def _copy(self, source: socket.socket, target: socket.socket, manner: str, what: str) -> None:
        """Until one of them ends; then both do."""
        passed = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(_CHUNK):
                if manner == "slow":
                    self._ended.wait(self._delay)
                if manner == "deaf" and what == "answer":
                    break
                if manner == "cut" and what == "request":
                    piece = piece[: self._cut_after - passed]
                    if not piece:
                        break
                target.sendall(piece)
                passed += len(piece)
        for connection in (source, target):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


def _complete(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= _length(head)


def _read_request(client: socket.socket) -> None:
    request = b""
    while not _complete(request):
        piece = client.recv(_CHUNK)
        if not piece:
            return
        request += piece

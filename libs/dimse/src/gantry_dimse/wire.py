"""One connection to a peer: PDUs written scattered, read whole, neither side waiting for ever.

The socket does not block; `poll` waits for both directions at once, so that a peer that aborts
while it is being sent to is heard at once, and one that takes nothing is given up.
"""

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

from gantry_dimse.breaking_off import break_off
from gantry_dimse.pacing import Pacer
from gantry_dimse.pdu import A_ABORT, HEADER, PDU_TYPES
from gantry_dimse.peer_errors import (
    Interrupted,
    PeerAborted,
    PeerBrokeProtocol,
    PeerClosed,
    PeerTimedOut,
    Unreachable,
)

LARGEST_ANSWER = 1 << 20
"""Bytes of the largest PDU that we read: far above what we let a peer send."""

_READ = 1 << 16
_MOST_BUFFERS = 1024  # IOV_MAX of Linux


class PDU(NamedTuple):
    """A PDU as received: its type and what follows its header."""

    type: int
    body: bytes


class Wire:
    """A connected socket. Used by one thread; `interrupt` may be called by others."""

    def __init__(self, connection: socket.socket, *, timeout: float) -> None:
        """`timeout`: seconds that the peer may take nothing of what we send."""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = connection
        self._timeout = timeout
        self._both = select.poll()
        self._both.register(connection, select.POLLIN | select.POLLOUT)
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._received = bytearray()
        self._interrupted = False
        self._ended = False
        self.pacer: Pacer | None = None
        """How fast we may send; None: as fast as the peer takes it."""

    def send(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send all of the buffers. Raises an `AssociationLost`."""
        waiting = [memoryview(buffer) for buffer in buffers]
        first = 0
        while first < len(waiting):
            now = waiting[first : first + _MOST_BUFFERS]
            if self.pacer is not None:
                now = [now[0][: self.pacer.quantum]]
                self.pacer.wait(len(now[0]), lambda: self._interrupted)
            try:
                sent = self._write(now)
            except BlockingIOError:
                self._wait_until_writable()
                continue
            except OSError as error:
                raise self._lost(error) from error
            while first < len(waiting) and sent >= len(waiting[first]):
                sent -= len(waiting[first])
                first += 1
            if sent:
                waiting[first] = waiting[first][sent:]

    def receive(self, deadline: float, timeout: float, what: str) -> PDU:
        """The next PDU.

        :param deadline: of `time.monotonic()`.
        :param timeout: seconds from which the deadline was made, and `what` the peer was to do:
            for the text of `PeerTimedOut`.
        """
        while True:
            pdu = self._next_pdu()
            if pdu is not None:
                return pdu
            left = deadline - time.monotonic()
            # A peer that uses Nagle's algorithm sends the second half of its answer only when we
            # have acknowledged the first, which the kernel puts off by 40 ms (not sticky).
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if left <= 0 or not (self._more_at_hand or self._readable.poll(left * 1000)):
                raise PeerTimedOut(what, timeout)
            self._fill()

    def interrupt(self) -> None:
        """Make the thread that uses the connection fail with `Interrupted`."""
        self._interrupted = True
        break_off(self._socket)

    def send_if_possible(self, content: bytes) -> None:
        """Send a last word; a peer that does not take it at once does without."""
        with contextlib.suppress(OSError):
            self._socket.send(content)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    @property
    def _more_at_hand(self) -> bool:
        """Whether something was taken from the socket that nobody has read: only TLS does so."""
        return False

    def _write(self, buffers: Sequence[memoryview]) -> int:
        """Send some of it. Raises `BlockingIOError` where nothing more is taken now."""
        return self._socket.sendmsg(buffers)

    def _read(self, size: int) -> bytes:
        """What there is, empty at the end. Raises `BlockingIOError` where there is nothing."""
        return self._socket.recv(size)

    def _wait_until_writable(self) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            left = deadline - time.monotonic()
            events = self._both.poll(left * 1000) if left > 0 else []
            if not events:
                raise PeerTimedOut("take more data", self._timeout)
            mask = events[0][1]
            if mask & ~select.POLLOUT and not self._ended:
                self._fill()
                # An answer may come early and is read in its turn; an abort ends this at once.
                if self._received and self._received[0] == A_ABORT:
                    pdu = self._next_pdu()
                    if pdu is not None:
                        raise aborted(pdu)
                if len(self._received) > LARGEST_ANSWER:
                    raise PeerBrokeProtocol("it talks while it should listen")
            if mask & select.POLLOUT:
                return

    def _fill(self) -> None:
        try:
            data = self._read(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            self._ended = True
            raise Interrupted if self._interrupted else PeerClosed("the peer closed the connection")
        self._received += data

    def _next_pdu(self) -> PDU | None:
        if len(self._received) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(self._received)
        if kind not in PDU_TYPES:
            raise PeerBrokeProtocol("it does not speak DICOM")
        if length > LARGEST_ANSWER:
            raise PeerBrokeProtocol(f"a PDU of {length} bytes")
        end = HEADER.size + length
        if len(self._received) < end:
            return None
        body = bytes(self._received[HEADER.size : end])
        del self._received[:end]
        return PDU(kind, body)

    def _lost(self, error: OSError) -> Exception:
        """Why a system call failed: an A-ABORT that arrived before says more than the error."""
        if self._interrupted:
            return Interrupted()
        with contextlib.suppress(OSError):
            self._received += self._read(_READ)
        if self._received and self._received[0] == A_ABORT:
            pdu = self._next_pdu()
            if pdu is not None:
                return aborted(pdu)
        return PeerClosed(f"the connection broke: {error.strerror or type(error).__name__}")


def aborted(pdu: PDU) -> PeerAborted:
    """The failure that an A-ABORT PDU stands for (PS3.8 9.3.8)."""
    # Reserved, reserved, source, reason; a body that is too short says nothing.
    source, reason = (*pdu.body[2:4], 0, 0)[:2]
    return PeerAborted(source, reason)


def connect(host: str, port: int, *, timeout: float) -> socket.socket:
    """A connection to a peer. Raises `Unreachable`.

    :param timeout: seconds for each of the host's addresses; it stays that of the socket.
    """
    try:
        return socket.create_connection((host, port), timeout=timeout)
    except TimeoutError as error:
        raise Unreachable(f"{host}:{port}", f"no answer within {timeout:g} s") from error
    except OSError as error:
        raise Unreachable(f"{host}:{port}", error.strerror or type(error).__name__) from error

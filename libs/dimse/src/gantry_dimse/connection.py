"""A socket of a peer, tuned: blocking calls that wake up now and then, no Nagle, fast ACKs.

The time-outs are the kernel's (SO_RCVTIMEO), for Python's own cost one more system call per read.
"""

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct

_TIMEVAL = Struct("@ll")
_KEEPALIVE_IDLE = 60
_KEEPALIVE_INTERVAL = 15
_KEEPALIVE_PROBES = 4

# A peer that uses Nagle's algorithm waits with the end of a message for our ACK, which the
# kernel delays by 40 ms (TCP_DELACK_MIN). Two such waits show it; a peer without Nagle would
# lose up to a quarter of its rate by ACKs that it does not need.
_DELAYED_ACK = (0.025, 0.25)
_STALLS_BEFORE_QUICKACK = 2

_MOST_BUFFERS = 1024  # IOV_MAX of Linux

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 1 << 20


class ConnectionLost(Exception):
    """The peer closed the connection, or it broke, or the peer takes nothing any more."""


class Connection:
    """One accepted connection; used by one thread."""

    def __init__(self, sock: socket.socket, *, tick: float, send_timeout: float) -> None:
        """Take the socket over. `tick`: how long `receive_into` waits at most, in seconds."""
        self.socket = sock
        self._quickack = False
        self._stalls = 0
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(tick))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(send_timeout))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)

    def receive_into(self, view: memoryview, *, more_expected: bool) -> int:
        """Read what there is, at least a byte; 0 when nothing came for a tick.

        `more_expected`: the peer is in the middle of a message, so a pause may be Nagle's.
        Raises `ConnectionLost`.
        """
        if more_expected and self._quickack:
            # Not sticky: the kernel forgets it with the next answer.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        begun = time.monotonic() if more_expected and not self._quickack else 0.0
        try:
            received = self._read(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionLost(error.strerror or "broken") from error
        if not received:
            raise ConnectionLost("closed by the peer")
        if begun and _DELAYED_ACK[0] < time.monotonic() - begun < _DELAYED_ACK[1]:
            self._stalls += 1
            self._quickack = self._stalls >= _STALLS_BEFORE_QUICKACK
        return received

    def receive_now(self, view: memoryview) -> int:
        """Read what there is already; 0 when there is nothing. Raises `ConnectionLost`."""
        try:
            received = self._read_now(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionLost(error.strerror or "broken") from error
        if not received:
            raise ConnectionLost("closed by the peer")
        return received

    @property
    def more_at_hand(self) -> bool:
        """Whether something was taken from the socket that nobody has read: only TLS does so."""
        return False

    def break_off(self) -> None:
        """From any thread: whatever the connection is doing ends as if the peer had gone."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def end_sending(self) -> None:
        """Tell the peer that nothing more comes, and go on receiving. Raises `ConnectionLost`."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ConnectionLost(error.strerror or "broken") from error

    def block_for_ever(self) -> None:
        """No time-outs: pynetdicom polls before it reads."""
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, _timeval(0))

    def send(self, content: bytes | memoryview) -> None:
        """Send all of it. Raises `ConnectionLost`, also if the peer takes it too slowly."""
        try:
            self.socket.sendall(content)
        except OSError as error:
            raise ConnectionLost(error.strerror or "broken") from error

    def send_scattered(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send all of the buffers, without a copy. Raises `ConnectionLost`, as `send` does."""
        waiting = [memoryview(buffer) for buffer in buffers]
        first = 0
        try:
            while first < len(waiting):
                sent = self.socket.sendmsg(waiting[first : first + _MOST_BUFFERS])
                while first < len(waiting) and sent >= len(waiting[first]):
                    sent -= len(waiting[first])
                    first += 1
                if sent:
                    waiting[first] = waiting[first][sent:]
        except OSError as error:
            raise ConnectionLost(error.strerror or "broken") from error

    def close(self, farewell: bytes = b"") -> None:
        """Send `farewell`, wait briefly for the peer to close too, and close. Never raises.

        Without the wait what the peer still sends would destroy the farewell on its way.
        """
        with suppress(OSError):
            if farewell:
                self.socket.sendall(farewell)
            self.socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + _LINGER_SECONDS
            left = _LINGER_BYTES
            while left > 0 and time.monotonic() < deadline:
                try:
                    piece = self.socket.recv(64 * 1024)
                except BlockingIOError:
                    continue
                if not piece:
                    break
                left -= len(piece)
        self.socket.close()

    def _read(self, view: memoryview) -> int:
        """Raises `BlockingIOError` when nothing came for a tick."""
        return self.socket.recv_into(view)

    def _read_now(self, view: memoryview) -> int:
        """Raises `BlockingIOError` when there is nothing."""
        return self.socket.recv_into(view, 0, socket.MSG_DONTWAIT)


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return _TIMEVAL.pack(whole, int((seconds - whole) * 1_000_000))

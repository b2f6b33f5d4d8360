"""The listener of MLLP: a thread for each connection, and one answer after the other.

An engine sends its next message when the last one is answered, so what comes over one connection
is done in its order.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gantry_dimse.breaking_off import break_off
from gantry_dimse.tls import ServerTLS, TLSFailed, failure_reason
from gantry_domain.hl7.framing import Frame, Framer, NotMllp, framed
from gantry_runtime.logs import get_logger
from gantry_runtime.rarely import Rarely
from gantry_worklist import metrics

log = get_logger(__name__)

_TICK = 0.5
_PIECE = 256 * 1024

Answer = Callable[[Frame, str], Sequence[bytes] | None]
"""What a message from a host is answered with, which may be nothing; None: the connection is closed
without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpLimits:
    """Times in seconds, sizes in bytes."""

    max_connections: int
    max_message_size: int
    message_timeout: float
    idle_timeout: float
    send_timeout: float


class MllpServer:
    """Answers messages on a listening socket until it is closed."""

    def __init__(
        self,
        listener: socket.socket,
        answer: Answer,
        *,
        limits: MllpLimits,
        admits: Callable[[str], bool],
        tls: ServerTLS | None = None,
    ) -> None:
        """Take the listening socket over; `start` begins to accept. `tls`: over TLS alone."""
        self._listener = listener
        self._answer = answer
        self._limits = limits
        self._admits = admits
        self._tls = tls
        self._rarely = Rarely()
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="mllp-accept", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that the server listens on."""
        host, port, *_ = self._listener.getsockname()
        return host, port

    def start(self) -> None:
        """Begin to accept connections."""
        self._listener.settimeout(_TICK)
        self._thread.start()

    def drain(self, grace: float) -> bool:
        """Take nothing new, and answer what has come; whether all connections have ended."""
        self._leaving.set()
        self._thread.join()
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, grace)

    def close(self) -> None:
        """Break what is still connected, and close the listening socket."""
        self._leaving.set()
        self._thread.join()
        with self._changed:
            for sock in self._open:
                break_off(sock)
            self._changed.wait_for(lambda: not self._open, 5.0)
        self._listener.close()

    def _accept(self) -> None:
        while not self._leaving.is_set():
            try:
                sock, address = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # gone already, or descriptors are short: then a pause
                self._leaving.wait(_TICK)
                continue
            self._begin(sock, address[0])

    def _begin(self, sock: socket.socket, host: str) -> None:
        if not self._admits(host):
            self._fault(host, "not_admitted")
            sock.close()
            return
        with self._changed:
            full = len(self._open) >= self._limits.max_connections
            if not full:
                self._open.add(sock)
        if full:
            self._fault(host, "too_many")
            sock.close()
            return
        metrics.CONNECTIONS.inc()
        threading.Thread(
            target=self._serve, args=(sock, host), name=f"mllp {host}", daemon=True
        ).start()

    def _serve(self, sock: socket.socket, host: str) -> None:
        try:
            if self._tls is not None:
                sock = self._secured(sock, self._tls)
            self._converse(sock, host)
        except TLSFailed:
            self._fault(host, "tls")
        except OSError:
            pass  # gone, and what was not answered is sent again
        except NotMllp:
            self._fault(host, "not_mllp")
        # The door of the thread: whatever fails costs this connection alone.
        except Exception:
            metrics.HL7_FAILURES.inc()
            log.exception("hl7_connection_failed")
        finally:
            sock.close()
            metrics.CONNECTIONS.dec()
            with self._changed:
                self._open.discard(sock)
                self._changed.notify_all()

    def _secured(self, sock: socket.socket, tls: ServerTLS) -> socket.socket:
        """The same connection after the handshake. Raises `TLSFailed`."""
        secured = tls.context().wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        with self._changed:
            self._open.discard(sock)
            self._open.add(secured)
        try:
            secured.settimeout(self._limits.message_timeout)
            secured.do_handshake()
        except (OSError, ValueError) as error:
            with self._changed:
                self._open.discard(secured)
            secured.close()
            reason = failure_reason(error)
            raise TLSFailed(reason) from error
        return secured

    def _converse(self, sock: socket.socket, host: str) -> None:
        limits = self._limits
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        framer = Framer(limits.max_message_size)
        quiet_since = begun = time.monotonic()
        while framer.within or not self._leaving.is_set():
            sock.settimeout(_TICK)
            try:
                piece = sock.recv(_PIECE)
            except TimeoutError:
                piece = None
            now = time.monotonic()
            if framer.within and now - begun > limits.message_timeout:
                self._fault(host, "too_slow")
                return
            if piece is None:
                if not framer.within and now - quiet_since > limits.idle_timeout:
                    self._fault(host, "idle")
                    return
                continue
            if not piece:
                return
            if not framer.within:
                begun = now
            for frame in framer.feed(piece):
                answers = self._answer(frame, host)
                if answers is None:
                    return
                sock.settimeout(limits.send_timeout)
                for answer in answers:
                    sock.sendall(framed(answer))
                begun = time.monotonic()
            quiet_since = time.monotonic()

    def _fault(self, host: str, fault: str) -> None:
        metrics.FAULTED.labels(fault).inc()
        left_out = self._rarely.due(host, fault)
        if left_out is not None:
            log.warning("hl7_connection_closed", host=host, reason=fault, left_out=left_out)

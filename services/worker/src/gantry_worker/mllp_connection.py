"""A connection to a receiver of HL7: a message, its acknowledgement, the next (MLLP, release 1)."""

import socket
import time

from gantry_dimse.breaking_off import break_off
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import (
    Interrupted,
    PeerBrokeProtocol,
    PeerClosed,
    PeerTimedOut,
    Unreachable,
)
from gantry_dimse.tls import TLSFailed
from gantry_dimse.wire import connect
from gantry_domain.hl7.framing import Framer, NotMllp, framed

_LARGEST_ANSWER = 1 << 20
_READ = 1 << 16


class MllpConnection:
    """Used by one thread; `interrupt` may be called by others."""

    def __init__(self, host: str, port: int, *, timeout: float, tls: OutgoingTLS | None) -> None:
        """`timeout` in seconds, for the connection and for each answer. Connects when needed."""
        self._host = host
        self._port = port
        self._timeout = timeout
        self._tls = tls
        self._socket: socket.socket | None = None
        self._interrupted = False

    def ask(self, message: bytes) -> bytes:
        """Send a message; its acknowledgement, without its frame.

        Raises `Unreachable` or an `AssociationLost`; the connection is of no more use then.
        """
        connection = self._socket or self._connected()
        try:
            connection.settimeout(self._timeout)
            connection.sendall(framed(message))
            return self._answer(connection)
        except TimeoutError as error:
            raise self._ended(PeerTimedOut("answer", self._timeout)) from error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise self._ended(PeerClosed(f"the connection broke: {reason}")) from error
        except (PeerBrokeProtocol, PeerClosed, PeerTimedOut) as error:
            raise self._ended(error) from error

    def interrupt(self) -> None:
        """The thread that uses the connection fails with `Interrupted`, now and from then on."""
        self._interrupted = True
        connection = self._socket
        if connection is not None:
            break_off(connection)

    def close(self) -> None:
        """Close the connection; the next message makes another."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _connected(self) -> socket.socket:
        connection = connect(self._host, self._port, timeout=self._timeout)
        if self._tls is not None:
            try:
                secured = self._tls.secured(connection, self._host)
            except TLSFailed as error:
                where = f"{self._host}:{self._port}"
                raise Unreachable(where, f"TLS failed: {error}") from error
            finally:
                connection.close()  # whose socket is another object by now, or was no use
            connection = secured
        self._socket = connection
        if self._interrupted:
            raise Interrupted
        return connection

    def _answer(self, connection: socket.socket) -> bytes:
        deadline = time.monotonic() + self._timeout
        framer = Framer(_LARGEST_ANSWER)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise PeerTimedOut("answer", self._timeout)
            connection.settimeout(left)
            piece = connection.recv(_READ)
            if not piece:
                raise PeerClosed("the peer closed the connection without an answer")
            try:
                for frame in framer.feed(piece):
                    if frame.too_large:
                        raise PeerBrokeProtocol("an answer without end")
                    return frame.content
            except NotMllp as error:
                raise PeerBrokeProtocol("it does not speak MLLP") from error

    def _ended(self, error: Exception) -> Exception:
        self.close()
        return Interrupted() if self._interrupted else error

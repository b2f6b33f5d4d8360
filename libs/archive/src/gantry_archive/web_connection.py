"""One HTTP connection to a partner's DICOMweb server: requests that stream, answers that are small.

Neither side waits for ever: each has its time to connect, to take the next piece, and to answer as
a whole. The connection is used again for as long as the server keeps it open.
"""

import contextlib
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import h11

from gantry_dimse.breaking_off import break_off
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.pacing import Pacer
from gantry_dimse.peer_errors import (
    AssociationLost,
    Interrupted,
    PeerBrokeProtocol,
    PeerClosed,
    PeerTimedOut,
    Unreachable,
)
from gantry_dimse.requesting import Timeouts
from gantry_dimse.tls import TLSFailed
from gantry_dimse.wire import connect
from gantry_domain.file_meta import IMPLEMENTATION_VERSION_NAME

_LARGEST_ANSWER = 16 << 20
_READ = 1 << 16
# So little that the peer has time to take it, and a pause or a stop is heard of soon.
_PIECE = 1 << 16
_LONGEST_WAIT = timedelta(hours=1)
_CLIENT_ERROR = 400  # and what is above, RFC 9110 15.5

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """An answer as a whole. `retry_after`: for so long the server wants to hear nothing."""

    status: int
    content_type: str
    body: bytes
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPlace:
    """Where a DICOMweb server is, and who we are to it.

    `base`: what its URLs begin with. `authorization`: the header of that name, with its secret.
    `accept`: what it may answer with.
    """

    base: str
    authorization: str | None
    tls: OutgoingTLS
    accept: str = "application/dicom+json"


class WebConnection:
    """Used by one thread; `interrupt` may be called by others."""

    def __init__(self, place: WebPlace, *, timeouts: Timeouts, pacer: Pacer | None = None) -> None:
        """Connects with the first request."""
        parts = urlsplit(place.base)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._path = parts.path
        self._authority = parts.netloc
        self._authorization = place.authorization
        self._accept = place.accept
        self._tls = place.tls
        self._timeouts = timeouts
        self._pacer = pacer
        self._socket: socket.socket | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._interrupted = False

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[Header] = (),
        body: Iterable[bytes] | None = None,
        size: int | None = None,
    ) -> WebAnswer:
        """One request and its answer. `size` of the body, where it is known before.

        Raises `Unreachable` or an `AssociationLost`, and whatever `body` does: then nothing of it
        counts for the server, for the connection ends before the request does.
        """
        sent = list(headers)
        if body is not None:
            sent.append(
                ("Transfer-Encoding", "chunked") if size is None else ("Content-Length", str(size))
            )
        connection = self._connected()
        try:
            self._send(connection, self._head(method, path, sent))
            answer = self._send_body(connection, body)
            if answer is None:
                answer = self._answer(connection)
        except BaseException:  # half of a request is no connection for the next
            self.close()
            raise
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()
        return answer

    def interrupt(self) -> None:
        """Make the thread that uses the connection fail with `Interrupted`."""
        self._interrupted = True
        connection = self._socket
        if connection is not None:
            break_off(connection)

    def close(self) -> None:
        """Close the connection; the next request makes another."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _connected(self) -> socket.socket:
        if self._socket is not None and _has_ended(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
            self._http = h11.Connection(h11.CLIENT)
        if self._interrupted:
            raise Interrupted
        return self._socket

    def _connect(self) -> socket.socket:
        connection = connect(self._host, self._port, timeout=self._timeouts.connect)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self._secure:
            return connection
        try:
            return self._tls.secured(connection, self._host)
        except TLSFailed as error:
            where = f"{self._host}:{self._port}"
            raise Unreachable(where, f"TLS failed: {error}") from error
        finally:
            connection.close()  # whose socket is another object by now, or was no use

    def _head(self, method: str, path: str, headers: Sequence[Header]) -> bytes | None:
        common = [
            ("Host", self._authority),
            ("User-Agent", IMPLEMENTATION_VERSION_NAME),
            ("Accept", self._accept),
        ]
        if self._authorization is not None:
            common.append(("Authorization", self._authorization))
        request = h11.Request(
            method=method, target=f"{self._path}{path}", headers=[*common, *headers]
        )
        return self._http.send(request)

    def _send_body(
        self, connection: socket.socket, body: Iterable[bytes] | None
    ) -> WebAnswer | None:
        """Send the rest of the request; the answer, where it came before all was taken."""
        try:
            for piece in _pieces(body or (), self._piece_size()):
                if self._pacer is not None:
                    self._pacer.wait(len(piece), lambda: self._interrupted)
                self._send(connection, self._http.send(h11.Data(data=piece)))
            self._send(connection, self._http.send(h11.EndOfMessage()))
        except PeerClosed:
            # Who refuses a request, for its size say, may do so before all of it is there.
            with contextlib.suppress(AssociationLost):
                early = self._answer(connection)
                if early.status >= _CLIENT_ERROR:
                    return early
            raise
        return None

    def _piece_size(self) -> int:
        return _PIECE if self._pacer is None else min(_PIECE, self._pacer.quantum)

    def _send(self, connection: socket.socket, piece: bytes | None) -> None:
        if not piece:
            return
        seconds = self._timeouts.network
        connection.settimeout(seconds)
        try:
            connection.sendall(piece)
        except TimeoutError as error:
            raise self._ended(PeerTimedOut("take more data", seconds)) from error
        except OSError as error:
            raise self._ended(PeerClosed(_broke(error))) from error

    def _answer(self, connection: socket.socket) -> WebAnswer:
        deadline = time.monotonic() + self._timeouts.dimse
        response: h11.Response | None = None
        content = bytearray()
        try:
            while True:
                match self._http.next_event():
                    case h11.NEED_DATA:
                        self._http.receive_data(self._receive(connection, deadline))
                    case h11.Response() as response:
                        pass
                    case h11.Data(data=data):
                        content += data
                        if len(content) > _LARGEST_ANSWER:
                            raise PeerBrokeProtocol("an answer without end")
                    case h11.InformationalResponse():
                        pass
                    case h11.EndOfMessage():
                        break
                    case event:
                        raise PeerBrokeProtocol(f"{type(event).__name__} instead of an answer")
        except h11.RemoteProtocolError as error:
            if self._interrupted:
                raise Interrupted from error
            raise PeerBrokeProtocol("it does not speak HTTP/1.1") from error
        assert response is not None
        found = {name.decode("ascii"): value.decode("latin-1") for name, value in response.headers}
        return WebAnswer(
            response.status_code,
            found.get("content-type", ""),
            bytes(content),
            read_retry_after(found.get("retry-after"), now=datetime.now(UTC)),
        )

    def _receive(self, connection: socket.socket, deadline: float) -> bytes:
        seconds = self._timeouts.dimse
        left = deadline - time.monotonic()
        late = PeerTimedOut("answer", seconds)
        if left <= 0:
            raise self._ended(late)
        connection.settimeout(left)
        try:
            content = connection.recv(_READ)
        except TimeoutError as error:
            raise self._ended(late) from error
        except OSError as error:
            raise self._ended(PeerClosed(_broke(error))) from error
        if not content and self._http.their_state is h11.SEND_RESPONSE:
            raise self._ended(PeerClosed("the peer closed the connection without an answer"))
        return content

    def _ended(self, error: PeerClosed | PeerTimedOut) -> Exception:
        return Interrupted() if self._interrupted else error


def read_retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """How long to wait (RFC 9110 10.2.3), at most an hour; None where nothing is said of it."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        wait = timedelta(seconds=int(value[:9]))
    else:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta()), _LONGEST_WAIT)


def _pieces(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


def _has_ended(connection: socket.socket) -> bool:
    """Whether the server closed it while nothing was asked, or said what nobody asked for."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _broke(error: OSError) -> str:
    return f"the connection broke: {error.strerror or type(error).__name__}"

"""The front door: an association that is for another of our services is passed on to it.

Devices often know one host and one port for all that a PACS does. The classes that a request
proposes say whom it is for; then its bytes go to that service as they came, after a header that
names the caller, and whatever follows goes to and fro until one side closes.
"""

import selectors
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass

from gantry_dimse.connection import Connection, ConnectionLost
from gantry_dimse.handover import Handover
from gantry_dimse.limits import Departure
from gantry_dimse.observer import Peer
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.statuses import SERVICE_AWAY, Rejection

_CONNECT_TIMEOUT = 5.0
_TICK = 1.0
_PIECE = 256 * 1024
# While we drain, an association on which so long nothing passes is not waited for.
_QUIET = 5.0
# How long a service may go on to answer a caller that has closed.
_LAST_WORDS = 2.0


@dataclass(frozen=True, slots=True)
class Onward:
    """Another of our services, and where it listens."""

    service: str
    host: str
    port: int


class FrontDoor:
    """Knows which associations are for others, and passes them on."""

    def __init__(
        self,
        routes: Mapping[str, Onward],
        *,
        takes_storage: frozenset[str],
        handover: Handover,
        send_timeout: float,
        passed_on: Callable[[Peer, str], None],
    ) -> None:
        """`routes` by SOP class. `passed_on` is told of each association and its service.

        A request that proposes other classes too, as those of images, stays here, unless one of
        `takes_storage` is among them: who retrieves by C-GET proposes to take images.
        """
        self._routes = routes
        self._takes_storage = takes_storage
        self._handover = handover
        self._send_timeout = send_timeout
        self._passed_on = passed_on

    def destination(self, proposed: frozenset[str]) -> Onward | None:
        """The service that a request with these abstract syntaxes is for; None: ours."""
        theirs = proposed & self._routes.keys()
        if not theirs:
            return None
        if proposed - theirs - {VERIFICATION} and not proposed & self._takes_storage:
            return None
        # Of several services the first: no device has been seen to ask two over one association.
        return self._routes[min(theirs)]

    def pass_on(
        self,
        connection: Connection,
        request: bytes,
        peer: Peer,
        onward: Onward,
        *,
        departure: Departure,
    ) -> Rejection | None:
        """Serve the association by that service, to its end; a rejection where it cannot be had."""
        try:
            sock = socket.create_connection((onward.host, onward.port), _CONNECT_TIMEOUT)
        except OSError:
            return SERVICE_AWAY
        there = Connection(sock, tick=_TICK, send_timeout=self._send_timeout)
        with closing(there):
            try:
                there.send(self._handover.encode(peer) + request)
            except ConnectionLost:
                return SERVICE_AWAY
            self._passed_on(peer, onward.service)
            _to_and_fro(connection, there, departure)
        return None


def _to_and_fro(caller: Connection, service: Connection, departure: Departure) -> None:
    """Until the service closes, or we have to go; a caller that closes may still be answered."""
    view = memoryview(bytearray(_PIECE))
    last, end = time.monotonic(), float("inf")
    with selectors.DefaultSelector() as selector, suppress(ConnectionLost):
        selector.register(caller.socket, selectors.EVENT_READ, (caller, service))
        selector.register(service.socket, selectors.EVENT_READ, (service, caller))
        while time.monotonic() < end:
            ready = selector.select(_TICK)
            now = time.monotonic()
            last = now if ready else last
            if departure.begun and (now > departure.deadline or now > last + _QUIET):
                return
            for key, _events in ready:
                source, sink = key.data
                try:
                    _move(source, sink, view)
                except ConnectionLost:
                    if source is service:
                        return
                    selector.unregister(caller.socket)
                    service.end_sending()
                    end = now + _LAST_WORDS


def _move(source: Connection, sink: Connection, view: memoryview) -> None:
    while size := source.receive_now(view):
        sink.send(view[:size])
        if not source.more_at_hand:
            return

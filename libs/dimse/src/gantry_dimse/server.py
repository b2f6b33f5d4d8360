"""Accepts connections and serves each in one thread: request, negotiation, messages, farewell.

Several processes may accept from one listening socket. A process that serves many associations
then hesitates a moment before it takes the next, so that one with fewer comes first.
"""

import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Any

from pynetdicom.association import Association

from gantry_dimse.connection import Connection, ConnectionLost
from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.conversation import Farewell, converse
from gantry_dimse.front_door import FrontDoor, Onward
from gantry_dimse.handover import Handover
from gantry_dimse.limits import Departure, ServerLimits, Terms
from gantry_dimse.messages import MessageService
from gantry_dimse.negotiation import (
    APPLICATION_CONTEXT,
    Negotiated,
    application_entity,
    negotiate,
    serve_with_pynetdicom,
)
from gantry_dimse.observer import Ending, Fault, Observer, Peer, PeerCertificate
from gantry_dimse.open_connections import OpenConnections
from gantry_dimse.operations import Operation, OperationKey
from gantry_dimse.partners import within
from gantry_dimse.pdu import SERVICE_PROVIDER, SERVICE_USER, encode_abort, encode_reject
from gantry_dimse.proxy_header import read_proxy_header
from gantry_dimse.request import (
    AssociateRequest,
    NoRequest,
    UnparseableRequest,
    parse_request,
    read_request,
)
from gantry_dimse.slots import Slots, claims_of
from gantry_dimse.storage import StorageHandler
from gantry_dimse.tls import ServerTLS, TLSConnection, TLSFailed
from gantry_dimse.user_identity import UserIdentities
from gantry_domain.statuses import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    TEMPORARY_CONGESTION,
    UNPARSEABLE_REQUEST,
    USER_IDENTITY_NOT_VERIFIED,
    Rejection,
)

_TICK = 1.0
_HESITATION = 0.001
_LONGEST_HESITATION = 0.02


def _admit_all(_peer: Peer) -> Rejection | None:
    return None


def _never_congested(_associations: int) -> bool:
    return False


def _alike(_peer: Peer) -> Terms:
    return Terms()


def _serve_all_here(_negotiated: Negotiated) -> bool:
    return False


class DimseServer:
    """Serves associations on a listening socket until it is closed."""

    def __init__(
        self,
        *,
        listener: socket.socket,
        ae_title: str,
        limits: ServerLimits,
        supported: SupportedContexts,
        observer: Observer,
        storage: StorageHandler | None = None,
        operations: Mapping[OperationKey, Operation] = MappingProxyType({}),
        slots: Slots | None = None,
        admit: Callable[[Peer], Rejection | None] = _admit_all,
        terms: Callable[[Peer], Terms] = _alike,
        shares_listener: bool = False,
        handlers: Iterable[tuple[Any, ...]] = (),
        taken_by_pynetdicom: Callable[[Negotiated], bool] = _serve_all_here,
        tls_listener: socket.socket | None = None,
        tls: ServerTLS | None = None,
        proxies: Sequence[IPv4Network | IPv6Network] = (),
        identities: UserIdentities | None = None,
        congested: Callable[[int], bool] = _never_congested,
        extended: Mapping[str, bytes] = MappingProxyType({}),
        front_door: FrontDoor | None = None,
        handover: Handover | None = None,
    ) -> None:
        """Take the listening sockets over; `start` begins to accept.

        Connections to `tls_listener` begin with a handshake of `tls`, and those from `proxies`
        with a header of the PROXY protocol that says who calls. `identities` are the users that
        are accepted; None: any. `congested` says, given how many associations are established here,
        whether to turn others away for a while.

        `operations` are answered in the presentation contexts of their SOP classes, which
        `supported` has to have; without `storage` nothing is stored. `admit` decides on titles and
        addresses before anything else is looked at; `terms` are what the caller then gets. `slots`
        limits the associations. `front_door` passes on those that are for other services, and
        `handover` says who calls where one passes them on to us. `extended` are the options of SOP
        classes, see `negotiate`. `taken_by_pynetdicom` names those whose messages pynetdicom's
        service classes serve, with the event `handlers` given here.
        """
        self._listener = listener
        self._limits = limits
        self._supported = supported
        self._storage = storage
        self._operations = operations
        self._observer = observer
        self._slots = slots
        self._admit = admit
        self._terms = terms
        self._shares_listener = shares_listener
        self._handlers = tuple(handlers)
        self._taken_by_pynetdicom = taken_by_pynetdicom
        self._tls_listener = tls_listener
        self._tls = tls
        self._proxies = proxies
        self._identities = identities
        self._congested = congested
        self._extended = extended
        self._front_door = front_door
        self._handover = handover
        self._ae = application_entity(ae_title, limits)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._changed = threading.Condition()
        self._connections = OpenConnections(
            most=limits.max_connections, most_pending_of_host=limits.max_pending_per_host
        )
        self._associations: dict[Connection, Association | None] = {}
        self._departure = Departure()
        self._thread = threading.Thread(target=self._accept, name="dimse-accept", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that the server listens on without TLS."""
        host, port, *_ = self._listener.getsockname()
        return host, port

    @property
    def active(self) -> int:
        """How many associations are established."""
        return len(self._associations)

    def start(self) -> None:
        """Begin to accept connections."""
        for listener in self._listeners:
            listener.setblocking(False)
        self._thread.start()

    def drain(self, grace: float) -> bool:
        """Let the running associations go on for at most `grace` seconds, admitting no new ones.

        New requests are rejected as temporary congestion. An association that is quiet between
        messages is aborted early, one that still sends at the deadline after the response in
        hand. Returns whether all associations have ended.
        """
        with self._changed:
            self._departure.begin(grace)
            # The last answers need a moment of their own.
            return self._changed.wait_for(lambda: not self._associations, grace + 2 * _TICK)

    def close(self) -> None:
        """Stop accepting, break what is still connected, and close the listening socket."""
        with suppress(OSError):
            self._wake_sender.send(b"\0")
        if self._thread.ident is not None:
            self._thread.join()
        with self._changed:
            self._departure.begin(0)
        self._connections.break_off(patience=5.0)
        for sock in (*self._listeners, self._wake_receiver, self._wake_sender):
            sock.close()

    @property
    def _listeners(self) -> list[socket.socket]:
        return [each for each in (self._listener, self._tls_listener) if each is not None]

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            selector.register(self._wake_receiver, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _events in selector.select()}
                if self._wake_receiver in ready:
                    return
                if self._shares_listener and self._associations:
                    self._wake_receiver.settimeout(
                        min(len(self._associations) * _HESITATION, _LONGEST_HESITATION)
                    )
                    with suppress(TimeoutError):
                        self._wake_receiver.recv(1, socket.MSG_PEEK)
                for listener in self._listeners:
                    if listener in ready:
                        self._accept_from(listener)

    def _accept_from(self, listener: socket.socket) -> None:
        try:
            sock, _address = listener.accept()
        except BlockingIOError:
            return  # Another process was faster.
        except OSError:
            # The connection is gone already, or descriptors are short: then a pause.
            self._wake_receiver.settimeout(_LONGEST_HESITATION)
            with suppress(TimeoutError):
                self._wake_receiver.recv(1, socket.MSG_PEEK)
            return
        self._begin(sock, TLSConnection if listener is self._tls_listener else Connection)

    def _begin(self, sock: socket.socket, kind: type[Connection]) -> None:
        try:
            host = sock.getpeername()[0]
            connection = kind(sock, tick=_TICK, send_timeout=self._limits.send_timeout)
        except OSError:
            sock.close()
            return
        too_many = self._connections.add(connection, None if within(host, self._proxies) else host)
        if too_many:
            sock.close()
            self._observer.faulted(host, Fault.TOO_MANY, too_many)
            return
        threading.Thread(
            target=self._serve, args=(connection, host), name=f"dimse {host}", daemon=True
        ).start()

    def _serve(self, connection: Connection, host: str) -> None:
        farewell = b""
        try:
            farewell = self._serve_connection(connection, host)
        # The door of the thread: whatever fails costs this association alone, and is told.
        except Exception as error:  # noqa: BLE001
            self._observer.failed(error)
            farewell = encode_abort(SERVICE_PROVIDER)
        finally:
            connection.close(farewell)
            self._connections.remove(connection)

    def _serve_connection(self, connection: Connection, host: str) -> bytes:
        """Serve a connection to its end; return what to send before it is closed."""
        certificate: PeerCertificate | None = None
        timeout = self._limits.acse_timeout
        try:
            if within(host, self._proxies):
                host = read_proxy_header(connection, timeout=timeout) or host
            if isinstance(connection, TLSConnection):
                assert self._tls is not None
                certificate = connection.handshake(self._tls, timeout=timeout)
            elif self._handover is not None:
                handed = self._handover.read(connection, timeout=timeout)
                host, certificate = handed or (host, None)
            encoded = read_request(connection, timeout=timeout)
        except TLSFailed as reason:
            self._observer.faulted(host, Fault.TLS, str(reason))
            return b""
        except NoRequest as reason:
            self._observer.faulted(host, reason.fault)
            # PS3.8 9.2, AA-1: whatever comes instead of a request is answered with an A-ABORT.
            return encode_abort(SERVICE_USER) if reason.fault is Fault.NOT_DICOM else b""
        self._connections.requested(connection)
        try:
            request = parse_request(encoded)
        except UnparseableRequest:
            return self._reject(Peer("", "", host), UNPARSEABLE_REQUEST)
        peer = Peer(request.calling_ae, request.called_ae, host, certificate)
        if self._front_door is not None:
            onward = self._front_door.destination(request.abstract_syntaxes)
            if onward is not None:
                return self._pass_on(self._front_door, connection, encoded, peer, onward)
        rejection = self._refusal(request, peer)
        if rejection is not None:
            return self._reject(peer, rejection)
        terms = self._terms(peer)
        if self._slots is None:
            return self._establish(connection, request, peer, terms)
        slot = self._slots.take(claims_of(peer, terms))
        if slot is None:
            return self._reject(peer, LOCAL_LIMIT_EXCEEDED)
        try:
            return self._establish(connection, request, peer, terms)
        finally:
            slot.release()

    def _pass_on(
        self, door: FrontDoor, connection: Connection, encoded: bytes, peer: Peer, onward: Onward
    ) -> bytes:
        if self._departure.begun:
            return self._reject(peer, TEMPORARY_CONGESTION)
        with self._changed:
            self._associations[connection] = None
        try:
            rejection = door.pass_on(connection, encoded, peer, onward, departure=self._departure)
        finally:
            with self._changed:
                del self._associations[connection]
                self._changed.notify_all()
        return b"" if rejection is None else self._reject(peer, rejection)

    def _refusal(self, request: AssociateRequest, peer: Peer) -> Rejection | None:
        if self._departure.begun or self._congested(self.active):
            return TEMPORARY_CONGESTION
        if not request.protocol_version & 1:  # PS3.8 Table 9-11: the other bits are not tested
            return PROTOCOL_VERSION_NOT_SUPPORTED
        if request.application_context != APPLICATION_CONTEXT:
            return APPLICATION_CONTEXT_NOT_SUPPORTED
        rejection = self._admit(peer)
        if rejection is None and self._identities is not None:
            verified = self._identities.accepts(request.user_identity)
            rejection = None if verified else USER_IDENTITY_NOT_VERIFIED
        return rejection

    def _reject(self, peer: Peer, rejection: Rejection) -> bytes:
        self._observer.rejected(peer, rejection)
        return encode_reject(rejection.result, rejection.source, rejection.reason)

    def _establish(
        self, connection: Connection, request: AssociateRequest, peer: Peer, terms: Terms
    ) -> bytes:
        try:
            negotiated = negotiate(
                request,
                ae=self._ae,
                supported=self._supported,
                sock=connection.socket,
                handlers=self._handlers,
                transfer_syntaxes=terms.transfer_syntaxes,
                storage_classes=terms.storage_classes,
                extended=self._extended,
            )
        except UnparseableRequest:
            return self._reject(peer, UNPARSEABLE_REQUEST)
        if not negotiated.accepted:
            result, source, reason = negotiated.response[-3:]
            self._observer.rejected(peer, Rejection(result, source, reason, "negotiation"))
            return negotiated.response
        with self._changed:
            self._associations[connection] = negotiated.assoc
        self._observer.established(peer)
        farewell = Farewell(Ending.FAILED)
        try:
            connection.send(negotiated.response)
            if self._taken_by_pynetdicom(negotiated):
                farewell = _hand_over(connection, negotiated.assoc)
            else:
                farewell = self._converse(connection, negotiated, peer, terms)
        except ConnectionLost as error:
            farewell = Farewell(Ending.LOST, str(error))
        finally:
            with self._changed:
                del self._associations[connection]
                self._changed.notify_all()
            self._observer.ended(peer, farewell.ending, farewell.detail)
        return farewell.pdu

    def _converse(
        self, connection: Connection, negotiated: Negotiated, peer: Peer, terms: Terms
    ) -> Farewell:
        messages = MessageService(
            peer=peer,
            contexts=negotiated.contexts,
            storage_classes=self._supported.stored(terms.storage_classes),
            storage=self._storage,
            operations=self._operations,
            peer_max_pdu=_shorter(negotiated.peer_max_pdu, self._limits.max_pdu_sent),
            send=connection.send,
            send_scattered=connection.send_scattered,
        )
        return converse(connection, messages, limits=self._limits, departure=self._departure)


def _shorter(peer_max_pdu: int, ours: int) -> int:
    """What we send at most; 0 is unlimited."""
    return min(filter(None, (peer_max_pdu, ours)), default=0)


def _hand_over(connection: Connection, assoc: Association) -> Farewell:
    """Let pynetdicom serve an established association on its socket."""
    connection.block_for_ever()
    serve_with_pynetdicom(assoc)
    if assoc.is_released:
        return Farewell(Ending.RELEASED)
    return Farewell(Ending.PEER_ABORTED if assoc.is_aborted else Ending.LOST)

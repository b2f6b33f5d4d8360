"""Open an association as its requestor: pynetdicom's PDUs and rules on a connection of our own.

pynetdicom's own requestor runs two threads that poll for messages (2 to 3 ms
per message); one A-ASSOCIATE-RQ and its answer need neither.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_requestor

from gantry_dimse import pdu
from gantry_dimse.outgoing_tls import OutgoingTLS, TLSWire
from gantry_dimse.peer_errors import (
    NoAcceptedContext,
    PeerBrokeProtocol,
    Unreachable,
    association_rejected,
)
from gantry_dimse.proposals import (
    MOST_CONTEXTS,
    NegotiatedContext,
    NegotiatedContexts,
    ProposedContext,
)
from gantry_dimse.tls import TLSFailed
from gantry_dimse.wire import PDU, Wire, aborted, connect
from gantry_domain.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 Annex A.2.1
_SHORTEST_ACCEPTANCE = 68  # its fixed fields, PS3.8 9.3.3
_ACCEPTED = 0x00  # PS3.8 Table 9-18
OUR_MAXIMUM = 1 << 16  # bytes of a PDU; a sender receives nothing but answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds that a peer may take: to let us connect, to answer the association request (and a
    release), to answer a message, to take more of what is sent."""

    connect: float = 10.0
    acse: float = 30.0
    dimse: float = 60.0
    network: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """An open association: the connection, what was agreed on, the peer's largest PDU (bytes; 0:
    it has no limit), and how many requests may wait for their answers at once."""

    wire: Wire
    contexts: NegotiatedContexts
    peer_maximum: int
    window: int = 1


def request_association(
    *,
    host: str,
    port: int,
    calling_ae: str,
    called_ae: str,
    contexts: Sequence[ProposedContext],
    timeouts: Timeouts,
    tls: OutgoingTLS | None = None,
    window: int = 1,
) -> Requested:
    """Connect and negotiate (PS3.8 7.1), over TLS where it is given.

    `window`: how many requests may wait for their answers at once, if the peer agrees.

    Raises `Unreachable`, `RejectedPermanently`, `RejectedForNow`, `NoAcceptedContext` or an
    `AssociationLost`; the connection is closed then.
    """
    proposed = _presentation_contexts(contexts)
    as_scp = dict.fromkeys(each.SOPClassUID for each in contexts if each.as_scp)
    request = _encode_request(calling_ae, called_ae, proposed, window, as_scp)
    connection = _connect(host, port, timeouts, tls)
    try:
        connection.send([request])
        deadline = time.monotonic() + timeouts.acse
        answer = connection.receive(deadline, timeouts.acse, "answer the association request")
        match answer.type:
            case pdu.A_ASSOCIATE_AC:
                requested = _accepted(connection, proposed, answer, window)
            case pdu.A_ASSOCIATE_RJ:
                # PS3.8 Table 9-21: reserved, result, source, reason.
                result, source, reason = (*answer.body[1:4], 0, 0, 0)[:3]
                raise association_rejected(result, source, reason)
            case pdu.A_ABORT:
                raise aborted(answer)
            case _:
                raise PeerBrokeProtocol("no answer to the association request")
        if not requested.contexts.accepted:
            _abort(connection)
            raise NoAcceptedContext
    except BaseException:  # no connection is left behind, whatever ended the attempt
        connection.close()
        raise
    return requested


def _connect(host: str, port: int, timeouts: Timeouts, tls: OutgoingTLS | None) -> Wire:
    connection = connect(host, port, timeout=timeouts.connect)
    if tls is None:
        return Wire(connection, timeout=timeouts.network)
    try:
        return TLSWire(tls.secured(connection, host), timeout=timeouts.network)
    except TLSFailed as error:
        raise Unreachable(f"{host}:{port}", f"TLS failed: {error}") from error
    finally:
        connection.close()  # whose socket is another object by now, or was no use


def _presentation_contexts(contexts: Sequence[ProposedContext]) -> list[PresentationContext]:
    if not 1 <= len(contexts) <= MOST_CONTEXTS:
        raise ValueError(f"1 to {MOST_CONTEXTS} presentation contexts, not {len(contexts)}")
    proposed = []
    for index, context in enumerate(contexts):
        built = build_context(context.SOPClassUID, list(context.transfer_syntaxes))
        built.context_id = 2 * index + 1
        proposed.append(built)
    return proposed


def _encode_request(
    calling_ae: str,
    called_ae: str,
    proposed: list[PresentationContext],
    window: int,
    as_scp: Iterable[str],
) -> bytes:
    maximum = MaximumLengthNotification()
    maximum.maximum_length_received = OUR_MAXIMUM
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    primitive = A_ASSOCIATE()
    primitive.application_context_name = _APPLICATION_CONTEXT
    primitive.calling_ae_title = calling_ae
    primitive.called_ae_title = called_ae
    primitive.presentation_context_definition_list = proposed
    primitive.user_information = [maximum, implementation, version]
    if window > 1:  # not otherwise: some devices break the connection at the sight of it
        operations = AsynchronousOperationsWindowNegotiation()
        operations.maximum_number_operations_invoked = window
        operations.maximum_number_operations_performed = 1
        primitive.user_information.append(operations)
    for SOPClassUID in as_scp:
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = SOPClassUID
        role.scu_role, role.scp_role = False, True
        primitive.user_information.append(role)
    encoded: bytes = A_ASSOCIATE_RQ(primitive).encode()
    return encoded


def _accepted(
    connection: Wire, proposed: list[PresentationContext], answer: PDU, window: int
) -> Requested:
    acceptance = A_ASSOCIATE_AC()
    try:
        if len(answer.body) < _SHORTEST_ACCEPTANCE:
            raise ValueError("it is too short")
        acceptance.decode(pdu.HEADER.pack(answer.type, len(answer.body)) + answer.body)
        primitive = acceptance.to_primitive()
        results = primitive.presentation_context_definition_results_list
        maximum = int(primitive.maximum_length_received or 0)
        negotiated = negotiate_as_requestor(proposed, results)
        granted = [
            int(item.maximum_number_operations_invoked)
            for item in primitive.user_information
            if isinstance(item, AsynchronousOperationsWindowNegotiation)
        ]
    except Exception as error:
        # pynetdicom's decoder raises whatever odd bytes lead to
        _abort(connection)
        raise PeerBrokeProtocol("its acceptance cannot be decoded") from error
    offered = {context.context_id: context.transfer_syntax for context in proposed}
    accepted = [
        NegotiatedContext(
            context.context_id, str(context.abstract_syntax), str(context.transfer_syntax[0])
        )
        for context in negotiated
        if context.result == _ACCEPTED
        and context.transfer_syntax
        and context.transfer_syntax[0] in offered[context.context_id]
    ]
    return Requested(
        wire=connection,
        contexts=NegotiatedContexts(accepted),
        peer_maximum=maximum,
        # PS3.7 D.3.3.3: who does not answer it takes one at a time; 0 is any number.
        window=min(window, granted[0] or window) if granted else 1,
    )


def _abort(connection: Wire) -> None:
    connection.send_if_possible(pdu.encode_abort(pdu.SERVICE_USER))

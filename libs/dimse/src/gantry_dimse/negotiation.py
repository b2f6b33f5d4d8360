"""Negotiates an association as its acceptor, with pynetdicom's rules and none of its threads.

pynetdicom's DUL provider polls its socket from a thread of its own. It is not started here: its
ACSE provider decides, and what it queues for the DUL is encoded and returned to the caller, who
owns the socket. Where an association is to be served by pynetdicom's own service classes, the DUL
provider is started afterwards, in the state in which it would be by then.
"""

import logging
import queue
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation, UserIdentityNegotiation
from pynetdicom.transport import AddressInformation, AssociationSocket

from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.limits import ServerLimits
from gantry_dimse.messages import AcceptedContext
from gantry_dimse.pdu import encode_reject
from gantry_dimse.request import AssociateRequest, UnparseableRequest
from gantry_domain.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

# pynetdicom formats every PDU and message for its log, also when nobody reads it.
_config.LOG_HANDLER_LEVEL = "none"
# What it finds amiss in a peer's PDU it raises besides: a stranger fills no log through it.
for _decoder in ("pynetdicom.pdu", "pynetdicom.utils"):
    logging.getLogger(_decoder).setLevel(logging.CRITICAL)

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 Annex A.2.1

# What a peer receives that announces nothing (PS3.8 Annex D.1 makes it mandatory).
_DEFAULT_MAX_PDU = 16384


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The outcome: the PDU to send, and the contexts that were accepted.

    `accepted` is False if pynetdicom rejected the request.
    """

    assoc: Association
    accepted: bool
    response: bytes
    contexts: Mapping[int, AcceptedContext]
    peer_max_pdu: int


def application_entity(ae_title: str, limits: ServerLimits) -> AE:
    """What pynetdicom negotiates as: our title, our implementation, our limits."""
    ae = AE(ae_title=ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_pdu_size = limits.max_pdu
    ae.acse_timeout = limits.acse_timeout
    ae.dimse_timeout = limits.dimse_timeout
    ae.network_timeout = limits.network_timeout
    # The slots are the limit; pynetdicom's own would count connections.
    ae.maximum_associations = 1_000_000
    return ae


def negotiate(
    request: AssociateRequest,
    *,
    ae: AE,
    supported: SupportedContexts,
    sock: socket.socket,
    handlers: Iterable[tuple[Any, ...]] = (),
    transfer_syntaxes: Iterable[str] | None = None,
    storage_classes: Collection[str] | None = None,
    extended: Mapping[str, bytes] = MappingProxyType({}),
) -> Negotiated:
    """Decide on a request. Sends nothing. Raises `UnparseableRequest`.

    `transfer_syntaxes`: those of storage classes for this caller, in place of ours.
    `storage_classes`: see `SupportedContexts.supporting`. `extended`: by SOP class, which options
    there are, a byte each, 1 for what can be asked for.
    """
    assoc = Association(ae, "acceptor")
    assoc.set_socket(AssociationSocket(assoc, client_socket=sock))
    acceptor, requestor = assoc.acceptor, assoc.requestor
    acceptor.ae_title = request.called_ae
    acceptor.maximum_length = ae.maximum_pdu_size
    acceptor.implementation_class_uid = ae.implementation_class_uid
    acceptor.implementation_version_name = ae.implementation_version_name
    acceptor.address_info = AddressInformation.from_tuple(sock.getsockname())
    requestor.address_info = AddressInformation.from_tuple(sock.getpeername())
    for handler in handlers:
        assoc.bind(*handler)
    try:
        pdu = A_ASSOCIATE_RQ()
        pdu.decode(request.encoded)
        primitive = pdu.to_primitive()
        proposed = [
            str(context.abstract_syntax)
            for context in primitive.presentation_context_definition_list
        ]
        requestor.primitive = primitive
        peer_max_pdu = requestor.maximum_length
    # pynetdicom's decoder meets whatever a stranger sends and raises what it happens to raise.
    except Exception as error:
        raise UnparseableRequest(type(error).__name__) from error
    identity = request.user_identity
    if identity is not None and identity.response_wanted:
        # PS3.7 D.3.3.7.2: what was accepted is confirmed, by an empty response for all types
        # that are checked here.
        confirmation = UserIdentityNegotiation()
        confirmation.server_response = b""
        acceptor.add_negotiation_item(confirmation)
    granted = {
        str(uid): bytes(ours & asked for ours, asked in zip(extended[uid], wanted, strict=False))
        for uid, wanted in requestor.sop_class_extended.items()
        if uid in extended
    }
    for uid, options in granted.items():  # PS3.7 D.3.3.5
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid = uid
        item.service_class_application_information = options
        acceptor.add_negotiation_item(item)
    roles = requestor.role_selection
    acceptor.supported_contexts = supported.supporting(
        proposed, transfer_syntaxes, storage_classes=storage_classes
    )
    assoc.acse.negotiate_association()
    answer = assoc.dul.to_provider_queue.get_nowait()
    accepted = answer.result == 0
    return Negotiated(
        assoc=assoc,
        accepted=accepted,
        response=(
            A_ASSOCIATE_AC(answer).encode()
            if accepted
            else encode_reject(answer.result, answer.result_source, answer.diagnostic)
        ),
        contexts={
            context.context_id: AcceptedContext(
                str(context.abstract_syntax),
                str(context.transfer_syntax[0]),
                takes_requests=(
                    context.abstract_syntax not in roles
                    or bool(roles[context.abstract_syntax].scp_role)
                ),
                options=granted.get(str(context.abstract_syntax), b""),
            )
            for context in assoc.accepted_contexts
        },
        peer_max_pdu=_DEFAULT_MAX_PDU if peer_max_pdu is None else peer_max_pdu,
    )


def serve_with_pynetdicom(assoc: Association) -> None:
    """Run an established association with pynetdicom's service classes until it ends."""
    dul = assoc.dul
    # The connection was opened and the request answered without it.
    while True:
        try:
            dul.event_queue.get_nowait()
        except queue.Empty:
            break
    dul.state_machine.current_state = "Sta6"  # data transfer, PS3.8 9.2.1
    dul.start()
    assoc._started_dul = True
    assoc._dul_ready.wait()
    assoc._run_reactor()

"""Our application entities in the conformance statement: of the tables that the servers use."""

from collections.abc import Iterable, Iterator, Mapping

from gantry_archive.served_contexts import (
    QUERY_OPTIONS,
    RETRIEVAL_OPTIONS,
    proposed_contexts,
    query_contexts,
    storage_contexts,
    worklist_contexts,
)
from gantry_archive.storable_classes import known_classes, taken_classes
from gantry_dimse.answering import MOST_WAITING
from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.requesting import OUR_MAXIMUM
from gantry_domain.commitment import STORAGE_COMMITMENT_PUSH
from gantry_domain.conformance.behaviour import CONGESTED_ELSEWHERE, REJECTIONS
from gantry_domain.conformance.model import (
    Entity,
    Property,
    RejectionClaim,
    Role,
    Support,
)
from gantry_domain.conformance.registry import class_name
from gantry_domain.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gantry_domain.information_models import INFORMATION_MODELS, WORKLIST_CLASSES
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.statuses import SERVICE_AWAY, TEMPORARY_CONGESTION, Rejection
from gantry_runtime.services import DimseDoor
from gantry_runtime.settings import Settings

STORAGE, QUERY, WORKLIST = "STORAGE", "QUERY", "WORKLIST"
SENDER, WEB = "SENDER", "WEB"

_IMPLEMENTATION = (
    Property(name="Application Context Name", value="1.2.840.10008.3.1.1.1"),
    Property(name="Implementation Class UID", value=IMPLEMENTATION_CLASS_UID),
    Property(name="Implementation Version Name", value=IMPLEMENTATION_VERSION_NAME),
)


def own_entities(settings: Settings) -> tuple[Entity, ...]:
    """All entities, in the order of the flow."""
    return (
        _storage(settings),
        _query(settings),
        _worklist(settings),
        _sender(settings),
        _web(settings),
    )


def _storage(settings: Settings) -> Entity:
    supported = storage_contexts(settings)
    return Entity(
        name=STORAGE,
        ae_titles=settings.ae_titles,
        addresses=_addresses(settings, settings.ports.dimse, settings.listen.tls_port),
        description=(
            "The front door: takes composite instances and answers Success once they are durable "
            "in the object store. An association that proposes query or retrieval is passed on "
            f"to {QUERY}, one that proposes worklist or performed steps to {WORKLIST}; one with "
            "Verification alone is answered here. Requests of storage commitment are answered by "
            "N-EVENT-REPORT once every instance was looked at, over a new association or, for a "
            "partner that is configured so or has no address, over that of the request."
        ),
        activity="A modality or archive sends instances",
        remote="Storage SCU, Storage Commitment SCU",
        supports=(
            *_accepted(
                supported, [VERIFICATION, STORAGE_COMMITMENT_PUSH, *taken_classes(settings)]
            ),
            # A destination that we asked reports over an association of its own.
            *_accepted(supported, [STORAGE_COMMITMENT_PUSH], Role.SCU),
        ),
        policies=_policies(settings, settings.ingress),
        rejections=_rejections(REJECTIONS),
    )


def _query(settings: Settings) -> Entity:
    supported = query_contexts(settings)
    asked = [VERIFICATION, *(uid for model in INFORMATION_MODELS for uid in model.classes)]
    return Entity(
        name=QUERY,
        ae_titles=settings.ae_titles,
        addresses=_addresses(settings, settings.ports.query_dimse, settings.listen.query_tls_port),
        description=(
            "Answers C-FIND, sends by C-MOVE to partners that have an address and may know whose "
            "the images are, and by C-GET over the association of the request, for which the peer "
            "proposes the role of an SCP."
        ),
        activity="A workstation searches and retrieves",
        remote="Query/Retrieve SCU, C-MOVE destination",
        supports=(
            *_accepted(supported, asked),
            # Storage is supported beside a class of C-GET alone, and for requests of ours.
            *_accepted(supported, known_classes(settings), Role.SCU),
        ),
        policies=_policies(
            settings,
            settings.query,
            extended=f"of queries: {', '.join(QUERY_OPTIONS)}; "
            f"of retrievals: {', '.join(RETRIEVAL_OPTIONS)}",
        ),
        rejections=_rejections(_BEHIND),
    )


def _worklist(settings: Settings) -> Entity:
    return Entity(
        name=WORKLIST,
        ae_titles=settings.ae_titles,
        addresses=_addresses(settings, settings.ports.worklist, None),
        description=(
            "Tells modalities what to do, of orders that come by HL7, and takes what they say of "
            "the steps that they perform."
        ),
        activity="A modality asks for its worklist, begins or ends a step",
        remote="Modality Worklist SCU, MPPS SCU",
        supports=(*_accepted(worklist_contexts(), [VERIFICATION, *WORKLIST_CLASSES]),),
        policies=_policies(settings, settings.worklist),
        rejections=_rejections(_BEHIND),
    )


def _sender(settings: Settings) -> Entity:
    syntaxes: dict[str, dict[str, None]] = {}
    for context in proposed_contexts(settings):
        known = syntaxes.setdefault(context.SOPClassUID, {})
        known.update(dict.fromkeys(context.transfer_syntaxes))
    forward = settings.forward
    facts: Mapping[str, object] = {
        "Associations to one destination": forward.concurrency,
        "Largest PDU received": f"{OUR_MAXIMUM} bytes",
        "Largest PDU sent": "as the peer announces, within a limit of ours",
        "Asynchronous operations": (
            "asked for of partners that are configured so, of others not: one at a time"
        ),
        "Time-out of the connection": _seconds(forward.connect_timeout.total_seconds()),
        "ACSE time-out": _seconds(forward.acse_timeout.total_seconds()),
        "DIMSE time-out": _seconds(forward.dimse_timeout.total_seconds()),
        "A destination that fails is tried again": (
            f"after {_seconds(forward.backoff.first.total_seconds())} at most, then twice as long "
            f"up to {_seconds(forward.backoff.longest.total_seconds())}"
        ),
        "It is given up after": _seconds(forward.give_up_after.total_seconds()),
    }
    return Entity(
        name=SENDER,
        ae_titles=settings.ae_titles[:1],
        description=(
            "Forwards studies by routes and on demand, in the transfer syntax stored where the "
            "peer takes it, else converted to an uncompressed one; asks partners that are "
            "configured so for storage commitment, and hears their reports over either "
            "association; tests partners by C-ECHO; pulls studies from other archives by C-FIND "
            "and C-MOVE. To partners with a DICOMweb server it sends by STOW-RS as user agent, and "
            "asks by QIDO-RS whether they keep it."
        ),
        activity="A study is complete, or somebody sends or pulls it",
        remote="Storage SCP, Storage Commitment SCP, Query/Retrieve SCP, DICOMweb origin server",
        supports=tuple(
            Support(uid=uid, name=class_name(uid), role=Role.SCU, transfer_syntaxes=tuple(proposed))
            for uid, proposed in syntaxes.items()
        ),
        policies=(*_IMPLEMENTATION, *_properties(facts)),
    )


def _web(settings: Settings) -> Entity:
    how = "none" if settings.auth is None else settings.auth.kind
    facts: Mapping[str, object] = {
        "Processes": settings.http.processes,
        "Clients sign in by": how,
        "Deleting": "allowed" if settings.delete.enabled else "not allowed",
    }
    return Entity(
        name=WEB,
        addresses=(f"HTTP port {settings.ports.http}, below /dicomweb",),
        description="DICOMweb: search, retrieval, rendering and storage over HTTP (PS3.18).",
        activity="A clinician searches and reads",
        remote="DICOMweb user agent",
        policies=tuple(_properties(facts)),
    )


def _addresses(settings: Settings, port: int, tls_port: int | None) -> tuple[str, ...]:
    plain = f"TCP port {port}"
    return (plain,) if tls_port is None else (plain, f"TCP port {tls_port} over TLS")


def _accepted(
    supported: SupportedContexts, uids: Iterable[str], role: Role = Role.SCP
) -> Iterator[Support]:
    for uid in uids:
        syntaxes = supported.syntaxes(uid)
        if syntaxes is not None:
            yield Support(uid=uid, name=class_name(uid), role=role, transfer_syntaxes=syntaxes)


def _policies(
    settings: Settings, door: DimseDoor, *, extended: str = "none"
) -> tuple[Property, ...]:
    per_ae, per_host = door.max_associations_per_ae, door.max_associations_per_host
    facts: Mapping[str, object] = {
        "Largest PDU received": "unlimited" if door.max_pdu == 0 else f"{door.max_pdu} bytes",
        "Largest PDU sent": f"{door.max_pdu_sent} bytes, or less if the peer wants it",
        "Associations at a time": door.max_associations,
        "Associations of one AE title": "no limit of its own" if per_ae is None else per_ae,
        "Associations from one host": "no limit of its own" if per_host is None else per_host,
        "Asynchronous operations": (
            "not negotiated; of a peer that does not wait for answers, "
            f"{MOST_WAITING} requests are kept"
        ),
        "Transfer syntax of a context": "the first one of ours that is proposed; a partner may "
        "have an order of its own",
        "SOP classes of a caller": "those of the table; of a partner fewer may be taken",
        "SOP Class Extended Negotiation": extended,
        "SOP Class Common Extended Negotiation": "not supported: it is ignored",
        "ACSE time-out": _seconds(door.acse_timeout.total_seconds()),
        "DIMSE time-out": _seconds(door.dimse_timeout.total_seconds()),
        "Idle time-out": _seconds(door.network_timeout.total_seconds()),
        "User identity": "required" if settings.user_identity.required else "not required",
    }
    return (*_IMPLEMENTATION, *_properties(facts))


def _properties(facts: Mapping[str, object]) -> Iterator[Property]:
    return (Property(name=name, value=str(value)) for name, value in facts.items())


# Nothing is passed on by these, and nothing stored.
_BEHIND: Mapping[Rejection, str] = {
    each: CONGESTED_ELSEWHERE if each is TEMPORARY_CONGESTION else when
    for each, when in REJECTIONS.items()
    if each is not SERVICE_AWAY
}


def _rejections(rejections: Mapping[Rejection, str]) -> tuple[RejectionClaim, ...]:
    return tuple(
        RejectionClaim(result=each.result, source=each.source, reason=each.reason, when=when)
        for each, when in rejections.items()
    )


def _seconds(value: float) -> str:
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "min")):
        if value > unit and value % unit == 0:
            return f"{value / unit:g} {letter}"
    return f"{value:g} s"

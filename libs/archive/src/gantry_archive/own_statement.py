"""Our own conformance statement: made of the tables and the configuration, not by hand."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from gantry_archive.own_entities import own_entities
from gantry_archive.own_media import media_profiles
from gantry_archive.own_web_client import web_client_transactions
from gantry_domain.attributes import ATTRIBUTES, Level
from gantry_domain.availability import NOTIFICATION_ANSWERS
from gantry_domain.conformance.behaviour import (
    ANY_OTHER,
    C_ECHO,
    C_FIND,
    C_MOVE,
    C_STORE,
    COMMITMENT,
    COMMITMENT_REPORT,
    PERFORMED_STEP,
    RETRIEVE,
)
from gantry_domain.conformance.model import (
    Origin,
    Parameter,
    QueryKey,
    Role,
    SecurityProfile,
    Statement,
    StatusClaim,
    WebTransaction,
)
from gantry_domain.conformance.registry import Service
from gantry_domain.information_models import level_name
from gantry_domain.orders.attributes import MATCHED, PLACES, STATUS, Place, tag_of
from gantry_domain.policies.door import has_limits
from gantry_domain.statuses import SOP_CLASS_NOT_SUPPORTED, TOO_MANY_IMAGES, Status
from gantry_domain.store_responses import StoreResult, store_answers
from gantry_domain.telling import Outcome
from gantry_runtime.parameters import parameters
from gantry_runtime.settings import Settings
from gantry_runtime.values import CHARACTER_SETS

PRODUCT = "Gantry"

_SCP_STATUSES: Mapping[str, Mapping[Status, str]] = {
    "C-ECHO": C_ECHO,
    "C-STORE": C_STORE,
    "C-FIND": C_FIND,
    "C-MOVE": C_MOVE,
    "C-GET": RETRIEVE,
    "C-FIND of the worklist": C_FIND,
    "N-CREATE and N-SET of performed steps": PERFORMED_STEP,
    "N-ACTION of storage commitment": COMMITMENT,
    "N-EVENT-REPORT of storage commitment": COMMITMENT_REPORT,
    "Any other request": ANY_OTHER,
}
_AS_SENDER: Mapping[StoreResult, str] = {
    StoreResult.ACCEPTED: "the instance counts as sent",
    StoreResult.WARNED: "the instance counts as sent; the warning is kept with the delivery",
    StoreResult.FAILED: "the instance is sent again later, with growing delays",
    StoreResult.REFUSED: "the instance is not sent again; the delivery shows the status",
}
_AS_NOTIFIER: Mapping[Outcome, str] = {
    Outcome.TAKEN: "the notification counts as taken",
    Outcome.LATER: "the notification is sent again later, with growing delays",
    Outcome.AWAY: "nothing is notified there for a while, and then all of it again",
    Outcome.REFUSED: "the notification is kept, and not sent again by itself",
}
_AS_SENDER_OF_CODE = {
    SOP_CLASS_NOT_SUPPORTED.code: (
        "the instance is not sent again; the delivery shows the status; where other instances "
        "arrive and this one is no image, it counts as delivered"
    )
}


def own_statement(settings: Settings, *, web: Iterable[WebTransaction] = ()) -> Statement:
    """The statement of what runs with these settings; `web` are the requests that are served."""
    return Statement(
        product=PRODUCT,
        origin=Origin.OWN,
        version=version("gantry-archive"),
        entities=own_entities(settings),
        keys=(*_keys("C-FIND"), *_keys("QIDO-RS"), *_worklist_keys()),
        statuses=(*_answered(settings), *_as_sender(), *_as_notifier(settings)),
        web=(*web, *web_client_transactions()),
        media=tuple(media_profiles()),
        character_sets=tuple(sorted(CHARACTER_SETS)),
        security=tuple(_security(settings)),
        parameters=tuple(
            Parameter(
                name=each.name,
                default=each.default,
                value=each.value,
                allowed=each.allowed,
                meaning=each.meaning,
            )
            for each in parameters(settings)
        ),
    )


def _keys(service: str) -> Iterator[QueryKey]:
    for attribute in ATTRIBUTES:
        if service == "QIDO-RS" and attribute.level is Level.PATIENT:
            level = level_name(Level.STUDY)  # there is no level of its own (PS3.18 10.6.1)
        else:
            level = level_name(attribute.level)
        yield QueryKey(
            service=service,
            level=level,
            tag=attribute.tag,
            keyword=attribute.keyword,
            matching=None if attribute.matching is None else attribute.matching.value,
            always_returned=attribute.required and service == "QIDO-RS",
        )


def _worklist_keys() -> Iterator[QueryKey]:
    matched = {each.keyword: each for found in MATCHED.values() for each in found}
    matched[STATUS.keyword] = STATUS
    for keyword in dict.fromkeys((*PLACES, STATUS.keyword)):
        key = matched.get(keyword)
        place = PLACES.get(keyword, Place.STEP)
        yield QueryKey(
            service=Service.WORKLIST.value,
            level=place.value.upper(),
            tag=tag_of(keyword),
            keyword=keyword,
            matching=None if key is None or key.matching is None else key.matching.value,
        )


def _answered(settings: Settings) -> Iterator[StatusClaim]:
    limited = has_limits(settings.policy_set.rules)
    for service, table in _SCP_STATUSES.items():
        for status, behaviour in table.items():
            if status is TOO_MANY_IMAGES and not limited:
                continue
            yield StatusClaim(
                service=service,
                role=Role.SCP,
                code=f"{status.code:04X}",
                name=status.name,
                behaviour=behaviour,
            )


def _as_sender() -> Iterator[StatusClaim]:
    for first, last, answer in store_answers():
        yield StatusClaim(
            service="C-STORE",
            role=Role.SCU,
            code=f"{first:04X}" if first == last else f"{first:04X}-{last:04X}",
            name=answer.status.name,
            behaviour=_AS_SENDER_OF_CODE.get(first, _AS_SENDER[answer.result]),
        )


def _as_notifier(settings: Settings) -> Iterator[StatusClaim]:
    if not any(partner.availability_subscriber for partner in settings.partners):
        return
    for status, outcome in NOTIFICATION_ANSWERS:
        yield StatusClaim(
            service="N-CREATE of Instance Availability Notification",
            role=Role.SCU,
            code=f"{status.code:04X}",
            name=status.name,
            behaviour=_AS_NOTIFIER[outcome],
        )


def _security(settings: Settings) -> Iterator[SecurityProfile]:
    listen, identity = settings.listen, settings.user_identity
    tls = settings.tls is not None
    yield SecurityProfile(
        name="Secure transport connection (TLS) of DIMSE, as acceptor",
        supported=tls,
        detail="callers have to show a certificate" if tls and listen.tls_ca else "",
    )
    yield SecurityProfile(
        name="Secure transport connection (TLS) of DIMSE, as requestor",
        supported=any(partner.tls for partner in settings.partners),
    )
    verified = bool(
        settings.dimse_passcodes or settings.dimse_jwt_secret is not None or identity.jwt_key
    )
    yield SecurityProfile(
        name="User Identity Negotiation",
        supported=verified,
        detail="user names with passcodes, JSON Web Tokens" if verified else "any is accepted",
    )
    strangers = "accepted" if settings.strangers_may_query else "rejected"
    yield SecurityProfile(
        name="Callers are known by AE title and host",
        supported=bool(settings.partners),
        detail=(f"others may store: {settings.unknown_partners.store}; may query: {strangers}"),
    )
    yield SecurityProfile(
        name="Web clients sign in",
        supported=settings.web_clients_sign_in,
        detail="" if settings.auth is None else settings.auth.kind,
    )
    hidden_from = [partner.ae_title for partner in settings.partners if partner.deidentify]
    yield SecurityProfile(
        name="Basic Application Level Confidentiality Profile, as de-identifier (PS3.15 Annex E)",
        supported=bool(hidden_from),
        detail=(
            f"of what is sent to {', '.join(hidden_from)}; with the option Retain Longitudinal "
            "Temporal Information Modified Dates; pixels and documents are not cleaned but "
            "withheld; C-MOVE to it is refused"
            if hidden_from
            else ""
        ),
    )
    yield SecurityProfile(name="Digital signatures", supported=False)
    yield SecurityProfile(name="Audit trail and secure time (ATNA)", supported=False)

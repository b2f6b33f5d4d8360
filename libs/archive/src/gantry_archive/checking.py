"""Holds what runs against its own conformance statement: each port, as strangers and as partners.

What is expected is the statement and the configuration; what is found is what the port answers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gantry_archive.dimse_door import partners_of, user_identities
from gantry_archive.own_entities import QUERY, STORAGE, WORKLIST
from gantry_archive.probing import Propose, probe, proposed_classes
from gantry_dimse.observer import Peer, PeerCertificate
from gantry_dimse.own_certificate import certificate_in
from gantry_dimse.peer_errors import AssociationRejected
from gantry_domain.conformance.differences import accepted_as_scp, differences
from gantry_domain.conformance.model import Statement
from gantry_domain.conformance.registry import Service, service_of
from gantry_domain.statuses import USER_IDENTITY_NOT_VERIFIED, Rejection
from gantry_runtime.listen_section import reachable
from gantry_runtime.settings import Settings

STRANGER = "GANTRYCHECK"
"""An AE title that is no partner, unless somebody has called one so."""

Stated = Mapping[str, frozenset[str]]


_OF_QUERY = frozenset({Service.QUERY_RETRIEVE})
_OF_WORKLIST = frozenset({Service.WORKLIST, Service.PERFORMED_STEP})
_ASKED = {
    QUERY: _OF_QUERY,
    WORKLIST: _OF_WORKLIST,
    # What is for others is passed on, with all the association.
    STORAGE: frozenset(Service) - _OF_QUERY - _OF_WORKLIST,
}
"""The services that an entity is asked for."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port of ours, and which entity answers there."""

    name: str
    number: int
    entity: str
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """One port as one caller: how many associations it took, and what differs.

    `rejected`: as it was stated that this caller is.
    """

    port: Port
    calling_ae: str
    associations: int
    differences: tuple[str, ...]
    rejected: Rejection | None = None


def ports_of(settings: Settings) -> tuple[Port, ...]:
    """The ports; the front door three times, for it passes on what is for others.

    Those for TLS only where `forward` says whom we trust, and what we show if we have to.
    """
    ports, listen, forward = settings.ports, settings.listen, settings.forward
    shows = forward.tls_certificate is not None or listen.tls_ca is None
    over_tls = forward.tls_ca is not None and shows
    found: list[Port] = []
    for front, query, tls in (
        (ports.dimse, ports.query_dimse, False),
        (listen.tls_port, listen.query_tls_port, True),
    ):
        if front is not None and (over_tls or not tls):
            found.append(Port("front door", front, STORAGE, tls=tls))
            found.append(Port("front door, passed on", front, QUERY, tls=tls))
            found.append(Port("front door, passed on", front, WORKLIST, tls=tls))
        if query is not None and (over_tls or not tls):
            found.append(Port("query", query, QUERY, tls=tls))
    found.append(Port("worklist", ports.worklist, WORKLIST))
    return tuple(found)


def callers_of(settings: Settings) -> tuple[str, ...]:
    """The AE titles to call as: a stranger, and all partners."""
    return (STRANGER, *(each.ae_title for each in settings.partners))


def check(
    settings: Settings,
    statement: Statement,
    *,
    caller: Callable[[Port, str], Propose],
    ports: Iterable[Port] | None = None,
    classes: Iterable[str] | None = None,
) -> Iterator[Checked]:
    """Every port as every caller; `caller` opens the associations.

    `ports` and `classes` are those that are looked at; None: all.
    """
    if classes is None:
        classes = proposed_classes(settings.ingress.sop_classes)
    looked_at = tuple(classes)
    for port in ports_of(settings) if ports is None else ports:
        asked = frozenset(uid for uid in looked_at if service_of(uid) in _ASKED[port.entity])
        for calling_ae in callers_of(settings):
            yield _check(
                settings,
                statement,
                port,
                calling_ae=calling_ae,
                propose=caller(port, calling_ae),
                classes=asked,
            )


def _check(
    settings: Settings,
    statement: Statement,
    port: Port,
    *,
    calling_ae: str,
    propose: Propose,
    classes: frozenset[str],
) -> Checked:
    rejection, expected = _expected(settings, statement, port, calling_ae)
    stated = {uid: syntaxes for uid, syntaxes in expected.items() if uid in classes}
    probed = probe(propose, name=port.name, classes=sorted(classes), pause=0.0)
    found: tuple[str, ...]
    if probed.stopped is not None:
        found = tuple(_ended(probed.stopped, rejection))
    elif rejection is not None:
        found = (f"associations are accepted that are stated to be rejected {_numbers(rejection)}",)
    else:
        found = tuple(differences(stated, accepted_as_scp(probed.statement.supports())))
    rejected = rejection if probed.stopped is not None and not found else None
    return Checked(port, calling_ae, probed.associations, found, rejected)


def _expected(
    settings: Settings, statement: Statement, port: Port, calling_ae: str
) -> tuple[Rejection | None, Stated]:
    """How the association is rejected, and else what is accepted."""
    door, strangers = {
        STORAGE: (settings.ingress, settings.unknown_partners.store == "accept"),
        QUERY: (settings.query, settings.strangers_may_query),
        WORKLIST: (settings.worklist, settings.strangers_may_use_worklist),
    }[port.entity]
    partners = partners_of(settings, door, accept_unknown=strangers)
    peer = Peer(
        calling_ae,
        settings.ae_titles[0],
        reachable(settings.listen.address),
        _shown(settings) if port.tls else None,
    )
    rejection = partners.admit(peer)
    if rejection is None and not user_identities(settings).accepts(None):
        rejection = USER_IDENTITY_NOT_VERIFIED
    (entity,) = (each for each in statement.entities if each.name == port.entity)
    terms = partners.terms(peer)
    own, alone = terms.transfer_syntaxes, terms.storage_classes
    expected = dict(accepted_as_scp(entity.supports))
    for uid in [uid for uid in expected if service_of(uid) in _STORED]:
        if alone is not None and uid not in alone:
            del expected[uid]
        elif own is not None:
            expected[uid] = frozenset(own)
    return rejection, expected


def _shown(settings: Settings) -> PeerCertificate | None:
    """What a port for TLS gets to see of us: it looks at no certificate that it does not verify."""
    file = settings.forward.tls_certificate
    if file is None or settings.listen.tls_ca is None:
        return None
    return certificate_in(settings.folder / Path(file).expanduser())


_STORED = (Service.STORAGE, Service.OTHER)  # private classes are of no service that we know


def _ended(stopped: Exception, expected: Rejection | None) -> Iterator[str]:
    if not isinstance(stopped, AssociationRejected):
        yield f"it cannot be probed: {stopped}"
    elif expected is None:
        yield f"an association is rejected that is stated to be accepted: {stopped}"
    elif (stopped.result, stopped.source, stopped.reason) != expected[:3]:
        yield f"{stopped}, and it is stated that it is rejected {_numbers(expected)}"


def _numbers(rejection: Rejection) -> str:
    return "/".join(map(str, rejection[:3]))

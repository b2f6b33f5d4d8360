"""`gantry echo`: one C-ECHO to a partner, and how long the answer took (PS3.4 annex A)."""

import time
from dataclasses import dataclass

from gantry_archive.outgoing_tls import outgoing_tls
from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import (
    AssociationLost,
    AssociationRejected,
    NoAcceptedContext,
    Unreachable,
)
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation
from gantry_domain.errors import ConfigurationError, TransientError
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.statuses import SUCCESS
from gantry_runtime.names import did_you_mean
from gantry_runtime.settings import Settings
from gantry_runtime.values import check_ae_title, split_host_and_port

_SECONDS = 10.0
_TIMEOUTS = Timeouts(connect=_SECONDS, acse=_SECONDS, dimse=_SECONDS, network=_SECONDS)


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to call and as whom."""

    ae_title: str
    host: str
    port: int
    calling_ae: str
    tls: OutgoingTLS | None = None


class EchoFailed(TransientError):
    """The partner did not answer a C-ECHO with Success."""


def peer(settings: Settings, target: str) -> Peer:
    """The partner of that AE title, or what ``AE@host:port`` says.

    :raises ConfigurationError: no such partner, or it has no address.
    """
    ours = settings.ae_titles[0]
    if "@" in target:
        title, _, address = target.rpartition("@")
        try:
            host, port = split_host_and_port(address)
            return Peer(check_ae_title(title), host, port, ours)
        except ValueError as error:
            raise ConfigurationError(f"{target}: {error}") from error
    for partner in settings.partners:
        if partner.ae_title == target:
            if partner.address is None:
                raise ConfigurationError(f"the partner {target} has no `address` (host:port)")
            host, port = split_host_and_port(partner.address)
            calling_ae = partner.calling_ae or ours
            return Peer(target, host, port, calling_ae, outgoing_tls(settings, partner))
    known = [partner.ae_title for partner in settings.partners]
    hint = did_you_mean(target, known) if known else "; none is configured"
    raise ConfigurationError(f"no partner is called {target}{hint} (or write AE@host:port)")


def echo(called: Peer) -> float:
    """The seconds from request to answer, without those of the association.

    :raises EchoFailed: what happened instead.
    """
    place = f"{called.ae_title}@{called.host}:{called.port}"
    assoc = _associate(called, place)
    try:
        began = time.perf_counter()
        status = assoc.echo()
        took = time.perf_counter() - began
    except AssociationLost as error:
        raise EchoFailed(f"{place} accepted the association and did not answer in time") from error
    assoc.release()
    if status != SUCCESS.code:
        raise EchoFailed(f"{place} answered with status {status:04X}")
    return took


def _associate(called: Peer, place: str) -> StorageAssociation:
    try:
        return StorageAssociation.open(
            host=called.host,
            port=called.port,
            calling_ae=called.calling_ae,
            called_ae=called.ae_title,
            contexts=[ProposedContext(VERIFICATION, MESSAGE_SYNTAXES)],
            timeouts=_TIMEOUTS,
            tls=called.tls,
        )
    except Unreachable as error:
        raise EchoFailed(f"{place} could not be reached: {error.why}") from error
    except AssociationRejected as error:
        reason = error.why[:1].upper() + error.why[1:]
        raise EchoFailed(f"{place} rejected the association: {reason}") from error
    except NoAcceptedContext as error:
        raise EchoFailed(f"{place} does not offer Verification") from error
    except AssociationLost as error:
        raise EchoFailed(
            f"{place} is reachable but aborted the association or did not answer"
        ) from error

"""`gantry echo`: one C-ECHO to a partner, and how long the answer took (PS3.4 annex A)."""

import socket
import time
from dataclasses import dataclass

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from gantry_domain.errors import ConfigurationError, TransientError
from gantry_runtime.names import did_you_mean
from gantry_runtime.settings import Settings
from gantry_runtime.values import check_ae_title, split_host_and_port

_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to call and as whom."""

    ae_title: str
    host: str
    port: int
    calling_ae: str


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
            return Peer(target, host, port, partner.calling_ae or ours)
    known = [partner.ae_title for partner in settings.partners]
    hint = did_you_mean(target, known) if known else "; none is configured"
    raise ConfigurationError(f"no partner is called {target}{hint} (or write AE@host:port)")


def _what_is_wrong(called: Peer) -> str:
    """pynetdicom does not say why there was no association."""
    try:
        socket.create_connection((called.host, called.port), timeout=_TIMEOUT).close()
    except OSError as error:
        return f"could not be reached: {error.strerror or error}"
    return "is reachable but aborted the association or did not answer"


def echo(called: Peer) -> float:
    """The seconds from request to answer, without those of the association.

    :raises EchoFailed: what happened instead.
    """
    ae = AE(ae_title=called.calling_ae)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _TIMEOUT
    ae.add_requested_context(Verification)
    place = f"{called.ae_title}@{called.host}:{called.port}"
    assoc = ae.associate(called.host, called.port, ae_title=called.ae_title)
    if assoc.is_rejected:
        reason = assoc.acceptor.primitive.reason_str if assoc.acceptor.primitive else "no reason"
        raise EchoFailed(f"{place} rejected the association: {reason}")
    if not assoc.is_established:
        raise EchoFailed(f"{place} {_what_is_wrong(called)}")
    try:
        began = time.perf_counter()
        answer = assoc.send_c_echo()
        took = time.perf_counter() - began
    except (RuntimeError, ValueError) as error:
        raise EchoFailed(f"{place} does not offer Verification") from error
    finally:
        assoc.release()
    if "Status" not in answer:
        raise EchoFailed(f"{place} accepted the association and did not answer in time")
    if answer.Status != 0x0000:
        raise EchoFailed(f"{place} answered with status {answer.Status:04X}")
    return took

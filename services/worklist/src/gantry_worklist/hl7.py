"""Of the settings, what the listener of HL7 needs."""

import socket
import threading
from ipaddress import IPv4Network, IPv6Network, ip_network

from sqlalchemy.engine import Engine

from gantry_dimse.partners import within
from gantry_dimse.tls import ServerTLS
from gantry_domain.hl7.mapping import order_mapping
from gantry_domain.hl7.rules import Rules, StationRule
from gantry_runtime.settings import Settings
from gantry_worklist.feed import Feed
from gantry_worklist.mllp import MllpLimits, MllpServer

_THIS_MACHINE = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def make_listener(
    settings: Settings,
    listener: socket.socket,
    *,
    engine: Engine,
    stopping: threading.Event,
    tls: ServerTLS | None = None,
) -> MllpServer:
    """The listener of one process. `stopping`: nothing waits for the database any more."""
    hl7 = settings.hl7
    feed = Feed(
        engine=engine,
        rules=rules_of(settings),
        partition=hl7.partition,
        zone=settings.zone,
        charset=hl7.charset,
        patience=hl7.database_patience.total_seconds(),
        stopping=stopping,
        enhanced=hl7.acknowledge == "enhanced",
    )
    senders = _senders(settings)
    return MllpServer(
        listener,
        feed.answer,
        limits=MllpLimits(
            max_connections=hl7.max_connections,
            max_message_size=hl7.max_message_size,
            message_timeout=hl7.message_timeout.total_seconds(),
            idle_timeout=hl7.idle_timeout.total_seconds(),
            send_timeout=hl7.send_timeout.total_seconds(),
        ),
        admits=lambda host: within(host, senders),
        tls=tls,
    )


def rules_of(settings: Settings) -> Rules:
    """How messages become orders. Raises `ConfigurationError`."""
    hl7 = settings.hl7
    return Rules(
        order_mapping(hl7.mapping),
        zone=settings.zone,
        stations=tuple(
            StationRule(ae_titles=each.ae_titles, modality=each.modality, location=each.location)
            for each in settings.worklist.stations
        ),
        ignored=frozenset(hl7.ignore),
        authority=hl7.identifier.authority,
        identifier_type=hl7.identifier.type,
    )


def _senders(settings: Settings) -> tuple[IPv4Network | IPv6Network, ...]:
    return _THIS_MACHINE if settings.hl7.hosts is None else settings.hl7.hosts

"""The partners that can be called over DIMSE, as the settings have them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import time

from gantry_archive.outgoing_tls import outgoing_tls
from gantry_archive.transforms import AS_THEY_ARE, Transforms, transforms_of
from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.pacing import Pacer
from gantry_dimse.peer_errors import NoAcceptedContext
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation
from gantry_domain.day_times import DaySpan
from gantry_domain.sop_classes import VERIFICATION
from gantry_runtime.settings import Settings
from gantry_runtime.values import split_host_and_port

_VERIFICATION = (ProposedContext(VERIFICATION, MESSAGE_SYNTAXES),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A partner that can be sent to: where it listens and the two AE titles of the association.

    `sees_held`: studies that are held out of sight may be sent to it, if somebody asks. `window`:
    how many instances may wait for its answers at once, if it agrees. `prove`: how it is asked
    whether it keeps them, `commitment` or `find`; None: not at all. `pacer`: how fast we may send,
    over all associations of this process. `send_between`: when routes may send; empty: always.
    `transforms`: what becomes of instances on their way there.
    """

    ae_title: str
    host: str
    port: int
    calling_ae: str
    tls: OutgoingTLS | None = None
    sees_held: bool = False
    window: int = 1
    prove: str | None = None
    pacer: Pacer | None = None
    send_between: tuple[DaySpan, ...] = ()
    transforms: Transforms = AS_THEY_ARE

    def associate(
        self, contexts: Sequence[ProposedContext], timeouts: Timeouts, *, window: int = 1
    ) -> StorageAssociation:
        """An association with it. Raises as `StorageAssociation.open`."""
        association = StorageAssociation.open(
            host=self.host,
            port=self.port,
            calling_ae=self.calling_ae,
            called_ae=self.ae_title,
            contexts=contexts,
            timeouts=timeouts,
            tls=self.tls,
            window=window,
        )
        if self.pacer is not None:
            association.pace(self.pacer)
        return association

    def takes_routed(self, now: time) -> bool:
        """Whether routes may send to it at this time of the day."""
        return is_time(self.send_between, now)

    def probe(self, timeouts: Timeouts) -> None:
        """Return if somebody answers there, tried by a C-ECHO. Raises `Unreachable`, an
        `AssociationRejected` or an `AssociationLost`."""
        # Without the context it is there all the same, and that is all that was to be known.
        with suppress(NoAcceptedContext), self.associate(_VERIFICATION, timeouts) as association:
            association.echo()


def is_time(spans: Sequence[DaySpan], now: time) -> bool:
    """Whether a time of the day is in one of these; without any it always is."""
    return not spans or any(each.includes(now) for each in spans)


def destinations(settings: Settings) -> dict[str, Destination]:
    """The partners that have an address, by AE title."""
    found = {}
    for partner in settings.partners:
        if partner.address is not None:
            host, port = split_host_and_port(partner.address)
            found[partner.ae_title] = Destination(
                ae_title=partner.ae_title,
                host=host,
                port=port,
                calling_ae=partner.calling_ae or settings.ae_titles[0],
                tls=outgoing_tls(settings, partner),
                sees_held=partner.sees == "held",
                window=partner.window or 1,
                prove=partner.prove,
                pacer=None if partner.rate is None else Pacer(partner.rate),
                send_between=partner.day_spans,
                transforms=transforms_of(settings, partner),
            )
    return found


def destination_timeouts(settings: Settings) -> Timeouts:
    """How long a destination may take for what."""
    forward = settings.forward
    return Timeouts(
        connect=forward.connect_timeout.total_seconds(),
        acse=forward.acse_timeout.total_seconds(),
        dimse=forward.dimse_timeout.total_seconds(),
        network=forward.network_timeout.total_seconds(),
    )

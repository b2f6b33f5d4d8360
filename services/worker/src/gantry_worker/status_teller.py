"""Tells a RIS by HL7 that the images of a procedure are here."""

from datetime import tzinfo
from functools import partial

from sqlalchemy.engine import Engine

from gantry_archive.outgoing_tls import tls_to
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import AssociationLost, Interrupted, Unreachable
from gantry_domain.events import Event, EventKind
from gantry_domain.hl7.status_update import Receiver, judge_acknowledgement, status_update
from gantry_domain.sight import Sight
from gantry_domain.telling import Answer, Outcome
from gantry_runtime.orders_section import HL7Receiver
from gantry_runtime.settings import Settings
from gantry_runtime.values import split_host_and_port
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.imaged import imaged_procedure
from gantry_worker.mllp_connection import MllpConnection
from gantry_worker.subscription import Subscription

_KINDS = frozenset((EventKind.COMPLETE, EventKind.RELEASED))


class StatusTeller:
    """See `Teller`."""

    def __init__(
        self,
        engine: Engine,
        *,
        section: HL7Receiver,
        tls: OutgoingTLS | None,
        sender: str,
        zone: tzinfo,
    ) -> None:
        host, port = split_host_and_port(section.address)
        self._engine = engine
        self._connection = MllpConnection(
            host, port, timeout=section.timeout.total_seconds(), tls=tls
        )
        self._receiver = Receiver(
            application=section.application,
            facility=section.facility,
            order_status=section.order_status,
        )
        self._sender = sender
        self._zone = zone

    def tell(self, event: Event) -> Answer | None:
        """See `Teller`."""
        told = event.happening
        with transaction(self._engine) as connection:
            procedure = imaged_procedure(connection, told.partition, told.StudyInstanceUID)
        if procedure is None or not procedure.known_to_others:
            return None
        control_id = str(event.id)
        message = status_update(
            procedure,
            sender=self._sender,
            receiver=self._receiver,
            control_id=control_id,
            at=event.at.astimezone(self._zone),
        )
        try:
            answer = self._connection.ask(message)
        except Unreachable as error:
            return Answer(Outcome.AWAY, str(error))
        except Interrupted:
            raise
        except AssociationLost as error:
            return Answer(Outcome.LATER, str(error))
        return judge_acknowledgement(answer, control_id=control_id)

    def interrupt(self) -> None:
        """See `Teller`."""
        self._connection.interrupt()

    def close(self) -> None:
        """See `Teller`."""
        self._connection.close()


def status_subscriptions(settings: Settings) -> list[Subscription]:
    """One for each receiver of HL7."""
    return [
        Subscription(
            name=section.subscriber,
            sight=Sight(section.partition),
            kinds=_KINDS,
            longest=3 * section.timeout,  # connection, TLS, answer
            teller=partial(
                StatusTeller,
                section=section,
                tls=tls_to(settings, name=section.tls_name) if section.tls else None,
                sender=settings.ae_titles[0],
                zone=settings.zone,
            ),
        )
        for section in settings.hl7.receivers
    ]

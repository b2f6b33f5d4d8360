"""Tells partners which instances can be retrieved: Instance Availability Notification (PS3.4 R).

complete, released, restored ──▶ all instances of the study, ONLINE
deleted ──▶ what was deleted, refused, held ──▶ a study that is out of sight: UNAVAILABLE
"""

import threading
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from sqlalchemy.engine import Engine

from gantry_archive.destinations import Destination, destination_timeouts, destinations
from gantry_dimse.notifying import NOTIFICATION_CONTEXTS, NotifyingAssociation
from gantry_dimse.peer_errors import (
    AssociationLost,
    AssociationRejected,
    Interrupted,
    NoAcceptedContext,
    Unreachable,
)
from gantry_dimse.requesting import Timeouts
from gantry_domain.availability import (
    InstanceAvailability,
    encode_notification,
    judge_notified,
    notification_uid,
)
from gantry_domain.events import Event, EventKind
from gantry_domain.sight import Sight
from gantry_domain.telling import TAKEN, Answer, Outcome
from gantry_runtime.settings import Settings
from gantry_stores.index.availability import (
    SAYS_ONLINE,
    deleted_instances,
    instances_of_study,
    was_online,
)
from gantry_stores.index.database import transaction
from gantry_worker.subscription import Subscription

_OUT_OF_SIGHT = frozenset((EventKind.REFUSED, EventKind.HELD))
_KINDS = SAYS_ONLINE | _OUT_OF_SIGHT | {EventKind.DELETED}
# Instances of one notification: its data set stays far below what peers take.
_AT_ONCE = 1000


class AvailabilityTeller:
    """See `Teller`."""

    def __init__(
        self,
        engine: Engine,
        *,
        subscriber: str,
        destination: Destination,
        retrieve_ae: str,
        timeouts: Timeouts,
    ) -> None:
        self._engine = engine
        self._subscriber = subscriber
        self._destination = destination
        self._retrieve_ae = retrieve_ae
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self._assoc: NotifyingAssociation | None = None
        self._interrupted = False

    def tell(self, event: Event) -> Answer | None:
        """See `Teller`."""
        found = self._instances(event)
        if not found:
            return None
        try:
            for number, part in enumerate(_parts(found)):
                answer = judge_notified(self._notify(event, number, part))
                if answer.outcome is not Outcome.TAKEN:
                    return answer
        except (Unreachable, AssociationRejected, NoAcceptedContext) as error:
            return Answer(Outcome.AWAY, str(error))
        except Interrupted:
            raise
        except AssociationLost as error:
            with self._lock:
                self._assoc = None  # it is closed
            return Answer(Outcome.LATER, str(error))
        return TAKEN

    def interrupt(self) -> None:
        """See `Teller`."""
        with self._lock:
            self._interrupted = True
            if self._assoc is not None:
                self._assoc.interrupt()

    def close(self) -> None:
        """See `Teller`."""
        with self._lock:
            assoc, self._assoc = self._assoc, None
        if assoc is not None:
            assoc.release()

    def _instances(self, event: Event) -> list[InstanceAvailability]:
        told = event.happening
        with transaction(self._engine) as connection:
            if told.kind is EventKind.DELETED:
                return deleted_instances(connection, told) if told.visible else []
            if told.kind in _OUT_OF_SIGHT and not was_online(connection, event):
                return []
            found = instances_of_study(connection, told.partition, told.StudyInstanceUID)
        # What is otherwise by now has an event of its own, later.
        online = told.kind in SAYS_ONLINE
        return [each for each in found if each.online is online]

    def _notify(self, event: Event, part: int, found: Sequence[InstanceAvailability]) -> int:
        assoc = self._opened()
        return assoc.notify(
            notification_uid(self._subscriber, event.id, part),
            encode_notification(
                event.happening.StudyInstanceUID,
                found,
                retrieve_ae=self._retrieve_ae,
                transfer_syntax=assoc.transfer_syntax,
            ),
        )

    def _opened(self) -> NotifyingAssociation:
        if self._assoc is not None:
            return self._assoc
        to = self._destination
        assoc = NotifyingAssociation.open(
            host=to.host,
            port=to.port,
            calling_ae=to.calling_ae,
            called_ae=to.ae_title,
            contexts=NOTIFICATION_CONTEXTS,
            timeouts=self._timeouts,
            tls=to.tls,
        )
        with self._lock:
            self._assoc = assoc
            if self._interrupted:
                assoc.interrupt()
        return assoc


def _parts(found: Sequence[InstanceAvailability]) -> Sequence[Sequence[InstanceAvailability]]:
    ordered = sorted(found)
    return [ordered[start : start + _AT_ONCE] for start in range(0, len(ordered), _AT_ONCE)]


def availability_subscriptions(settings: Settings) -> list[Subscription]:
    """One for each partner with `notify`."""
    known, timeouts = destinations(settings), destination_timeouts(settings)
    longest = timedelta(
        seconds=timeouts.connect + 2 * timeouts.acse + timeouts.dimse + 2 * timeouts.network
    )
    found = []
    for partner in settings.partners:
        if partner.availability_subscriber is not None:
            teller = partial(
                AvailabilityTeller,
                subscriber=partner.availability_subscriber,
                destination=known[partner.ae_title],
                retrieve_ae=settings.ae_titles[0],
                timeouts=timeouts,
            )
            found.append(
                Subscription(
                    name=partner.availability_subscriber,
                    # So that it is heard when one goes out of sight; which one, `tell` looks at.
                    sight=Sight(partner.partition, held=True),
                    kinds=_KINDS,
                    longest=longest,
                    teller=teller,
                )
            )
    return found

"""Sends one claimed delivery: item by item, each answer committed while the next are sent.

What is the instance's own fault is settled and the rest goes on; what is the destination's or ours
ends the round, and the delivery is tried again later.
"""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_archive.carrying import Carrier, NobodyThere, Pair, RoundFailed, Stopped, unsent
from gantry_archive.carrying_dimse import DimseCarrier
from gantry_archive.carrying_place import PlaceCarrier
from gantry_archive.carrying_web import WebCarrier
from gantry_archive.destinations import Destination
from gantry_archive.outbound import Withheld
from gantry_archive.place_destinations import PlaceDestination
from gantry_archive.recording import Recorder
from gantry_archive.web_destinations import AnyDestination
from gantry_dimse.peer_errors import Interrupted
from gantry_dimse.requesting import Timeouts
from gantry_domain.class_refusals import class_not_taken
from gantry_domain.deliveries import ItemState, RetryPolicy
from gantry_domain.rejection_notes import KEY_OBJECT_SELECTION
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import one_statement, transaction
from gantry_stores.index.delivery_leases import (
    Claim,
    Finished,
    ItemOutcome,
    PendingItem,
    finish,
    pending_items,
)
from gantry_stores.index.proofs import want_proof
from gantry_stores.index.rejections import pending_note, record_note
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

_NO_OBJECT = UUID(int=0)
_AT_ONCE = 200
# After so many failures that look like one instance's the destination itself must be unwell.
_FAILURES_IN_A_ROW = 3


class SendingObserver(Protocol):
    """Is told what was sent, for metrics; quick, and does not raise."""

    def settled(self, outcome: ItemOutcome, *, not_taken: bool, size: int, seconds: float) -> None:
        """An item got its outcome; `size` bytes of data set were sent for it. `not_taken`: it is
        refused for its class, and no image."""


@dataclass(slots=True)
class Sending:
    """One round of sending. `stop` may be called from any thread."""

    claim: Claim
    destination: AnyDestination
    engine: Engine
    store: ObjectStore
    timeouts: Timeouts
    policy: RetryPolicy
    observer: SendingObserver
    _carrier: Carrier = field(init=False)
    _recorder: Recorder = field(init=False)
    _last_failure: str | None = field(default=None, init=False)
    _failures_in_a_row: int = field(default=0, init=False)
    _progress: bool = field(default=False, init=False)
    _tried: set[str] = field(default_factory=set, init=False)
    stopped: bool = field(default=False, init=False)
    """See `Round`."""
    associated: bool = field(default=False, init=False)
    """Whether the destination wanted to hear us."""
    nobody_there: str | None = field(default=None, init=False)
    """Why it did not, where that ended the round."""
    wait: timedelta | None = field(default=None, init=False)
    """It asks to be left alone for so long."""

    def __post_init__(self) -> None:
        self._recorder = Recorder(self.engine, self.claim)
        match self.destination:
            case Destination() as destination:
                self._carrier = DimseCarrier(
                    destination=destination, store=self.store, timeouts=self.timeouts
                )
            case PlaceDestination() as destination:
                self._carrier = PlaceCarrier(destination=destination, store=self.store)
            case destination:
                self._carrier = WebCarrier(
                    destination=destination, store=self.store, timeouts=self.timeouts
                )

    def stop(self, *, at_once: bool) -> None:
        """End the round after the item that is being sent, or in the middle of it."""
        self.stopped = True
        if at_once:
            self._carrier.interrupt()

    def run(self) -> Finished:
        """Send what is not settled and say what the delivery became.

        Raises `LeaseLost`, or the transient error of a database that is away: what was not
        recorded then is sent again when the lease has run out.
        """
        try:
            self._send_all()
            failure = self._last_failure
        except (Stopped, Interrupted):
            failure = None
        except RoundFailed as error:
            failure = str(error)
            if isinstance(error, NobodyThere):
                self.nobody_there, self.wait = failure, error.wait
        finally:
            self._carrier.close()
            self._recorder.close()
        self._recorder.flush()
        with transaction(self.engine) as connection:
            finished = finish(
                connection,
                self.claim,
                failure=failure,
                progress=self._progress,
                policy=self.policy,
                fraction=random.random(),  # noqa: S311 - no secret
            )
            if self.destination.prove is not None:
                want_proof(connection, self.claim.pk, kind=self.destination.prove)
            return finished

    def _send_all(self) -> None:
        self._send_note()
        while True:
            self._recorder.flush()
            with transaction(self.engine) as connection:
                found = pending_items(connection, self.claim, limit=_AT_ONCE)
            # Those that failed in this round wait for the next one, at the end of the order.
            items = [item for item in found if item.SOPInstanceUID not in self._tried]
            if not items:
                return
            there: list[Pair] = []
            for item in items:
                if item.stored is None:
                    self.settle(
                        item, ItemOutcome(ItemState.REFUSED, reason="no longer in the archive")
                    )
                elif self._may_have(item, item.stored):
                    there.append((item, item.stored))
            if there:
                self._carrier.carry(there, self)

    def _may_have(self, item: PendingItem, stored: StoredObject) -> bool:
        """Whether the class may be sent there; else the item is settled, and nobody is called."""
        try:
            self.destination.transforms.check_class(stored.SOPClassUID)
        except Withheld as error:
            self.settle(item, unsent(error))
            return False
        return True

    def _send_note(self) -> None:
        """What is there is rejected before anything new comes of it."""
        with transaction(self.engine) as connection:
            note = pending_note(connection, self.claim)
        if note is None:
            return
        stored = StoredObject(
            object_id=_NO_OBJECT,
            SOPClassUID=KEY_OBJECT_SELECTION,
            TransferSyntaxUID=EXPLICIT_VR_LITTLE_ENDIAN,
            dataset_offset=0,
            size=len(note.content),
            content=note.content,
        )
        item = PendingItem(note.SOPInstanceUID, stored, attempts=0)
        self._carrier.carry([(item, stored)], _OfNote(self))

    def check(self) -> None:
        """See `Round`."""
        if self.stopped:
            raise Stopped

    def answers(self) -> None:
        """See `Round`."""
        self.associated = True

    def settle(
        self, item: PendingItem, outcome: ItemOutcome, *, size: int = 0, seconds: float = 0.0
    ) -> None:
        """See `Round`."""
        self._recorder.put(item.SOPInstanceUID, outcome)
        if not outcome.state.settled:  # what comes next depends on it
            self._recorder.flush()
        self._tried.add(item.SOPInstanceUID)
        not_taken = item.stored is not None and class_not_taken(
            item.stored.SOPClassUID, outcome.status
        )
        self.observer.settled(outcome, not_taken=not_taken, size=size, seconds=seconds)
        if outcome.state.settled:
            self._progress = True
            self._failures_in_a_row = 0
            return
        self._last_failure = outcome.reason
        self._failures_in_a_row += 1
        if self._failures_in_a_row == _FAILURES_IN_A_ROW:
            raise RoundFailed(outcome.reason)

    def settle_note(self, outcome: ItemOutcome) -> None:
        """Write down what became of the note, before which nothing else goes."""
        with one_statement(self.engine) as connection:
            record_note(connection, self.claim, outcome)
        if not outcome.state.settled:
            raise RoundFailed(outcome.reason)
        self._progress = True
        if outcome.state is ItemState.REFUSED:
            log.warning(
                "rejection_note_refused", destination=self.claim.destination, reason=outcome.reason
            )


class _OfNote:
    """The `Round` of a note."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    @property
    def stopped(self) -> bool:
        return self._sending.stopped

    def check(self) -> None:
        self._sending.check()

    def answers(self) -> None:
        self._sending.answers()

    def settle(
        self,
        item: PendingItem,
        outcome: ItemOutcome,
        *,
        size: int = 0,
        seconds: float = 0.0,
    ) -> None:
        self._sending.settle_note(outcome)

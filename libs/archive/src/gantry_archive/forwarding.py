"""Sends one claimed delivery: item by item, each answer committed before the next is sent.

What is the instance's own fault is settled and the rest goes on; what is the destination's or ours
ends the round, and the delivery is tried again later.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.engine import Engine

from gantry_archive.destinations import Destination
from gantry_archive.outbound import NotSendable, prepared, why_unsent
from gantry_dimse.peer_errors import (
    AssociationLost,
    AssociationRejected,
    Interrupted,
    NoAcceptedContext,
    PeerTimedOut,
    Unreachable,
)
from gantry_dimse.proposals import ProposedContext, plan_contexts
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation
from gantry_domain.deliveries import ItemState, RetryPolicy
from gantry_domain.errors import TransientError, UnreadableObject
from gantry_domain.store_responses import StoreResult, read_store_status
from gantry_stores.index.database import one_statement, transaction
from gantry_stores.index.delivery_leases import (
    Claim,
    Finished,
    ItemOutcome,
    PendingItem,
    finish,
    pending_items,
    record,
)
from gantry_stores.index.proofs import want_proof
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.objects import ObjectNotFound, ObjectStore

_AT_ONCE = 200
# After so many failures that look like one instance's the destination itself must be unwell.
_FAILURES_IN_A_ROW = 3

_STATES = {
    StoreResult.ACCEPTED: ItemState.ACCEPTED,
    StoreResult.WARNED: ItemState.WARNED,
    StoreResult.FAILED: ItemState.FAILED,
    StoreResult.REFUSED: ItemState.REFUSED,
}


_Pair = tuple[PendingItem, StoredObject]


class SendingObserver(Protocol):
    """Is told what was sent, for metrics; quick, and does not raise."""

    def settled(self, outcome: ItemOutcome, *, size: int, seconds: float) -> None:
        """An item got its outcome; `size` bytes of data set were sent for it."""


@dataclass(slots=True)
class Sending:
    """One round of sending. `stop` may be called from any thread."""

    claim: Claim
    destination: Destination
    engine: Engine
    store: ObjectStore
    timeouts: Timeouts
    policy: RetryPolicy
    observer: SendingObserver
    _association: StorageAssociation | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)
    _last_failure: str | None = field(default=None, init=False)
    _failures_in_a_row: int = field(default=0, init=False)
    _progress: bool = field(default=False, init=False)
    _tried: set[str] = field(default_factory=set, init=False)
    _careful: bool = field(default=False, init=False)
    """An association was lost with several instances on it: from now on one at a time, so that
    only the one that does it fails."""
    associated: bool = field(default=False, init=False)
    """Whether the destination accepted an association."""
    nobody_there: str | None = field(default=None, init=False)
    """Why it did not, where that ended the round."""

    def stop(self, *, at_once: bool) -> None:
        """End the round after the item that is being sent, or in the middle of it."""
        self._stopped = True
        association = self._association
        if at_once and association is not None:
            association.interrupt()

    def run(self) -> Finished:
        """Send what is not settled and say what the delivery became.

        Raises `LeaseLost`, or the transient error of a database that is away: what was not
        recorded then is sent again when the lease has run out.
        """
        try:
            self._send_all()
            failure = self._last_failure
        except (_Stopped, Interrupted):
            failure = None
        except _RoundFailed as error:
            failure = str(error)
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
        while True:
            with transaction(self.engine) as connection:
                found = pending_items(connection, self.claim, limit=_AT_ONCE)
            # Those that failed in this round wait for the next one, at the end of the order.
            items = [item for item in found if item.SOPInstanceUID not in self._tried]
            if not items:
                return
            self._send_batch(items)

    def _send_batch(self, items: Sequence[PendingItem]) -> None:
        there: list[_Pair] = []
        for item in items:
            if item.stored is None:
                self._settle(
                    item, ItemOutcome(ItemState.REFUSED, reason="no longer in the archive")
                )
            else:
                there.append((item, item.stored))
        groups = plan_contexts(
            (stored.SOPClassUID, stored.TransferSyntaxUID) for _, stored in there
        )
        for contexts in groups:
            classes = {context.SOPClassUID for context in contexts}
            group: Sequence[_Pair]
            group = [pair for pair in there if pair[1].SOPClassUID in classes]
            while group:
                try:
                    association = self._open(contexts)
                except NoAcceptedContext:
                    for item, stored in group:
                        reason = f"the destination does not accept SOP class {stored.SOPClassUID}"
                        self._settle(item, ItemOutcome(ItemState.REFUSED, reason=reason))
                    break
                group = self._send_group(association, group)

    def _open(self, contexts: Sequence[ProposedContext]) -> StorageAssociation:
        self._check()
        try:
            window = 1 if self._careful else self.destination.window
            association = self.destination.associate(contexts, self.timeouts, window=window)
        except (Unreachable, AssociationRejected, AssociationLost) as error:
            # Also a permanent rejection is no instance's fault: it is put right over there, or
            # here, and what waited then goes by itself.
            self.nobody_there = str(error)
            raise _RoundFailed(str(error)) from error
        self.associated = True
        self._association = association
        return association

    def _send_group(
        self, association: StorageAssociation, group: Sequence[_Pair]
    ) -> Sequence[_Pair]:
        """Send the items of one association; what is left of them if the association is lost."""
        waiting: dict[int, _Waiting] = {}
        with association:
            for number, pair in enumerate(group):
                handled = False
                try:
                    self._finish_if_stopped(association, waiting)
                    self._begin(association, pair, waiting)
                    handled = True
                    while len(waiting) >= association.window:
                        self._answered(association, waiting)
                    if number + 1 == len(group):
                        self._answer_all(association, waiting)
                except Interrupted:
                    raise
                except (AssociationLost, UnreadableObject) as error:
                    on_it = [each.pair for each in waiting.values()]
                    again = self._after_a_loss(error, on_it if handled else [*on_it, pair])
                    association.abort()
                    self._association = None
                    return [*again, *group[number + 1 :]]
        self._association = None
        return ()

    def _after_a_loss(self, error: Exception, on_it: list[_Pair]) -> list[_Pair]:
        """Settle whose fault it was; what is to be sent once more."""
        *others, last = on_it
        if isinstance(error, UnreadableObject):
            self._settle(last[0], ItemOutcome(ItemState.REFUSED, reason=why_unsent(error)))
            return others
        if others:  # whose fault it was will be seen
            self._careful = True
            return on_it
        self._settle(last[0], ItemOutcome(ItemState.FAILED, reason=str(error)))
        if isinstance(error, PeerTimedOut):  # each further item would cost as long
            raise _RoundFailed(str(error)) from error
        return []

    def _begin(
        self, association: StorageAssociation, pair: _Pair, waiting: dict[int, "_Waiting"]
    ) -> None:
        """Send an item, whose answer is waited for then; or settle it, if it cannot be sent."""
        item, stored = pair
        started = time.monotonic()
        before = association.bytes_sent
        try:
            with prepared(stored, association.contexts, store=self.store) as ready:
                message_id = association.begin_store(
                    SOPClassUID=stored.SOPClassUID,
                    SOPInstanceUID=item.SOPInstanceUID,
                    context=ready.context,
                    chunks=ready.chunks,
                )
        except (NotSendable, ObjectNotFound) as error:
            outcome = ItemOutcome(ItemState.REFUSED, reason=why_unsent(error))
            self._settle(item, outcome, seconds=time.monotonic() - started)
            return
        except AssociationLost:
            raise
        except TransientError as error:
            raise _RoundFailed(str(error)) from error
        waiting[message_id] = _Waiting(pair, started, association.bytes_sent - before)

    def _answered(self, association: StorageAssociation, waiting: dict[int, "_Waiting"]) -> None:
        """Settle the item that the next answer is about."""
        message_id, response = association.next_answer()
        sent = waiting.pop(message_id)
        item, stored = sent.pair
        answer = read_store_status(response.status)
        plain = answer.result is StoreResult.ACCEPTED and not response.status
        outcome = ItemOutcome(
            _STATES[answer.result],
            status=response.status,
            reason=None if plain else answer.reason,
            object_id=stored.object_id,
        )
        seconds = time.monotonic() - sent.started
        self._settle(item, outcome, size=sent.size, seconds=seconds)

    def _answer_all(self, association: StorageAssociation, waiting: dict[int, "_Waiting"]) -> None:
        while waiting:
            self._answered(association, waiting)

    def _finish_if_stopped(
        self, association: StorageAssociation, waiting: dict[int, "_Waiting"]
    ) -> None:
        if self._stopped:
            self._answer_all(association, waiting)
        self._check()

    def _settle(
        self, item: PendingItem, outcome: ItemOutcome, *, size: int = 0, seconds: float = 0.0
    ) -> None:
        with one_statement(self.engine) as connection:
            record(connection, self.claim, item.SOPInstanceUID, outcome)
        self._tried.add(item.SOPInstanceUID)
        self.observer.settled(outcome, size=size, seconds=seconds)
        if outcome.state.settled:
            self._progress = True
            self._failures_in_a_row = 0
            return
        self._last_failure = outcome.reason
        self._failures_in_a_row += 1
        if self._failures_in_a_row == _FAILURES_IN_A_ROW:
            raise _RoundFailed(outcome.reason)

    def _check(self) -> None:
        if self._stopped:
            raise _Stopped


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An item whose answer is waited for; `size` are the bytes of its data set."""

    pair: _Pair
    started: float
    size: int


class _Stopped(Exception):
    """We end the round ourselves."""


class _RoundFailed(Exception):
    """The destination, or something of ours, cannot go on now."""

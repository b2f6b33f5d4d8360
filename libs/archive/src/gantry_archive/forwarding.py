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
            return finish(
                connection,
                self.claim,
                failure=failure,
                progress=self._progress,
                policy=self.policy,
                fraction=random.random(),  # noqa: S311 - no secret
            )

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
        there: list[tuple[PendingItem, StoredObject]] = []
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
            group: Sequence[tuple[PendingItem, StoredObject]]
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
            association = self.destination.associate(contexts, self.timeouts)
        except (Unreachable, AssociationRejected, AssociationLost) as error:
            # Also a permanent rejection is no instance's fault: it is put right over there, or
            # here, and what waited then goes by itself.
            raise _RoundFailed(str(error)) from error
        self._association = association
        return association

    def _send_group(
        self, association: StorageAssociation, group: Sequence[tuple[PendingItem, StoredObject]]
    ) -> Sequence[tuple[PendingItem, StoredObject]]:
        """Send the items of one association; what is left of them if the association is lost."""
        with association:
            for number, (item, stored) in enumerate(group):
                self._check()
                try:
                    self._send(association, item, stored)
                except UnreadableObject as error:
                    self._settle(item, ItemOutcome(ItemState.REFUSED, reason=why_unsent(error)))
                except Interrupted:
                    raise
                except AssociationLost as error:
                    self._settle(item, ItemOutcome(ItemState.FAILED, reason=str(error)))
                    if isinstance(error, PeerTimedOut):  # each further item would cost as long
                        raise _RoundFailed(str(error)) from error
                else:
                    continue
                association.abort()
                self._association = None
                return group[number + 1 :]
        self._association = None
        return ()

    def _send(
        self, association: StorageAssociation, item: PendingItem, stored: StoredObject
    ) -> None:
        started = time.monotonic()
        before = association.bytes_sent
        try:
            with prepared(stored, association.contexts, store=self.store) as ready:
                response = association.store(
                    SOPClassUID=stored.SOPClassUID,
                    SOPInstanceUID=item.SOPInstanceUID,
                    context=ready.context,
                    chunks=ready.chunks,
                )
        except (NotSendable, ObjectNotFound) as error:
            outcome = ItemOutcome(ItemState.REFUSED, reason=why_unsent(error))
        except AssociationLost:
            raise
        except TransientError as error:
            raise _RoundFailed(str(error)) from error
        else:
            answer = read_store_status(response.status)
            plain = answer.result is StoreResult.ACCEPTED and not response.status
            outcome = ItemOutcome(
                _STATES[answer.result],
                status=response.status,
                reason=None if plain else answer.reason,
                object_id=stored.object_id,
            )
        self._settle(
            item,
            outcome,
            size=association.bytes_sent - before,
            seconds=time.monotonic() - started,
        )

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


class _Stopped(Exception):
    """We end the round ourselves."""


class _RoundFailed(Exception):
    """The destination, or something of ours, cannot go on now."""

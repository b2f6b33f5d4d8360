"""Sends the items of a round over DIMSE: an association for the classes of what is sent."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gantry_archive.carrying import OUTCOMES, NobodyThere, Pair, Round, RoundFailed, unsent
from gantry_archive.destinations import Destination
from gantry_archive.outbound import ClassNotAccepted, NotSendable
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
from gantry_domain.deliveries import ItemState
from gantry_domain.errors import TransientError, UnreadableObject
from gantry_domain.store_responses import StoreResult, read_store_status
from gantry_stores.index.delivery_leases import ItemOutcome
from gantry_stores.objects import ObjectNotFound, ObjectStore


@dataclass(slots=True, kw_only=True)
class DimseCarrier:
    """A `Carrier` over DIMSE."""

    destination: Destination
    store: ObjectStore
    timeouts: Timeouts
    _association: StorageAssociation | None = field(default=None, init=False)
    _careful: bool = field(default=False, init=False)
    """An association was lost with several instances on it: from now on one at a time, so that
    only the one that does it fails."""

    def carry(self, pairs: Sequence[Pair], sending: Round) -> None:
        """See `Carrier`."""
        groups = plan_contexts(
            ((stored.SOPClassUID, stored.TransferSyntaxUID) for _, stored in pairs),
            only=self.destination.transforms.syntaxes,
        )
        for contexts in groups:
            classes = {context.SOPClassUID for context in contexts}
            group: Sequence[Pair]
            group = [pair for pair in pairs if pair[1].SOPClassUID in classes]
            while group:
                try:
                    association = self._open(contexts, sending)
                except NoAcceptedContext:
                    for item, stored in group:
                        sending.settle(item, unsent(ClassNotAccepted(stored.SOPClassUID)))
                    break
                group = self._send_group(association, group, sending)

    def interrupt(self) -> None:
        """See `Carrier`."""
        association = self._association
        if association is not None:
            association.interrupt()

    def close(self) -> None:
        """See `Carrier`: each association ends with its group."""

    def _open(self, contexts: Sequence[ProposedContext], sending: Round) -> StorageAssociation:
        sending.check()
        try:
            window = 1 if self._careful else self.destination.window
            association = self.destination.associate(contexts, self.timeouts, window=window)
        except (Unreachable, AssociationRejected, AssociationLost) as error:
            # Also a permanent rejection is no instance's fault: it is put right over there, or
            # here, and what waited then goes by itself.
            raise NobodyThere(str(error)) from error
        sending.answers()
        self._association = association
        return association

    def _send_group(
        self, association: StorageAssociation, group: Sequence[Pair], sending: Round
    ) -> Sequence[Pair]:
        """Send the items of one association; what is left of them if the association is lost."""
        waiting: dict[int, _Waiting] = {}
        with association:
            for number, pair in enumerate(group):
                handled = False
                try:
                    if sending.stopped:
                        self._answer_all(association, waiting, sending)
                    sending.check()
                    self._begin(association, pair, waiting, sending)
                    handled = True
                    while len(waiting) >= association.window:
                        self._answered(association, waiting, sending)
                    if number + 1 == len(group):
                        self._answer_all(association, waiting, sending)
                except Interrupted:
                    raise
                except (AssociationLost, UnreadableObject) as error:
                    on_it = [each.pair for each in waiting.values()]
                    again = self._after_a_loss(error, on_it if handled else [*on_it, pair], sending)
                    association.abort()
                    self._association = None
                    return [*again, *group[number + 1 :]]
        self._association = None
        return ()

    def _after_a_loss(self, error: Exception, on_it: list[Pair], sending: Round) -> list[Pair]:
        """Settle whose fault it was; what is to be sent once more."""
        *others, last = on_it
        if isinstance(error, UnreadableObject):
            sending.settle(last[0], unsent(error))
            return others
        if others:  # whose fault it was will be seen
            self._careful = True
            return on_it
        sending.settle(last[0], ItemOutcome(ItemState.FAILED, reason=str(error)))
        if isinstance(error, PeerTimedOut):  # each further item would cost as long
            raise RoundFailed(str(error)) from error
        return []

    def _begin(
        self,
        association: StorageAssociation,
        pair: Pair,
        waiting: dict[int, "_Waiting"],
        sending: Round,
    ) -> None:
        """Send an item, whose answer is waited for then; or settle it, if it cannot be sent."""
        item, stored = pair
        started = time.monotonic()
        before = association.bytes_sent
        try:
            with self.destination.transforms.prepare(
                stored, association.contexts, store=self.store
            ) as ready:
                message_id = association.begin_store(
                    SOPClassUID=stored.SOPClassUID,
                    SOPInstanceUID=ready.SOPInstanceUID or item.SOPInstanceUID,
                    context=ready.context,
                    chunks=ready.chunks,
                )
        except (NotSendable, ObjectNotFound) as error:
            sending.settle(item, unsent(error), seconds=time.monotonic() - started)
            return
        except AssociationLost:
            raise
        except TransientError as error:
            raise RoundFailed(str(error)) from error
        waiting[message_id] = _Waiting(pair, started, association.bytes_sent - before)

    def _answered(
        self, association: StorageAssociation, waiting: dict[int, "_Waiting"], sending: Round
    ) -> None:
        """Settle the item that the next answer is about."""
        message_id, response = association.next_answer()
        sent = waiting.pop(message_id)
        item, stored = sent.pair
        answer = read_store_status(response.status)
        plain = answer.result is StoreResult.ACCEPTED and not response.status
        outcome = ItemOutcome(
            OUTCOMES[answer.result],
            status=response.status,
            reason=None if plain else answer.reason,
            object_id=stored.object_id,
        )
        seconds = time.monotonic() - sent.started
        sending.settle(item, outcome, size=sent.size, seconds=seconds)

    def _answer_all(
        self, association: StorageAssociation, waiting: dict[int, "_Waiting"], sending: Round
    ) -> None:
        while waiting:
            self._answered(association, waiting, sending)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An item whose answer is waited for; `size` are the bytes of its data set."""

    pair: Pair
    started: float
    size: int

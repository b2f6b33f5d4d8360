"""Sends the instances of a retrieval to another archive: the sub-operations of one C-MOVE.

One association at a time, with as many instances on it as the destination agreed to. An instance
that fails is counted and the next is sent; a destination that cannot be reached, or is lost again
and again, fails all that is left.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field
from itertools import chain

from gantry_archive.destinations import Destination
from gantry_archive.outbound import why_unsent
from gantry_archive.read_ahead import Opened, ReadAhead, close_opened
from gantry_archive.retrieval import Retrieval, Tally
from gantry_dimse.message_pdus import MoveOriginator
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
from gantry_domain.errors import TransientError, UnreadableObject
from gantry_domain.store_responses import StoreResult, read_store_status
from gantry_stores.index.search import Holding, StoredInstance
from gantry_stores.objects import ObjectNotFound, ObjectStore

# After so many failures that are the destination's or the store's the rest would fare no better.
_MOST_IN_A_ROW = 3

# How long the store is waited for before a look at who wants us to stop, in seconds.
_PATIENCE = 0.1


@dataclass(slots=True)
class Moving:
    """The sub-operations of one C-MOVE. `stop` may be called from any thread."""

    retrieval: Retrieval
    holdings: Sequence[Holding]
    destination: Destination
    originator: MoveOriginator
    store: ObjectStore
    readers: Executor
    timeouts: Timeouts
    tally: Tally
    trouble: str | None = field(default=None, init=False)
    """The last reason why something did not arrive, without patient data."""
    bytes_sent: int = field(default=0, init=False)
    _association: StorageAssociation | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)
    _failures_in_a_row: int = field(default=0, init=False)
    _hopeless: bool = field(default=False, init=False)
    _careful: bool = field(default=False, init=False)
    """An association was lost with several instances on it: from now on one at a time, so that
    only the one that does it fails."""

    def stop(self, *, at_once: bool) -> None:
        """End after the instance that is being sent, or in the middle of it."""
        self._stopped = True
        association = self._association
        if at_once and association is not None:
            association.interrupt()

    def run(self) -> None:
        """Send all that there is, until it is stopped. Raises the errors of the index."""
        held = [(holding.SOPClassUID, holding.TransferSyntaxUID) for holding in self.holdings]
        for contexts in plan_contexts(held, only=self.destination.transforms.syntaxes):
            classes = {context.SOPClassUID for context in contexts}
            left: Iterator[StoredInstance] | None = self.retrieval.instances(classes)
            while left is not None and not self._stopped:
                association = None if self._hopeless else self._open(contexts)
                if association is None:
                    self._fail(left)
                    left = None
                else:
                    left = self._send_over(association, left)

    def _open(self, contexts: Sequence[ProposedContext]) -> StorageAssociation | None:
        window = 1 if self._careful else self.destination.window
        try:
            return self.destination.associate(contexts, self.timeouts, window=window)
        except NoAcceptedContext as error:  # other classes may have one
            self.trouble = str(error)
        except (Unreachable, AssociationRejected, AssociationLost) as error:
            self.trouble = str(error)
            self._hopeless = True
        return None

    def _fail(self, instances: Iterator[StoredInstance]) -> None:
        for instance in instances:
            if self._stopped:
                return
            self.tally.add(instance.SOPInstanceUID, StoreResult.FAILED)

    def _send_over(
        self, association: StorageAssociation, instances: Iterator[StoredInstance]
    ) -> Iterator[StoredInstance] | None:
        """What is left to be sent over another association; None: all was tried, or stopped."""
        self._association = association
        ahead = ReadAhead(
            instances,
            association.contexts,
            store=self.store,
            readers=self.readers,
            prepare=self.destination.transforms.prepare,
        )
        waiting: dict[int, StoredInstance] = {}
        try:
            with association:
                while True:
                    opened = self._next(ahead)
                    try:
                        again = self._go_on(association, opened, waiting)
                    finally:
                        if opened is not None:
                            opened.close()
                    if again is not None or self._hopeless:
                        if again is None:
                            again = self._go_on(association, None, waiting) or []
                        association.abort()
                        return chain(again, ahead.give_back())
                    if opened is None:
                        return None
        except Interrupted:
            return None
        finally:
            self.bytes_sent += association.bytes_sent
            self._association = None
            ahead.close()

    def _next(self, ahead: ReadAhead) -> Opened | None:
        if self._stopped:
            return None
        future = ahead.next()
        while not wait((future,), _PATIENCE).done:
            if self._stopped:
                future.add_done_callback(close_opened)
                return None
        return future.result()

    def _go_on(
        self,
        association: StorageAssociation,
        opened: Opened | None,
        waiting: dict[int, StoredInstance],
    ) -> list[StoredInstance] | None:
        """Send one more, or await all answers if there is none; what is to be sent over another
        association, or None while this one can be used."""
        sending: StoredInstance | None = None
        most = 0 if opened is None else association.window - 1
        try:
            if opened is not None and opened.context is None:
                self._failed(opened.instance.SOPInstanceUID, opened.failure)
            elif opened is not None and opened.context is not None:
                sending = opened.instance
                message_id = association.begin_store(
                    SOPClassUID=sending.SOPClassUID,
                    SOPInstanceUID=sending.SOPInstanceUID,
                    context=opened.context,
                    chunks=opened.chunks,
                    move_originator=self.originator,
                )
                waiting[message_id], sending = sending, None
            while len(waiting) > most:
                self._answered(association, waiting)
        except Interrupted:
            raise
        except (AssociationLost, TransientError, UnreadableObject, ObjectNotFound) as error:
            return self._after_a_loss(error, sending, list(waiting.values()))
        return None

    def _answered(
        self, association: StorageAssociation, waiting: dict[int, StoredInstance]
    ) -> None:
        """Count the instance that the next answer is about."""
        message_id, response = association.next_answer()
        answer = read_store_status(response.status)
        self.tally.add(waiting.pop(message_id).SOPInstanceUID, answer.result)
        self._failures_in_a_row = 0
        if not answer.result.stored:
            self.trouble = answer.reason

    def _after_a_loss(
        self, error: Exception, sending: StoredInstance | None, others: list[StoredInstance]
    ) -> list[StoredInstance]:
        """Count whose fault it was; what is to be sent once more."""
        if isinstance(error, AssociationLost):
            on_it = others if sending is None else [*others, sending]
            if len(on_it) > 1:  # whose fault it was will be seen
                self._careful = True
                return on_it
            sending, others = on_it[0], []
        if sending is not None:
            self._failed(sending.SOPInstanceUID, error)
        if isinstance(error, PeerTimedOut):  # each further instance would cost as long
            self._hopeless = True
        return others

    def _failed(self, SOPInstanceUID: str, error: Exception | None) -> None:
        self.tally.add(SOPInstanceUID, StoreResult.FAILED)
        self.trouble = why_unsent(error)
        if isinstance(error, TransientError):
            self._failures_in_a_row += 1
            self._hopeless = self._failures_in_a_row >= _MOST_IN_A_ROW
        else:
            self._failures_in_a_row = 0

"""Sends the instances of a retrieval to another archive: the sub-operations of one C-MOVE.

One association at a time. An instance that fails is counted and the next is sent; a destination
that cannot be reached, or is lost again and again, fails all that is left.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field

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

    def stop(self, *, at_once: bool) -> None:
        """End after the instance that is being sent, or in the middle of it."""
        self._stopped = True
        association = self._association
        if at_once and association is not None:
            association.interrupt()

    def run(self) -> None:
        """Send all that there is, until it is stopped. Raises the errors of the index."""
        held = [(holding.SOPClassUID, holding.TransferSyntaxUID) for holding in self.holdings]
        for contexts in plan_contexts(held):
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
        try:
            return self.destination.associate(contexts, self.timeouts)
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
        ahead = ReadAhead(instances, association.contexts, store=self.store, readers=self.readers)
        try:
            with association:
                while (opened := self._next(ahead)) is not None:
                    try:
                        usable = self._send(association, opened)
                    finally:
                        opened.close()
                    if not usable or self._hopeless:
                        association.abort()
                        return ahead.give_back()
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

    def _send(self, association: StorageAssociation, opened: Opened) -> bool:
        """Send one and count it; whether the association can be used for the next."""
        uid = opened.instance.SOPInstanceUID
        if opened.context is None:
            self._failed(uid, opened.failure)
            return True
        try:
            response = association.store(
                SOPClassUID=opened.instance.SOPClassUID,
                SOPInstanceUID=uid,
                context=opened.context,
                chunks=opened.chunks,
                move_originator=self.originator,
            )
        except Interrupted:
            raise
        except (AssociationLost, TransientError, UnreadableObject, ObjectNotFound) as error:
            self._failed(uid, error)
            if isinstance(error, PeerTimedOut):  # each further instance would cost as long
                self._hopeless = True
            return False
        answer = read_store_status(response.status)
        self.tally.add(uid, answer.result)
        self._failures_in_a_row = 0
        if not answer.result.stored:
            self.trouble = answer.reason
        return True

    def _failed(self, SOPInstanceUID: str, error: Exception | None) -> None:
        self.tally.add(SOPInstanceUID, StoreResult.FAILED)
        self.trouble = why_unsent(error)
        if isinstance(error, TransientError):
            self._failures_in_a_row += 1
            self._hopeless = self._failures_in_a_row >= _MOST_IN_A_ROW
        else:
            self._failures_in_a_row = 0

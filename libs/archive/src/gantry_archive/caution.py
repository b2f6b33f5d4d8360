"""Indexes what may kill its process: such an object is found, and its companions go on.

    a message comes            ─▶ all together, nothing noted
    it comes again             ─▶ all together, noted before and forgotten after
    an object was noted before ─▶ alone, each attempt counted before it begins
    too many never ended       ─▶ unreadable, never read again

Only an attempt that never ends counts: one that fails, as while the database is away, ends. So a
process that is killed from outside costs each object in its hand one attempt at most.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager

from sqlalchemy.engine import Connection, Engine

from gantry_archive.indexing import BatchResult, give_up, index_batch
from gantry_archive.reading import ReadingRules
from gantry_domain.errors import TransientError
from gantry_domain.receipts import Receipt
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import one_statement, transaction
from gantry_stores.index.suspects import (
    acquit,
    count_attempt,
    suspect_each,
    suspects,
    take_attempt_back,
)
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

MOST_ATTEMPTS = 5
"""Attempts at an object alone that never ended, after which it is not read again."""

KILLS_INDEXER = "kills_indexer"

Note = Callable[[Connection], None]


class CarefulIndexer:
    """Indexes for one process. Used by one thread."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        engine: Engine,
        rules: ReadingRules,
        stopping: threading.Event | None = None,
        readers: Executor | None = None,
    ) -> None:
        """`readers` read several headers at once."""
        self._store = store
        self._engine = engine
        self._rules = rules
        self._stopping = stopping
        self._readers = readers
        # What the database was not there to take: those attempts have ended, and must not count.
        self._owed: list[Note] = []

    def index(self, receipts: Sequence[Receipt], *, again: bool) -> BatchResult:
        """Index the objects of the receipts; `again` says that their message came before.

        Raises `IndexUnavailable` or `StoreUnavailable`, and what was committed before stays.
        """
        wanted = {receipt.object_id: receipt for receipt in receipts}
        self._pay()
        with one_statement(self._engine) as connection:
            attempts = suspects(connection, list(wanted))
        together = [receipt for receipt in wanted.values() if receipt.object_id not in attempts]
        result = BatchResult()
        if together:
            result.add(self._try_together(together) if again else self._try(together))
        # Those that look innocent go first: the next of them may be the last for this process.
        for object_id in sorted(attempts, key=attempts.__getitem__):
            receipt = wanted[object_id]
            if attempts[object_id] < MOST_ATTEMPTS:
                result.add(self._try_alone(receipt))
            else:
                result.add(self._condemn(receipt))
        return result

    def _try(self, receipts: Sequence[Receipt]) -> BatchResult:
        return index_batch(
            receipts,
            store=self._store,
            engine=self._engine,
            rules=self._rules,
            stopping=self._stopping,
            readers=self._readers,
        )

    def _try_together(self, receipts: Sequence[Receipt]) -> BatchResult:
        ids = [receipt.object_id for receipt in receipts]
        with self._noted(
            before=lambda connection: suspect_each(connection, ids),
            failed=lambda connection: acquit(connection, ids),
            done=lambda connection: acquit(connection, ids),
        ):
            return self._try(receipts)

    def _try_alone(self, receipt: Receipt) -> BatchResult:
        object_id = receipt.object_id
        with self._noted(
            before=lambda connection: count_attempt(connection, object_id),
            failed=lambda connection: take_attempt_back(connection, object_id),
            done=lambda connection: acquit(connection, [object_id]),
        ):
            return self._try([receipt])

    def _condemn(self, receipt: Receipt) -> BatchResult:
        result = give_up(receipt, KILLS_INDEXER, store=self._store, engine=self._engine)
        self._write(lambda connection: acquit(connection, [receipt.object_id]))
        if receipt.object_id in result.outcomes:
            log.error(
                "object_given_up",
                object=str(receipt.object_id),
                reason=KILLS_INDEXER,
                attempts=MOST_ATTEMPTS,
            )
        return result

    @contextmanager
    def _noted(self, *, before: Note, failed: Note, done: Note) -> Iterator[None]:
        self._write(before)
        try:
            yield
        except BaseException:  # the attempt has ended, whatever ended it, and must not count
            self._owed.append(failed)
            with contextlib.suppress(TransientError):
                self._pay()
            raise
        self._owed.append(done)
        self._pay()

    def _pay(self) -> None:
        while self._owed:
            self._write(self._owed[0])
            del self._owed[0]

    def _write(self, note: Note) -> None:
        with transaction(self._engine) as connection:
            note(connection)

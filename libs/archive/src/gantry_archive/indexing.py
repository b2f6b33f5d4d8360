"""Indexes a batch of stored objects: reads their headers and writes them in one transaction.

Twice to the same effect, in any order, by several workers at once. One bad object never holds up
the others: a batch that the database refuses is halved until the object stands alone, and its row
says `unreadable` and why. A database or a store that is away is no fault of any object.
"""

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_archive.comparing import compare
from gantry_archive.reading import ReadingRules, ReadObject, read_object
from gantry_domain.comparison import Relation
from gantry_domain.duplicates import Outcome, Pair
from gantry_domain.entries import Entry, Unreadable
from gantry_domain.keys import object_key
from gantry_domain.receipts import Receipt
from gantry_runtime.logs import get_logger
from gantry_stores.index.batch import BatchRequest, BatchWritten, known_objects, write_batch
from gantry_stores.index.contested import ComparisonsNeeded, StudiesNeeded
from gantry_stores.index.database import (
    IndexContended,
    IndexRefused,
    one_statement,
    transaction,
)
from gantry_stores.index.level_rows import StudyKey
from gantry_stores.objects import ObjectNotFound, ObjectStore

log = get_logger(__name__)

_ATTEMPTS = 12
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
# Headers of one transaction, in bytes of JSON: a few large ones must not add up in memory.
_HEAVIEST_TRANSACTION = 16 * 2**20


@dataclass(slots=True)
class BatchResult:
    """What became of a batch.

    `outcomes` and `reasons` are of objects that had no row before; `known` counts those that had
    one, `vanished` those that are no longer in the store, `retries` transactions run again because
    another was in the way.
    """

    outcomes: dict[UUID, Outcome] = field(default_factory=dict)
    reasons: dict[UUID, str] = field(default_factory=dict)
    study_pks: set[int] = field(default_factory=set)
    known: int = 0
    vanished: int = 0
    retries: int = 0

    def add(self, other: "BatchResult") -> None:
        """Count what became of another batch too."""
        self.outcomes |= other.outcomes
        self.reasons |= other.reasons
        self.study_pks |= other.study_pks
        self.known += other.known
        self.vanished += other.vanished
        self.retries += other.retries


def index_batch(
    receipts: Iterable[Receipt],
    *,
    store: ObjectStore,
    engine: Engine,
    rules: ReadingRules,
    stopping: threading.Event | None = None,
    readers: Executor | None = None,
    taken_back: bool = False,
) -> BatchResult:
    """Index the objects of the receipts.

    `readers` reads several headers at once, which pays where the store is far away. `taken_back`:
    their rows say that they are deleted, and are made anew. Raises `IndexUnavailable` or
    `StoreUnavailable`, and what was committed before stays.
    """
    batch = _Batch(store, engine, rules, stopping or threading.Event(), taken_back=taken_back)
    wanted = {receipt.object_id: receipt for receipt in receipts}
    known: set[UUID] = set()
    if not taken_back:
        with one_statement(engine) as connection:
            known = known_objects(connection, list(wanted))
    batch.result.known = len(known)
    new = [receipt for receipt in wanted.values() if receipt.object_id not in known]
    for objects in _by_weight(batch.read(new, readers)):
        batch.write(objects)
    return batch.result


def give_up(receipt: Receipt, reason: str, *, store: ObjectStore, engine: Engine) -> BatchResult:
    """Write an object down as `unreadable` without reading it; one that has a row keeps it.

    Raises `IndexUnavailable` or `StoreUnavailable`.
    """
    batch = _Batch(store, engine, ReadingRules(), threading.Event())
    try:
        size = store.stat(object_key(receipt.object_id)).size
    except ObjectNotFound:
        batch.result.vanished = 1
    else:
        batch.write([ReadObject(Unreadable(receipt.object_id, size, receipt.sha256, reason))])
    return batch.result


def _by_weight(objects: Iterable[ReadObject]) -> Iterator[list[ReadObject]]:
    group: list[ReadObject] = []
    weight = 0
    for each in objects:
        if group and weight + each.weight > _HEAVIEST_TRANSACTION:
            yield group
            group, weight = [], 0
        group.append(each)
        weight += each.weight
    if group:
        yield group


class _Batch:
    def __init__(
        self,
        store: ObjectStore,
        engine: Engine,
        rules: ReadingRules,
        stopping: threading.Event,
        *,
        taken_back: bool = False,
    ) -> None:
        self._taken_back = taken_back
        self._store = store
        self._engine = engine
        self._rules = rules
        self._stopping = stopping
        self.result = BatchResult()

    def read(self, receipts: Sequence[Receipt], readers: Executor | None) -> Iterator[ReadObject]:
        mapped: Callable[..., Iterator[ReadObject | None]] = readers.map if readers else map
        for read in mapped(self._read, receipts):
            if read is None:
                self.result.vanished += 1
            else:
                yield read

    def _read(self, receipt: Receipt) -> ReadObject | None:
        try:
            return read_object(receipt, store=self._store, rules=self._rules)
        except ObjectNotFound:
            return None  # purged since the receipt was written

    def write(self, objects: Sequence[ReadObject]) -> None:
        entries = [each.entry for each in objects if isinstance(each.entry, Entry)]
        unreadable = [each.entry for each in objects if isinstance(each.entry, Unreadable)]
        if unreadable:
            self._attempt(self._request((), unreadable))
            self._lose(unreadable)
        if entries:
            self._write(entries, {})

    def _lose(self, unreadable: Sequence[Unreadable]) -> None:
        for lost in unreadable:
            if lost.object_id in self.result.outcomes:
                self.result.reasons[lost.object_id] = lost.reason

    def _write(self, entries: Sequence[Entry], relations: Mapping[Pair, Relation]) -> None:
        request = self._request(entries, (), relations)
        try:
            self._attempt(request)
        except ComparisonsNeeded as needed:
            self._compare_first(entries, relations, needed)
        except IndexRefused as refused:
            if not refused.values_refused:
                raise
            self._halve(entries, relations, refused)

    def _compare_first(
        self,
        entries: Sequence[Entry],
        relations: Mapping[Pair, Relation],
        needed: ComparisonsNeeded,
    ) -> None:
        """Writes what needs no comparison at once, and the others when they are compared."""
        compared = {object_id for pair in needed.pairs for object_id in pair}
        contested = {entry.instance_key for entry in entries if entry.object_id in compared}
        waiting = [entry for entry in entries if entry.instance_key in contested]
        others = [entry for entry in entries if entry.instance_key not in contested]
        if others and waiting:
            self._write(others, relations)
        found = compare(needed.pairs, store=self._store, engine=self._engine, entries=entries)
        self._write(waiting or others, {**relations, **found})

    def _halve(
        self,
        entries: Sequence[Entry],
        relations: Mapping[Pair, Relation],
        refused: IndexRefused,
    ) -> None:
        if len(entries) > 1:
            middle = len(entries) // 2
            self._write(entries[:middle], relations)
            self._write(entries[middle:], relations)
            return
        entry = entries[0]
        reason = f"refused_{refused.sqlstate or 'value'}".lower()
        log.error("object_refused_by_index", object=str(entry.object_id), reason=reason)
        lost = Unreadable(entry.object_id, entry.size, entry.sha256, reason, entry.partition)
        self._attempt(self._request((), [lost]))
        self._lose([lost])

    def _request(
        self,
        entries: Sequence[Entry],
        unreadable: Sequence[Unreadable],
        relations: Mapping[Pair, Relation] | None = None,
    ) -> BatchRequest:
        ids = [entry.object_id for entry in entries] + [lost.object_id for lost in unreadable]
        return BatchRequest(
            entries,
            unreadable,
            relations or {},
            self._rules.take_last,
            taken_back=frozenset(ids) if self._taken_back else frozenset(),
        )

    def _attempt(self, request: BatchRequest) -> None:
        also_lock: frozenset[StudyKey] = frozenset()
        pause = _FIRST_PAUSE
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with transaction(self._engine) as connection:
                    written = write_batch(connection, replace(request, also_lock=also_lock))
            except StudiesNeeded as needed:
                also_lock |= needed.keys
            except IndexContended:
                if attempt == _ATTEMPTS:
                    raise
                self.result.retries += 1
                # Drawn at random so that two that were in each other's way part.
                self._stopping.wait(random.uniform(0, pause))  # noqa: S311 - no secret
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._take(written)
                return
        raise IndexContended

    def _take(self, written: BatchWritten) -> None:
        self.result.outcomes |= written.outcomes
        self.result.study_pks |= set(written.study_pks)

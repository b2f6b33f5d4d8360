"""Builds the index anew from the object store alone, into an empty database.

The same rows as indexing at reception gave, but for surrogates, revisions and moments. What people
deleted or moved is deleted or moved again, in its turn among the objects. No deliveries follow from
it.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from gantry_archive.deleting import delete_again
from gantry_archive.indexing import index_batch
from gantry_archive.journal import MovedBack, Turn, read_journal
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.deletions import Deletion
from gantry_domain.duplicates import ObjectState
from gantry_domain.errors import ConfigurationError
from gantry_domain.keys import OBJECTS, NotAnObjectKey, parse_object_key
from gantry_domain.policies.rules import PolicySet
from gantry_domain.receipts import Receipt
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.index.decisions import restore_decisions
from gantry_stores.index.moving_series import move_back, move_series
from gantry_stores.index.studies_to_route import mark_all_routed
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

_BATCH = 200


class IndexNotEmpty(ConfigurationError):
    """Reindexing fills an empty database and touches no other."""

    def __init__(self) -> None:
        super().__init__("the database already holds an index; reindex fills an empty one only")


@dataclass(slots=True)
class Reindexed:
    """What was read so far: objects by state, bytes, and keys that are not ours."""

    states: Counter[ObjectState] = field(default_factory=Counter)
    bytes: int = 0
    strange: int = 0

    @property
    def objects(self) -> int:
        """How many objects have their row."""
        return self.states.total()


def reindex(
    store: ObjectStore,
    engine: Engine,
    *,
    policies: PolicySet,
    progress: Callable[[Reindexed], None] = lambda _done: None,
    rules: ReadingRules | None = None,
    readers: Executor | None = None,
) -> Reindexed:
    """Index every object of the store, in order of reception, and judge every study.

    `progress` is called after each batch. Raises `IndexNotEmpty`, and the errors of both stores;
    after one of these the database must be emptied before the next attempt.
    """
    with transaction(engine) as connection:
        if connection.scalar(sa.text("SELECT EXISTS (SELECT 1 FROM object)")):
            raise IndexNotEmpty
    journal = read_journal(store)
    with transaction(engine) as connection:
        # They stand before there is anything that they are about, and so for its first verdict.
        restore_decisions(connection, journal.decisions, journal.undone)
    done = Reindexed()
    for batch in _batches(store, journal.turns, done):
        if not isinstance(batch, list):
            _do_again(engine, batch)
            continue
        result = index_batch(
            batch, store=store, engine=engine, rules=rules or ReadingRules(), readers=readers
        )
        done.states.update(outcome.state for outcome in result.outcomes.values())
        judge_studies(engine, policies, result.study_pks)
        with transaction(engine) as connection:
            mark_all_routed(connection)
        progress(done)
    judge_studies(engine, policies)
    return done


def _do_again(engine: Engine, turn: Turn) -> None:
    match turn:
        case Deletion():
            delete_again(engine, turn)
        case MovedBack():
            with transaction(engine) as connection:
                move_back(connection, turn.move, turn.undoing)
        case _:
            with transaction(engine) as connection:
                move_series(connection, turn)


def _batches(
    store: ObjectStore, turns: Sequence[Turn], done: Reindexed
) -> Iterator[list[Receipt] | Turn]:
    batch: list[Receipt] = []
    waiting = deque(turns)
    for stat in store.list(OBJECTS):
        try:
            object_id = parse_object_key(stat.key)
        except NotAnObjectKey:
            done.strange += 1
            log.warning("strange_key_in_store", key=stat.key)
            continue
        done.bytes += stat.size
        while waiting and waiting[0].id < object_id:
            if batch:
                yield batch
                batch = []
            yield waiting.popleft()
        batch.append(Receipt(object_id, stat.size))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
    yield from waiting

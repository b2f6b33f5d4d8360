"""Deletes for a person, and what follows: purged when its time has come, or taken back.

    delete     rows hidden, journal entry written, committed together
    purge      object by object: the key out of the store ─▶ the row out of the index
    take back  journal entry ─▶ objects indexed again, some at a time ─▶ ended

The object goes first: a row without its object is found by the next run, an object without its row
would be indexed again by the sweep, or lie there for ever.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Engine

from gantry_archive.indexing import index_batch
from gantry_archive.journal import write_decision
from gantry_archive.reading import ReadingRules
from gantry_domain.deletions import Deletion
from gantry_domain.keys import new_object_id, object_key
from gantry_domain.receipts import Receipt
from gantry_domain.sight import Sight
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import IndexContended, transaction
from gantry_stores.index.deleting import delete
from gantry_stores.index.deletions import (
    DeletedObject,
    begin_purges,
    end_purges,
    end_restorations,
    forget_deleted,
    lock_to_purge_deleted,
    lock_to_restore,
    restorations,
)
from gantry_stores.objects import ObjectNotFound, ObjectStore

log = get_logger(__name__)

_ATTEMPTS = 6
_LONGEST_PAUSE = 0.2
_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be deleted, by whom, and what he may see."""

    sight: Sight
    StudyInstanceUID: str
    SeriesInstanceUID: str | None
    SOPInstanceUID: str | None
    by: str


def delete_subject(store: ObjectStore, engine: Engine, subject: Subject) -> int | None:
    """Delete it; how many instances it was. None: there is no such thing
    to be seen.

    Raises the transient errors of both stores, and nothing is deleted then.
    """
    deletion = Deletion(
        id=new_object_id(),
        partition=subject.sight.partition,
        StudyInstanceUID=subject.StudyInstanceUID,
        SeriesInstanceUID=subject.SeriesInstanceUID,
        SOPInstanceUID=subject.SOPInstanceUID,
        deleted_at=datetime.now(UTC),
        deleted_by=subject.by,
    )
    instances = _attempt(lambda: _delete(store, engine, deletion, subject.sight))
    if instances is not None:
        log.info(
            "deleted",
            deletion=str(deletion.id),
            level=deletion.level,
            instances=instances,
            by=deletion.deleted_by,
        )
    return instances


def delete_again(engine: Engine, deletion: Deletion) -> int | None:
    """Do once more what the journal tells, hidden or not. Raises `IndexUnavailable`."""

    def attempt() -> int | None:
        with transaction(engine) as connection:
            return delete(connection, deletion)

    return _attempt(attempt)


def _delete(store: ObjectStore, engine: Engine, deletion: Deletion, sight: Sight) -> int | None:
    with transaction(engine) as connection:
        instances = delete(connection, deletion, sight=sight)
        if instances is not None:
            # Last, and within: whoever is told of a failure must not find it deleted after a
            # reindex.
            write_decision(store, deletion)
    return instances


def _attempt(work: Callable[[], int | None]) -> int | None:
    for _ in range(_ATTEMPTS - 1):
        try:
            return work()
        except IndexContended:
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - no secret
    return work()


@dataclass(slots=True)
class DeletionsEnded:
    """Objects and bytes purged, objects restored, the studies that these are in, and the deletions
    that ended."""

    purged: int = 0
    purged_bytes: int = 0
    restored: int = 0
    study_pks: set[int] = field(default_factory=set)
    ended: list[Deletion] = field(default_factory=list)


def purge_deleted(
    store: ObjectStore, engine: Engine, *, after: timedelta, seconds: float
) -> DeletionsEnded:
    """Purge what was deleted longer ago than `after`, for about so many seconds.

    Raises the transient errors of both stores.
    """
    done = DeletionsEnded()
    deadline = time.monotonic() + seconds
    with transaction(engine) as connection:
        begin_purges(connection, after=after)
    while time.monotonic() < deadline:
        with transaction(engine) as connection:
            some = lock_to_purge_deleted(connection, limit=_AT_ONCE)
            for each in some:
                store.delete(object_key(each.object_id))
            forget_deleted(connection, [each.object_id for each in some])
        done.purged += len(some)
        done.purged_bytes += sum(each.size for each in some)
        if len(some) < _AT_ONCE:
            break
    with transaction(engine) as connection:
        done.ended = end_purges(connection)
    _tell("deletion_purged", done.ended)
    return done


def restore_deleted(
    store: ObjectStore, engine: Engine, *, rules: ReadingRules, seconds: float
) -> DeletionsEnded:
    """Index again what was taken back, for about so many seconds.

    Raises the transient errors of both stores.
    """
    done = DeletionsEnded()
    deadline = time.monotonic() + seconds
    with transaction(engine) as connection:
        asked = restorations(connection)
    for each in asked:
        write_decision(store, each)
    while time.monotonic() < deadline:
        with transaction(engine) as connection:
            some = lock_to_restore(connection, limit=_AT_ONCE)
        if not some:
            break
        result = index_batch(
            [Receipt(each.object_id, each.size) for each in some],
            store=store,
            engine=engine,
            rules=rules,
            taken_back=True,
        )
        done.study_pks |= result.study_pks
        done.restored += len(result.outcomes)
        if result.vanished:
            _forget_lost(store, engine, some)
    with transaction(engine) as connection:
        done.ended = end_restorations(connection)
    _tell("deletion_restored", done.ended)
    return done


def _forget_lost(store: ObjectStore, engine: Engine, some: Sequence[DeletedObject]) -> None:
    """What the store has lost cannot be restored, and must not be tried for ever."""
    for each in some:
        try:
            store.stat(object_key(each.object_id))
        except ObjectNotFound:
            with transaction(engine) as connection:
                if forget_deleted(connection, [each.object_id]):
                    log.error("restored_object_missing", object=str(each.object_id))


def _tell(event: str, ended: Sequence[Deletion]) -> None:
    for deletion in ended:
        log.info(event, deletion=str(deletion.id), level=deletion.level)

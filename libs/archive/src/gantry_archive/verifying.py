"""Reads every object again: is each there that the index names, and are its bytes as sent?

    store, in the order of its keys ──┐
                                      ├──▶ the same identifiers, some at a time ──▶ Fault
    index, in the order of its rows ──┘

Nothing is written. Gantry may work meanwhile: what comes or is purged then is no fault.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from itertools import islice
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_archive.reading import dataset_sha256
from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.keys import (
    OBJECTS,
    NotAnObjectKey,
    first_object_id,
    object_key,
    parse_object_key,
)
from gantry_domain.sources import WINDOW
from gantry_stores.index.database import transaction
from gantry_stores.index.object_hashes import hashes_between, is_named
from gantry_stores.objects import ObjectNotFound, ObjectStore

_AT_ONCE = 200
_ROWS_AT_ONCE = 1000


class Fault(Enum):
    """What is wrong with an object."""

    MISSING = "missing"
    """The index names it, and the store has it not."""
    CHANGED = "changed"
    """Its bytes are not those that were sent."""


@dataclass(slots=True)
class Verified:
    """What was read so far. `untold`: objects whose hash nobody knows; `strange`: foreign keys."""

    objects: int = 0
    bytes: int = 0
    untold: int = 0
    strange: int = 0


@dataclass(frozen=True, slots=True)
class _Read:
    object_id: UUID
    size: int
    told: frozenset[bytes]
    sha256: bytes | None


def verify(
    store: ObjectStore,
    engine: Engine | None,
    *,
    readers: Executor,
    since: datetime | None = None,
    progress: Callable[[Verified], None] = lambda _done: None,
) -> Iterator[tuple[UUID, Fault]]:
    """The objects that are not as they should be.

    The hash of a data set is compared with what the index says, and with what is kept beside the
    object where the store can. `engine`: None where there is no index; `since`: leaves out what was
    received before (aware). Raises the transient errors of both.
    """
    done = Verified()
    last = first_object_id(since) if since else None
    identifiers = _listed(store, last, done)
    while True:
        chunk = list(islice(identifiers, _AT_ONCE))
        # What the store lists no more of may still be named by the index.
        until = chunk[-1] if len(chunk) == _AT_ONCE else None
        told: dict[UUID, bytes | None] = dict.fromkeys(chunk)
        for rows in _rows(engine, last, until):
            told |= {each: sha256 for each, sha256 in rows.items() if each in told}
            for object_id in rows.keys() - told.keys():
                if _is_missing(store, engine, object_id):
                    yield object_id, Fault.MISSING
        for read in readers.map(partial(_read, store), told.keys(), told.values()):
            if read is None:
                continue
            done.objects += 1
            done.bytes += read.size
            done.untold += not read.told
            if read.sha256 is None or read.told - {read.sha256}:
                yield read.object_id, Fault.CHANGED
        progress(done)
        if until is None:
            return
        last = until


def _listed(store: ObjectStore, after: UUID | None, done: Verified) -> Iterator[UUID]:
    for found in store.list(OBJECTS, after=object_key(after) if after else None):
        try:
            yield parse_object_key(found.key)
        except NotAnObjectKey:
            done.strange += 1


def _rows(
    engine: Engine | None, after: UUID | None, until: UUID | None
) -> Iterator[Mapping[UUID, bytes | None]]:
    """What the index has between two objects, some rows at a time: there may be millions."""
    while engine is not None:
        with transaction(engine) as connection:
            rows = hashes_between(connection, after=after, until=until, limit=_ROWS_AT_ONCE)
        if not rows:
            return
        yield rows
        after = max(rows)


def _read(store: ObjectStore, object_id: UUID, indexed: bytes | None) -> _Read | None:
    """None where it was purged just now."""
    key = object_key(object_id)
    try:
        kept = store.stat(key)
        told = frozenset(each for each in (kept.sha256, indexed) if each is not None)
        try:
            offset = parse_file_meta(store.read(key, 0, WINDOW)).dataset_offset
        except UnreadableObject:  # nothing that we wrote is so
            return _Read(object_id, kept.size, told, None)
        return _Read(object_id, kept.size, told, dataset_sha256(store, key, offset))
    except ObjectNotFound:
        return None


def _is_missing(store: ObjectStore, engine: Engine | None, object_id: UUID) -> bool:
    """Whether the index still names it, and the store still has it not."""
    try:
        store.stat(object_key(object_id))
    except ObjectNotFound:
        assert engine is not None
        with transaction(engine) as connection:
            return is_named(connection, object_id)
    return False

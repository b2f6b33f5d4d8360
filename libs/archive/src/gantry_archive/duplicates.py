"""Purges objects whose data set another object holds byte for byte.

    verify the kept object: read it again, hash it ─▶ delete the key ─▶ delete the row
        └ it is lost: write it anew, of the bytes that were sent again

Dying between any two steps is made good by the next run: deleting an absent key is no error,
and what is lost stays lost until all of it is written.
"""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_archive.reading import dataset_sha256
from gantry_domain.keys import object_key
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.index.purging import (
    SameBytes,
    forget,
    lay_out_as,
    lock_to_purge,
    note_damage,
    same_bytes,
)
from gantry_stores.objects import ObjectExists, ObjectNotFound, ObjectStore

log = get_logger(__name__)

_PAGE = 100


@dataclass(slots=True)
class Purged:
    """How many objects and bytes are gone, and how many stay because the kept one is damaged.

    `restored`: lost ones that have got their bytes back from what was sent again.
    """

    objects: int = 0
    bytes: int = 0
    doubtful: int = 0
    restored: int = 0


def purge_duplicates(store: ObjectStore, engine: Engine, *, limit: int = 1000) -> Purged:
    """Purge at most `limit` objects. Raises the transient errors of both stores."""
    purged = Purged()
    sound: dict[UUID, bool] = {}
    after: UUID | None = None
    while limit > 0:
        with transaction(engine) as connection:
            page = same_bytes(connection, after=after, limit=min(limit, _PAGE))
        if not page:
            break
        for found in page:
            if found.kept_id not in sound and _is_there(store, engine, found, purged):
                sound[found.kept_id] = _verified(store, engine, found)
            if not sound.get(found.kept_id):
                purged.doubtful += 1
            elif _purge(store, engine, found):
                purged.objects += 1
                purged.bytes += found.size
        after = page[-1].object_id
        limit -= len(page)
    return purged


def _is_there(store: ObjectStore, engine: Engine, found: SameBytes, purged: Purged) -> bool:
    """Whether the store has the kept object, or has it again."""
    try:
        store.stat(object_key(found.kept_id))
    except ObjectNotFound:
        restored = found.kept_sha256 == found.sha256 and _restored(store, engine, found)
        purged.restored += restored
        # It is read again in the next run.
        return False
    return True


def _verified(store: ObjectStore, engine: Engine, found: SameBytes) -> bool:
    """Whether the kept object, read again, has the bytes that both were received with."""
    try:
        digest = dataset_sha256(store, object_key(found.kept_id), found.kept_dataset_offset)
    except ObjectNotFound:
        return False
    if digest == found.kept_sha256 == found.sha256:
        return True
    log.error("stored_bytes_differ", object=str(found.kept_id), copy=str(found.object_id))
    with transaction(engine) as connection:
        note_damage(connection, [found.kept_id])
    return False


def _restored(store: ObjectStore, engine: Engine, found: SameBytes) -> bool:
    """Whether the lost object is written anew, of the bytes of its copy."""
    # Before the file is there: so one that is there always lies as its row says.
    with transaction(engine) as connection:
        lay_out_as(connection, found)
    key, copy = object_key(found.kept_id), object_key(found.object_id)
    digest = hashlib.sha256()
    writer = store.create(key)
    try:
        writer.write([store.read(copy, 0, found.dataset_offset)])
        for chunk in store.chunks(copy, found.dataset_offset):
            digest.update(chunk)
            writer.write([chunk])
        if digest.digest() == found.sha256:
            writer.commit(sha256=found.sha256)
            log.warning(
                "lost_object_restored", object=str(found.kept_id), copy=str(found.object_id)
            )
            return True
    except (ObjectNotFound, ObjectExists):
        pass  # the copy is lost too, or somebody else was faster
    finally:
        writer.abort()
    log.error("lost_object_not_restored", object=str(found.kept_id), copy=str(found.object_id))
    return False


def _purge(store: ObjectStore, engine: Engine, found: SameBytes) -> bool:
    with transaction(engine) as connection:
        if not lock_to_purge(connection, found):
            return False
        store.delete(object_key(found.object_id))
        forget(connection, found.object_id)
    log.info("duplicate_purged", object=str(found.object_id), kept=str(found.kept_id))
    return True

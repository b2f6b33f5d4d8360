"""Compares stored objects of one SOP Instance UID, outside any transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from gantry_archive.decoding import same_pixels
from gantry_domain.comparison import ContentDigest, Relation, digest, relate, relate_decoded
from gantry_domain.duplicates import Pair
from gantry_domain.entries import Entry
from gantry_domain.errors import UnreadableObject
from gantry_domain.keys import object_key
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.objects import ObjectNotFound, ObjectStore

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where an object's content is."""

    key: str
    size: int
    dataset_offset: int
    transfer_syntax: str


def compare(
    pairs: Iterable[Pair], *, store: ObjectStore, engine: Engine, entries: Sequence[Entry]
) -> dict[Pair, Relation]:
    """The relation of each pair; never `NEEDS_DECODING`.

    `entries` are objects that may have no row yet. What cannot be read, decoded or found is in
    conflict: it is kept and nothing is replaced by it. Raises the transient errors of both stores.
    """
    pairs = tuple(pairs)
    stored = _stored(engine, {object_id for pair in pairs for object_id in pair}, entries)
    digests: dict[UUID, ContentDigest | None] = {}
    for object_id, place in stored.items():
        digests[object_id] = _digest(store, place)
    relations = {}
    for one, other in pairs:
        first, second = digests.get(one), digests.get(other)
        relation = relate(first, second) if first and second else Relation.CONFLICT
        if relation is Relation.NEEDS_DECODING:
            assert first is not None
            assert second is not None
            same = same_pixels(store, stored[one].key, stored[other].key)
            relation = relate_decoded(first, second, same_pixels=same)
        log.info(
            "objects_compared", object=str(other), with_object=str(one), relation=relation.name
        )
        relations[one, other] = relation
    return relations


def _stored(engine: Engine, wanted: set[UUID], entries: Sequence[Entry]) -> dict[UUID, _Stored]:
    stored = {
        entry.object_id: _Stored(
            object_key(entry.object_id), entry.size, entry.dataset_offset, entry.TransferSyntaxUID
        )
        for entry in entries
        if entry.object_id in wanted
    }
    with transaction(engine) as connection:
        rows = connection.execute(
            sa.text(
                "SELECT id, size, dataset_offset, transfer_syntax_uid FROM object"
                " WHERE id = ANY(:ids)"
            ),
            {"ids": list(wanted - stored.keys())},
        )
        stored |= {
            row.id: _Stored(
                object_key(row.id), row.size, row.dataset_offset, row.transfer_syntax_uid
            )
            for row in rows
        }
    return stored


def _digest(store: ObjectStore, place: _Stored) -> ContentDigest | None:
    def fetch(offset: int, length: int) -> bytes:
        return store.read(place.key, offset, length)

    try:
        return digest(
            fetch,
            size=place.size,
            dataset_offset=place.dataset_offset,
            transfer_syntax=place.transfer_syntax,
        )
    except (UnreadableObject, ObjectNotFound) as error:
        log.warning("object_not_comparable", key=place.key, exc_info=error)
        return None

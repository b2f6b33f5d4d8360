"""Finds the frames of objects, so that one is read later without looking into its object.

with the header:  native frames, and one frame in fragments that end where the object ends
in a second task: all others, from one pass over the object
"""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_domain.errors import UnreadableObject
from gantry_domain.frame_table import FrameTable, frame_table
from gantry_domain.header import Header, read_header
from gantry_domain.keys import object_key
from gantry_domain.sources import Onwards
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.index.frame_tables import due, encode_frames, write_frames
from gantry_stores.objects import ObjectNotFound, ObjectStore

log = get_logger(__name__)

_PAGE = 20


class _Beyond(Exception):
    """Bytes are wanted that were not read."""


def frames_within(first: bytes, header: Header, *, size: int) -> bytes | None:
    """The stored form of an object's frame table, if its `first` bytes tell; else None.

    `size`: of the whole object, in bytes.
    """

    def fetch(offset: int, length: int) -> bytes:
        if offset + length > len(first) < size:
            raise _Beyond
        return first[offset : offset + length]

    try:
        return encode_frames(frame_table(fetch, header, end=size))
    except _Beyond:
        return None


def find_frames(store: ObjectStore, engine: Engine, *, go_on: Callable[[], bool]) -> int:
    """Make the tables that are due, while `go_on`; returns how many were made.

    Twice to the same effect. Raises the transient errors of both stores.
    """
    made = 0
    after: UUID | None = None
    while True:
        with transaction(engine) as connection:
            page = due(connection, after=after, limit=_PAGE)
        for object_id, size in page:
            if not go_on():
                return made
            try:
                frames = encode_frames(_table(store, object_id, size))
            except ObjectNotFound:
                continue  # it stays due, for it may be brought back
            with transaction(engine) as connection:
                write_frames(connection, object_id, frames)
            made += 1
        if not page:
            return made
        after = page[-1][0]


def _table(store: ObjectStore, object_id: UUID, size: int) -> FrameTable | None:
    key = object_key(object_id)
    try:
        header = read_header(lambda offset, length: store.read(key, offset, length), size=size)
        offset = header.pixel_data.offset if header.pixel_data is not None else 0
        return frame_table(Onwards(store.chunks(key, offset), base=offset), header, end=size)
    except UnreadableObject:
        return None
    except MemoryError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        # One object that is not understood must not hold up the others.
        log.exception("frames_not_understood", object=str(object_id), exc_info=error)
        return None

"""The stored form of a frame table, beside the header of its object, and those still to be made.

The first byte names the form:

    N  frames of one length, one after another: their number, the first one's offset and length,
       bits, word
    F  fragments: Zstandard over JSON, for each frame [gap, length, gap, length ...], where a gap
       counts from the end of the piece before it
    U  the frames cannot be told apart
"""

import struct
from collections.abc import Sequence
from uuid import UUID

import orjson
import sqlalchemy as sa
import zstandard
from sqlalchemy.engine import Connection

from gantry_domain.errors import PermanentError
from gantry_domain.frame_table import FrameTable, Place

_NATIVE = struct.Struct("<cQQQQB")
_IN_A_ROW = b"N"
_FRAGMENTS = b"F"
_UNKNOWN = b"U"
_LEVEL = 3
_LARGEST = 64 * 2**20  # bytes of JSON; what is read back must not be able to fill memory


class UnreadableFrames(PermanentError):
    """A stored frame table of an unknown form, or damaged."""


def encode_frames(table: FrameTable | None) -> bytes:
    """The stored form; None is a table that cannot be made."""
    if table is None:
        return _UNKNOWN
    if not table.fragments:
        return _NATIVE.pack(_IN_A_ROW, table.number, *table.first, table.bits, table.word)
    frames: list[list[int]] = []
    end = 0
    for pieces in table.fragments:
        row: list[int] = []
        for offset, length in pieces:
            row += (offset - end, length)
            end = offset + length
        frames.append(row)
    return _FRAGMENTS + zstandard.ZstdCompressor(level=_LEVEL).compress(orjson.dumps(frames))


def decode_frames(data: bytes) -> FrameTable | None:
    """The table; None if none can be made. Raises `UnreadableFrames`."""
    if data == _UNKNOWN:
        return None
    try:
        if data[:1] == _FRAGMENTS:
            return _fragments(data[1:])
        form, number, offset, length, bits, word = _NATIVE.unpack(data)
    except (struct.error, ValueError, zstandard.ZstdError) as error:
        raise UnreadableFrames("a stored frame table is damaged") from error
    if form != _IN_A_ROW:
        raise UnreadableFrames("a stored frame table has an unknown form")
    return FrameTable(number, (offset, length), bits, word)


def _fragments(data: bytes) -> FrameTable:
    if zstandard.get_frame_parameters(data).content_size > _LARGEST:
        raise ValueError("larger than any that is written")
    frames: list[tuple[Place, ...]] = []
    end = 0
    for row in orjson.loads(zstandard.ZstdDecompressor().decompress(data)):
        pieces: list[Place] = []
        for gap, length in zip(row[::2], row[1::2], strict=True):
            pieces.append((end + gap, length))
            end += gap + length
        frames.append(tuple(pieces))
    return FrameTable(len(frames), fragments=tuple(frames))


def stored_frames(connection: Connection, object_id: UUID) -> bytes | None:
    """The stored form of an object's table; None if it is still due, or was never made."""
    data: bytes | None = connection.scalar(
        sa.text("SELECT frames FROM header WHERE object_id = :id"), {"id": object_id}
    )
    return data


def write_due(connection: Connection, object_ids: Sequence[UUID]) -> None:
    """Note objects whose table takes more than their header, in the transaction of their rows."""
    if object_ids:
        connection.execute(
            sa.text("INSERT INTO frames_due (object_id) SELECT unnest(CAST(:ids AS uuid[]))"),
            {"ids": list(object_ids)},
        )


def due(connection: Connection, *, after: UUID | None, limit: int) -> list[tuple[UUID, int]]:
    """The first objects after `after` whose table is to be made, each with its size in bytes."""
    rows = connection.execute(
        sa.text(
            "SELECT o.id, o.size FROM frames_due d JOIN object o ON o.id = d.object_id"
            " WHERE CAST(:after AS uuid) IS NULL OR d.object_id > CAST(:after AS uuid)"
            " ORDER BY d.object_id LIMIT :limit"
        ),
        {"after": after, "limit": limit},
    )
    return [(row.id, row.size) for row in rows]


def write_frames(connection: Connection, object_id: UUID, frames: bytes) -> None:
    """Keep the stored form of an object's table, which is due no more."""
    asked = {"id": object_id, "frames": frames}
    connection.execute(sa.text("UPDATE header SET frames = :frames WHERE object_id = :id"), asked)
    connection.execute(sa.text("DELETE FROM frames_due WHERE object_id = :id"), asked)

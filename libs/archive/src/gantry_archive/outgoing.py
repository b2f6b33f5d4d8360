"""A stored object as it goes out of the house: as stored, or with what people corrected since.

Every door reads instances through `outgoing`: web, C-MOVE, C-GET and deliveries. What nobody
corrected is read from the store directly. What is corrected has a new beginning, made from its
header, and its pixel data stream from the store as ever.
"""

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

from gantry_archive.unnamed_file import UnnamedFile
from gantry_domain.corrected_data_set import Piece, corrected_pieces
from gantry_domain.elements import walk_dataset
from gantry_domain.keys import object_key
from gantry_domain.little_endian import CHUNK
from gantry_domain.sources import Inflated
from gantry_domain.transfer_syntaxes import DEFLATED
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.objects import ObjectStore


class Outgoing(Protocol):
    """A DICOM file (PS3.10) to be read in any order: `size` in bytes, where its data set begins."""

    @property
    def size(self) -> int:
        """Bytes of the whole file."""

    @property
    def dataset_offset(self) -> int:
        """Bytes of preamble and file meta information."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there, fewer at the end. Raises `ObjectNotFound`, `StoreUnavailable`."""

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """All from there on. Raises as `read` does, where it is stored as it is at once."""


def outgoing(stored: StoredObject, *, store: ObjectStore) -> Outgoing:
    """The object with its corrections.

    Raises, of a corrected one, `ObjectNotFound`, `StoreUnavailable`, and `UnreadableObject` where
    it cannot be walked: what is corrected goes out with its corrections or not at all.
    """
    if stored.content is not None:
        return _Made(stored.content)
    if not stored.corrections:
        return _AsStored(stored, store)
    if stored.TransferSyntaxUID in DEFLATED:
        return _deflated(stored, store)
    pieces = _pieces(stored, store)
    return _Corrected([(0, stored.dataset_offset), *pieces], stored, store)


def _pieces(stored: StoredObject, store: ObjectStore) -> list[Piece]:
    fetch = partial(store.read, object_key(stored.object_id))
    deflated = stored.TransferSyntaxUID in DEFLATED
    return corrected_pieces(
        lambda: walk_dataset(
            fetch,
            size=stored.size,
            dataset_offset=stored.dataset_offset,
            transfer_syntax=stored.TransferSyntaxUID,
        ),
        stored.corrections,
        start=0 if deflated else stored.dataset_offset,
    )


class _AsStored:
    """What nobody corrected."""

    __slots__ = ("_key", "_store", "dataset_offset", "size")

    def __init__(self, stored: StoredObject, store: ObjectStore) -> None:
        self._store = store
        self._key = object_key(stored.object_id)
        self.size = stored.size
        self.dataset_offset = stored.dataset_offset

    def read(self, offset: int, length: int) -> bytes:
        return self._store.read(self._key, offset, length)

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        return self._store.chunks(self._key, offset)


class _Made:
    """What is in no store: a data set without a head."""

    __slots__ = ("_content", "dataset_offset", "size")

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)
        self.dataset_offset = 0

    def read(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        yield self._content[offset:]


class _Corrected:
    """New bytes between ranges of what is stored."""

    def __init__(self, pieces: Sequence[Piece], stored: StoredObject, store: ObjectStore) -> None:
        self._store = store
        self._key = object_key(stored.object_id)
        self._stored_size = stored.size
        self._pieces = pieces
        self._starts: list[int] = []
        self.size = 0
        for piece in pieces:
            self._starts.append(self.size)
            self.size += self._length(piece)
        self.dataset_offset = stored.dataset_offset

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(self._read(offset, min(offset + length, self.size), CHUNK))

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        yield from self._read(offset, self.size, CHUNK)

    def _read(self, offset: int, end: int, most: int) -> Iterator[bytes]:
        number = bisect_right(self._starts, offset) - 1
        while offset < end:
            piece, start = self._pieces[number], self._starts[number]
            stop = min(end, start + self._length(piece))
            if isinstance(piece, bytes):
                yield piece[offset - start : stop - start]
            else:
                first = piece[0] + offset - start
                yield from self._store.chunks(self._key, first, stop - offset, most)
            offset = stop
            number += 1

    def _length(self, piece: Piece) -> int:
        if isinstance(piece, bytes):
            return len(piece)
        start, end = piece
        return (self._stored_size if end is None else end) - start


def _deflated(stored: StoredObject, store: ObjectStore) -> UnnamedFile:
    """A deflated data set, made anew: where what is in it cannot be told from the place of what is
    stored."""
    key = object_key(stored.object_id)
    file = UnnamedFile(dataset_offset=stored.dataset_offset)
    file.write(store.read(key, 0, stored.dataset_offset))
    inflated = Inflated(partial(store.read, key), dataset_offset=stored.dataset_offset)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    for piece in _pieces(stored, store):
        for chunk in [piece] if isinstance(piece, bytes) else _range(inflated, *piece):
            file.write(packer.compress(chunk))
    file.write(packer.flush())
    file.write(b"\0" * ((file.size - file.dataset_offset) % 2))  # PS3.5 A.5
    return file


def _range(inflated: Inflated, start: int, end: int | None) -> Iterator[bytes]:
    while end is None or start < end:
        chunk = inflated(start, CHUNK if end is None else min(CHUNK, end - start))
        if not chunk:
            return
        yield chunk
        start += len(chunk)

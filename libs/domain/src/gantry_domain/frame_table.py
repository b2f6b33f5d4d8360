"""Where the frames of an object are (PS3.5 8, A.4), so that one is read without the others.

Offset tables are often empty or wrong, and fragments are not frames: what a table says is believed
only where fragments begin there.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct, unpack

from gantry_domain.header import Header
from gantry_domain.sources import Fetch, Window

_ITEM = Struct("<HHL")
_ITEM_TAG = (0xFFFE, 0xE000)
MOST_FRAGMENTS = 1_000_000
# Of a fragment, besides its head: how it begins.
_LOOKED_AT = 12
# JPEG's start of image, that of a JPEG 2000 codestream, and JPEG XL's.
_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\x0a")
_WINDOW = 4096

Place = tuple[int, int]
"""Offset and length, in bytes."""


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Where each of `number` frames is, in offsets as those of `PixelDataLocation`.

    Native frames follow the `first` one, each as long. Where `bits` is not 0 they do not begin at
    bytes: `first` is all of them, and each has so many bits of it. `fragments` has the pieces of
    each frame where pixel data are encapsulated.
    """

    number: int = 0
    first: Place = (0, 0)
    bits: int = 0
    word: int = 1
    """Bytes of a word, which big endian holds the other way round."""
    fragments: tuple[tuple[Place, ...], ...] = ()

    def pieces(self, frame: int) -> tuple[Place, ...]:
        """The pieces of a frame, counted from 1."""
        if self.fragments:
            return self.fragments[frame - 1]
        offset, length = self.first
        return ((offset + (0 if self.bits else (frame - 1) * length), length),)


def frame_table(fetch: Fetch, header: Header, *, end: int | None = None) -> FrameTable | None:
    """The table of an object whose header was read; None if its frames cannot be told apart.

    `end`: where the object ends, if that is known; nothing is then read behind the last fragment.
    Of encapsulated pixel data each fragment's head is fetched, onwards; of others nothing is.
    """
    pixels = header.pixel_data
    if pixels is None:
        return FrameTable()
    count = _number(header, "NumberOfFrames") or 1
    if pixels.length is None:
        fragments = _fragments(fetch, pixels.offset, end)
        frames = _grouped(fragments, count) if fragments is not None else None
        return FrameTable(count, fragments=frames) if frames is not None else None
    bits = _bits_of_frame(header)
    if bits is None or bits * count > pixels.length * 8:
        return None
    word = max(1, (_number(header, "BitsAllocated") or 8) // 8) if pixels.vr != "OB" else 1
    if bits % 8 and count > 1:
        return FrameTable(count, (pixels.offset, pixels.length), bits, word)
    return FrameTable(count, (pixels.offset, -(-bits // 8)), 0, word)


def _number(header: Header, keyword: str) -> int | None:
    value = header.number(keyword)
    return int(value) if value is not None and value >= 1 else None


def _bits_of_frame(header: Header) -> int | None:
    rows, columns = _number(header, "Rows"), _number(header, "Columns")
    allocated = _number(header, "BitsAllocated")
    if rows is None or columns is None or allocated is None:
        return None
    bits = rows * columns * allocated * (_number(header, "SamplesPerPixel") or 1)
    # Two pixels share their chrominance (PS3.3 C.7.6.3.1.2).
    subsampled = header.text("PhotometricInterpretation") in ("YBR_FULL_422", "YBR_PARTIAL_422")
    return bits * 2 // 3 if subsampled else bits


@dataclass(frozen=True, slots=True)
class _Fragments:
    """All fragments, how each begins, and the basic offset table as far as it is one."""

    places: list[Place]
    starts: list[bool]
    table: tuple[int, ...]


def _fragments(fetch: Fetch, offset: int, end: int | None) -> _Fragments | None:
    window = Window(fetch, size=_WINDOW)
    places: list[Place] = []
    starts: list[bool] = []
    table: tuple[int, ...] | None = None
    # What is no longer than an item's head is the sequence delimitation item.
    while len(places) < MOST_FRAGMENTS and (end is None or offset + _ITEM.size < end):
        head = window.read(offset, _ITEM.size + _LOOKED_AT)
        if len(head) < _ITEM.size:
            break
        group, element, length = _ITEM.unpack_from(head)
        if (group, element) != _ITEM_TAG:
            break
        offset += _ITEM.size
        if table is None:
            content = fetch(offset, length) if 0 < length <= 8 * MOST_FRAGMENTS else b""
            table = unpack(f"<{len(content) // 4}L", content[: len(content) // 4 * 4])
        elif length:
            places.append((offset, length))
            starts.append(head[_ITEM.size :].startswith(_STARTS))
        offset += length
    return _Fragments(places, starts, table or ()) if places else None


def _grouped(found: _Fragments, count: int) -> tuple[tuple[Place, ...], ...] | None:
    """The fragments of each frame."""
    places = found.places
    if count == 1:
        return (tuple(places),)
    if len(places) == count:
        return tuple((place,) for place in places)
    # Offsets count from the first fragment's head.
    first = places[0][0] - _ITEM.size
    begins = [offset - _ITEM.size - first for offset, _ in places]
    at_table = [bisect_left(begins, offset) for offset in found.table]
    if (
        len(at_table) == count
        and all(
            n < len(begins) and begins[n] == o for n, o in zip(at_table, found.table, strict=True)
        )
        and at_table == sorted(set(at_table))
        and at_table[0] == 0
    ):
        return _cut(places, at_table)
    at_starts = [n for n, starts in enumerate(found.starts) if starts]
    if len(at_starts) == count and at_starts[0] == 0:
        return _cut(places, at_starts)
    return None


def _cut(places: list[Place], firsts: Sequence[int]) -> tuple[tuple[Place, ...], ...]:
    ends = [*firsts[1:], len(places)]
    return tuple(tuple(places[start:stop]) for start, stop in zip(firsts, ends, strict=True))

"""A stored data set as Explicit VR Little Endian, for the web and for peers that want it so.

From Implicit VR LE, Explicit VR BE and the deflated syntaxes (PS3.18 8.7.3 forbids the first two
on web services). Streaming: sequences get undefined lengths, values pass in chunks. Encapsulated
pixel data are not decoded; native ones keep their values.
"""

from collections.abc import Iterator
from struct import Struct

from gantry_domain.bulk_data import without_bulk_data
from gantry_domain.elements import (
    ELEMENT,
    FRAGMENT,
    FRAGMENTS_START,
    ITEM_END,
    ITEM_START,
    SEQUENCE_START,
    UNDEFINED,
    Event,
    Walk,
    walk_dataset,
)
from gantry_domain.little_endian import (
    CHUNK,
    CLOSED_ITEM,
    CLOSED_SEQUENCE,
    HEAD_WITHOUT_VR,
    OPENED_ITEM,
    joined,
    value_pieces,
)
from gantry_domain.sources import Fetch
from gantry_domain.value_representations import (
    LONG_VRS,
    LUT_DESCRIPTOR,
    PIXEL_DATA_TAGS,
    PIXEL_REPRESENTATION,
    US_OR_OW,
    US_OR_SS,
)

_LONGEST_SHORT = 0xFFFE
_SHORT_HEAD = Struct("<HH2sH").pack
_LONG_HEAD = Struct("<HH2sHL").pack


def explicit_little_endian(
    fetch: Fetch, *, size: int, dataset_offset: int, transfer_syntax: str, bulk_data: bool = True
) -> Iterator[bytes]:
    """The data set of a stored object of `size` bytes in Explicit VR Little Endian (PS3.5 A.2).

    Yields bytes of up to about a megabyte. VRs come from the data dictionary where they are not
    given, `UN` for what it does not know; group lengths are left out; odd values are padded;
    values over 64 KiB of a VR with a short length become `UN` (PS3.5 6.2.2). Where the object is
    cut or broken (see the findings of its header) the result ends in good order before that
    place. Without `bulk_data` it lacks what PS3.4 Z.1.3 says. Raises `UnreadableObject` as the walk
    does, perhaps after the first bytes.
    """
    walk = _walk(fetch, size, dataset_offset, transfer_syntax)
    if walk.explicit and walk.little and bulk_data:
        yield from _as_it_is(walk, start=0 if walk.end is None else dataset_offset)
        return
    context = VRContext(
        root_pixel_representation(_walk(fetch, size, dataset_offset, transfer_syntax))
    )
    events = iter(walk) if bulk_data else without_bulk_data(walk)
    yield from joined(_pieces(walk, events, context))


def _walk(fetch: Fetch, size: int, dataset_offset: int, transfer_syntax: str) -> Walk:
    return walk_dataset(
        fetch, size=size, dataset_offset=dataset_offset, transfer_syntax=transfer_syntax
    )


def _as_it_is(walk: Walk, *, start: int) -> Iterator[bytes]:
    """Inflated bytes, or those of an object that was Explicit VR LE all the time."""
    offset = start
    while True:
        wanted = CHUNK if walk.end is None else min(CHUNK, walk.end - offset)
        chunk = walk.window.read(offset, wanted) if wanted else b""
        if not chunk:
            return
        yield chunk
        offset += len(chunk)


class VRContext:
    """What decides the VRs that the dictionary leaves open: the nearest element that does.

    It is told of each item that opens and closes, and of each element (`note`).
    """

    def __init__(self, root_pixel_representation: int) -> None:
        self._pixel_representations = [root_pixel_representation]
        self._lut_lengths = [0]

    def open_item(self) -> None:
        """An item of a sequence begins."""
        self._pixel_representations.append(self._pixel_representations[-1])
        self._lut_lengths.append(self._lut_lengths[-1])

    def close_item(self) -> None:
        """It ends."""
        self._pixel_representations.pop()
        self._lut_lengths.pop()

    def note(self, walk: Walk, tag: int, offset: int, length: int) -> None:
        """An element comes, which may decide those after it."""
        if tag not in _DECIDING or not length:
            return
        value = _number(walk, offset)
        if tag == PIXEL_REPRESENTATION:
            self._pixel_representations[-1] = value
        else:
            self._lut_lengths[-1] = value

    def decide(self, vr: str) -> str:
        """PS3.5 Annex A; LUT Data with one entry are a number (PS3.3 C.11.1.1)."""
        if vr == US_OR_SS:
            return "SS" if self._pixel_representations[-1] == 1 else "US"
        if vr == US_OR_OW:
            return "US" if self._lut_lengths[-1] == 1 else "OW"
        return vr


_DECIDING = frozenset((PIXEL_REPRESENTATION, LUT_DESCRIPTOR))


def root_pixel_representation(walk: Walk) -> int:
    """Whether the pixels of a data set are signed, for its `VRContext`.

    Elements of undecided VR may stand before the one that decides them.
    """
    depth = 0
    for kind, tag, _, offset, length in walk:
        if kind in (SEQUENCE_START, ITEM_START, FRAGMENTS_START):
            walk.skip_sequence()
            depth += 1
        elif kind not in (ELEMENT, FRAGMENT):
            depth -= 1
        if not depth and tag >= PIXEL_REPRESENTATION:
            return _number(walk, offset) if tag == PIXEL_REPRESENTATION and length else 0
    return 0


def _number(walk: Walk, offset: int) -> int:
    return int.from_bytes(walk.window.read(offset, 2), "little" if walk.little else "big")


def _pieces(walk: Walk, events: Iterator[Event], context: VRContext) -> Iterator[bytes]:
    for kind, tag, vr, offset, length in events:
        if kind == ELEMENT:
            if tag & 0xFFFF == 0:
                continue  # group length, PS3.5 7.2
            context.note(walk, tag, offset, length)
            yield from element_pieces(walk, tag, context.decide(vr), offset, length)
        elif kind in (SEQUENCE_START, FRAGMENTS_START):
            raw_vr = b"SQ" if kind == SEQUENCE_START else b"OB"
            yield _LONG_HEAD(tag >> 16, tag & 0xFFFF, raw_vr, 0, UNDEFINED)
        elif kind == ITEM_START:
            context.open_item()
            yield OPENED_ITEM
        elif kind == ITEM_END:
            context.close_item()
            yield CLOSED_ITEM
        elif kind == FRAGMENT:
            yield HEAD_WITHOUT_VR(0xFFFE, 0xE000, length + length % 2)
            yield from value_pieces(walk, "OB", offset, length)
        else:
            yield CLOSED_SEQUENCE


def element_pieces(walk: Walk, tag: int, vr: str, offset: int, length: int) -> Iterator[bytes]:
    """An element with its value."""
    if tag in PIXEL_DATA_TAGS and walk.end is not None:
        length = min(length, walk.end - offset)
    yield element_head(tag, vr, length + length % 2)
    yield from value_pieces(walk, vr, offset, length)


def element_head(tag: int, vr: str, length: int) -> bytes:
    """What goes before a value of this even length (PS3.5 7.1.2), or of `UNDEFINED` length."""
    if vr in LONG_VRS:
        return _LONG_HEAD(tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    if length <= _LONGEST_SHORT:
        return _SHORT_HEAD(tag >> 16, tag & 0xFFFF, vr.encode(), length)
    return _LONG_HEAD(tag >> 16, tag & 0xFFFF, b"UN", 0, length)

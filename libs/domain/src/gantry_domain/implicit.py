"""A stored data set as Implicit VR Little Endian, for peers that take nothing else.

It is the default transfer syntax (PS3.5 10.1), so every peer takes it. Streaming, as
`gantry_domain.reencode`: sequences get undefined lengths, group lengths are left out.
"""

from collections.abc import Iterator
from struct import Struct

from gantry_domain.elements import (
    ELEMENT,
    FRAGMENT,
    FRAGMENTS_START,
    ITEM_END,
    ITEM_START,
    SEQUENCE_START,
    UNDEFINED,
    Walk,
    walk_dataset,
)
from gantry_domain.errors import UnreadableObject
from gantry_domain.json_model import little_endian
from gantry_domain.sources import Fetch
from gantry_domain.value_representations import BINARY_VRS, PIXEL_DATA_TAGS, WORD_SIZES

_CHUNK = 1024 * 1024  # a multiple of every word size
_OUTPUT = 64 * 1024
_HEAD = Struct("<HHL").pack
_ITEM_START = _HEAD(0xFFFE, 0xE000, UNDEFINED)
_ITEM_END = _HEAD(0xFFFE, 0xE00D, 0)
_SEQUENCE_END = _HEAD(0xFFFE, 0xE0DD, 0)
_PADDED_WITH_NUL = BINARY_VRS | {"UI"}


def implicit_little_endian(
    fetch: Fetch, *, size: int, dataset_offset: int, transfer_syntax: str
) -> Iterator[bytes]:
    """The data set of a stored object of `size` bytes in Implicit VR Little Endian (PS3.5 A.1).

    Yields bytes of up to about a megabyte. Raises `UnreadableObject` as the walk does, and
    `encapsulated_pixel_data`, perhaps after the first bytes: such pixels must be decoded before.
    """
    walk = walk_dataset(
        fetch, size=size, dataset_offset=dataset_offset, transfer_syntax=transfer_syntax
    )
    output: list[bytes] = []
    waiting = 0
    for piece in _pieces(walk):
        output.append(piece)
        waiting += len(piece)
        if waiting >= _OUTPUT:
            yield b"".join(output)
            output.clear()
            waiting = 0
    if output:
        yield b"".join(output)


def _pieces(walk: Walk) -> Iterator[bytes]:
    for kind, tag, vr, offset, length in walk:
        if kind == ELEMENT:
            if tag & 0xFFFF:  # not a group length, PS3.5 7.2
                yield from _element(walk, tag, vr, offset, length)
        elif kind == SEQUENCE_START:
            yield _HEAD(tag >> 16, tag & 0xFFFF, UNDEFINED)
        elif kind == ITEM_START:
            yield _ITEM_START
        elif kind == ITEM_END:
            yield _ITEM_END
        elif kind in (FRAGMENTS_START, FRAGMENT):
            raise UnreadableObject("encapsulated_pixel_data")
        else:
            yield _SEQUENCE_END


def _element(walk: Walk, tag: int, vr: str, offset: int, length: int) -> Iterator[bytes]:
    if tag in PIXEL_DATA_TAGS and walk.end is not None:
        length = min(length, walk.end - offset)
    yield _HEAD(tag >> 16, tag & 0xFFFF, length + length % 2)
    swap = not walk.little and WORD_SIZES.get(vr, 1) > 1
    end = offset + length
    while offset < end:
        chunk = walk.window.read(offset, min(_CHUNK, end - offset))
        if not chunk:
            return
        yield little_endian(chunk, vr) if swap else chunk
        offset += len(chunk)
    if length % 2:
        yield b"\0" if vr in _PADDED_WITH_NUL or vr in WORD_SIZES else b" "

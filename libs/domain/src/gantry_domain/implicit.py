"""A stored data set as Implicit VR Little Endian, for peers that take nothing else.

It is the default transfer syntax (PS3.5 10.1), so every peer takes it. Streaming, as
`gantry_domain.reencode`: sequences get undefined lengths, group lengths are left out.
"""

from collections.abc import Iterator

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
from gantry_domain.errors import UnreadableObject
from gantry_domain.little_endian import (
    CLOSED_ITEM,
    CLOSED_SEQUENCE,
    HEAD_WITHOUT_VR,
    OPENED_ITEM,
    joined,
    value_pieces,
)
from gantry_domain.sources import Fetch
from gantry_domain.value_representations import PIXEL_DATA_TAGS


def implicit_little_endian(
    fetch: Fetch, *, size: int, dataset_offset: int, transfer_syntax: str, bulk_data: bool = True
) -> Iterator[bytes]:
    """The data set of a stored object of `size` bytes in Implicit VR Little Endian (PS3.5 A.1).

    Yields bytes of up to about a megabyte. Raises `UnreadableObject` as the walk does, and
    `encapsulated_pixel_data`, perhaps after the first bytes: such pixels must be decoded before.
    Without `bulk_data` the data set lacks what PS3.4 Z.1.3 says.
    """
    walk = walk_dataset(
        fetch, size=size, dataset_offset=dataset_offset, transfer_syntax=transfer_syntax
    )
    events = iter(walk) if bulk_data else without_bulk_data(walk)
    yield from joined(_pieces(walk, events))


def _pieces(walk: Walk, events: Iterator[Event]) -> Iterator[bytes]:
    for kind, tag, vr, offset, length in events:
        if kind == ELEMENT:
            if tag & 0xFFFF:  # not a group length, PS3.5 7.2
                yield from _element(walk, tag, vr, offset, length)
        elif kind == SEQUENCE_START:
            yield HEAD_WITHOUT_VR(tag >> 16, tag & 0xFFFF, UNDEFINED)
        elif kind == ITEM_START:
            yield OPENED_ITEM
        elif kind == ITEM_END:
            yield CLOSED_ITEM
        elif kind in (FRAGMENTS_START, FRAGMENT):
            raise UnreadableObject("encapsulated_pixel_data")
        else:
            yield CLOSED_SEQUENCE


def _element(walk: Walk, tag: int, vr: str, offset: int, length: int) -> Iterator[bytes]:
    if tag in PIXEL_DATA_TAGS and walk.end is not None:
        length = min(length, walk.end - offset)
    yield HEAD_WITHOUT_VR(tag >> 16, tag & 0xFFFF, length + length % 2)
    yield from value_pieces(walk, vr, offset, length)

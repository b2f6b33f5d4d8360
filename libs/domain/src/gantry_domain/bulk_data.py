"""A data set without its bulk data: pixels, waveforms, documents (PS3.4 Z.1.3)."""

from collections.abc import Iterable, Iterator

from gantry_domain.elements import (
    ELEMENT,
    FRAGMENTS_START,
    ITEM_END,
    ITEM_START,
    SEQUENCE_END,
    SEQUENCE_START,
    Event,
)
from gantry_domain.value_representations import PIXEL_DATA_TAGS

# PS3.4 Table Z.1-1, of the top level.
_BULK = PIXEL_DATA_TAGS | {
    0x00287FE0,  # Pixel Data Provider URL
    0x00420011,  # Encapsulated Document
    0x56000020,  # Spectroscopy Data
}
_OVERLAYS, _CURVES = 0x60, 0x50  # of groups that are repeated, the first byte
_OVERLAY_DATA, _CURVE_DATA, _AUDIO_SAMPLE_DATA = 0x3000, 0x3000, 0x200C
_WAVEFORM_SEQUENCE, _WAVEFORM_DATA = 0x54000100, 0x54001010

_OF_ELEMENTS = frozenset((ELEMENT, SEQUENCE_START, FRAGMENTS_START))
_STARTS = frozenset((SEQUENCE_START, ITEM_START, FRAGMENTS_START))
_ENDS = frozenset((ITEM_END, SEQUENCE_END))
_IN_ITEMS = 2  # of a sequence of the top level: the depth of what is open


def without_bulk_data(walk: Iterable[Event]) -> Iterator[Event]:
    """The events of a walk but for those of bulk data; icons keep their pixels."""
    depth = 0
    waveforms = False
    left_out: int | None = None  # the depth at which an element ends that is not told of
    for event in walk:
        kind, tag = event[0], event[1]
        depth -= kind in _ENDS
        if left_out is not None:
            left_out = None if kind in _ENDS and depth == left_out else left_out
        elif kind in _OF_ELEMENTS and _is_bulk(tag, depth, waveforms=waveforms):
            left_out = None if kind == ELEMENT else depth
        else:
            if not depth:
                waveforms = tag == _WAVEFORM_SEQUENCE
            yield event
        depth += kind in _STARTS


def _is_bulk(tag: int, depth: int, *, waveforms: bool) -> bool:
    if depth:
        return waveforms and depth == _IN_ITEMS and tag == _WAVEFORM_DATA
    repeated, element = tag >> 24, tag & 0xFFFF
    return (
        tag in _BULK
        or (repeated == _OVERLAYS and element == _OVERLAY_DATA)
        or (repeated == _CURVES and element in (_CURVE_DATA, _AUDIO_SAMPLE_DATA))
    )

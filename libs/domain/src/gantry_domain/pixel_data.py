"""Where the pixel data of an object are, and whether they are all there (PS3.5 8, A.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry_domain.elements import UNDEFINED, Walk
from gantry_domain.findings import PIXEL_DATA_SHORT, PIXEL_DATA_TRUNCATED, Findings

_SEQUENCE_DELIMITATION = b"\xfe\xff\xdd\xe0"

_SAMPLES_PER_PIXEL = "00280002"
_PHOTOMETRIC_INTERPRETATION = "00280004"
_NUMBER_OF_FRAMES = "00280008"
_ROWS = "00280010"
_COLUMNS = "00280011"
_BITS_ALLOCATED = "00280100"
# Two pixels share their chrominance: two samples per pixel (PS3.3 C.7.6.3.1.2).
_SUBSAMPLED = (["YBR_FULL_422"], ["YBR_PARTIAL_422"])


@dataclass(frozen=True, slots=True)
class PixelDataLocation:
    """Where the pixel data are in the object (in the inflated data set if it is deflated).

    `length` is None for fragments (PS3.5 A.4), whose items begin at `offset`. `truncated`: the
    object ends before them; of fragments it is only known while the object is within a window.
    """

    offset: int
    length: int | None
    tag: int
    vr: str
    truncated: bool


def locate_pixel_data(
    walk: Walk,
    findings: Findings,
    attributes: Mapping[str, Any],
    *,
    tag: int,
    vr: str,
    offset: int,
    length: int,
) -> PixelDataLocation:
    """The location, from the event with which the walk met the pixel data.

    `attributes`: the JSON model of what precedes.
    """
    truncated = False
    if walk.end is not None and length == UNDEFINED:
        buffer = walk.window.buffer
        whole = walk.window.base + len(buffer) >= walk.end
        start = max(offset - walk.window.base, 0)
        truncated = whole and buffer.find(_SEQUENCE_DELIMITATION, start) < 0
    elif walk.end is not None:
        truncated = offset + length > walk.end
    if truncated:
        findings.report(PIXEL_DATA_TRUNCATED, tag)
    elif length != UNDEFINED:
        expected = _native_length(attributes)
        if expected is not None and length < expected:
            findings.report(PIXEL_DATA_SHORT, tag, f"{length} of {expected} bytes")
    return PixelDataLocation(
        offset=offset,
        length=None if length == UNDEFINED else length,
        tag=tag,
        vr=vr,
        truncated=truncated,
    )


def _native_length(attributes: Mapping[str, Any]) -> int | None:
    """The bytes that native pixel data have by the Image Pixel module (PS3.5 8.1.1)."""
    bits = 1
    for key, default in (
        (_ROWS, None),
        (_COLUMNS, None),
        (_BITS_ALLOCATED, None),
        (_SAMPLES_PER_PIXEL, 1),
        (_NUMBER_OF_FRAMES, 1),
    ):
        values = attributes.get(key, {}).get("Value") or [default]
        if not isinstance(values[0], int) or values[0] < 1:
            return None
        bits *= values[0]
    if attributes.get(_PHOTOMETRIC_INTERPRETATION, {}).get("Value") in _SUBSAMPLED:
        bits = bits * 2 // 3
    return (bits + 7) // 8

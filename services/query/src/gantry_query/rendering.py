"""A frame as a picture (PS3.18 8.3.5, PS3.3 C.11): decoded, windowed, cut, scaled, encoded.

    stored values ─▶ modality LUT ─▶ window or VOI LUT ─▶ 0..255 ─▶ inverted? ─▶ viewport ─▶ JPEG
    palette, colour ──────────────────────────────────────▶ RGB ──────────────▶           or PNG

Runs in the decoder's child alone: it is given anything, and may crash, hang or grow.
"""

import contextlib
import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array

from gantry_query.rendering_request import Rendering, Viewport, Window, WindowFunction

LARGEST_FRAME = 2**27
"""Samples of the largest frame that is decoded."""

# Read once and as a whole.
_SMALL = 16 * 2**20
_MOST_SHADES = 1 << 17

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SHOWN_BY = (
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
)
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}

Array = NDArray[Any]


class NotRenderable(Exception):
    """There is no picture; its text is a slug."""


def open_image(source: str, frame: int) -> Dataset:
    """The data set of a file whose frame can be asked for. Raises `NotRenderable`."""
    small = os.path.getsize(source) <= _SMALL
    ds = dcmread(source, defer_size=None if small else 4096)
    if not any(keyword in ds for keyword in _PIXELS):
        raise NotRenderable("no_pixel_data")
    if frame > int(ds.get("NumberOfFrames") or 1):
        raise NotRenderable("no_such_frame")
    samples = int(ds.get("Rows") or 0) * int(ds.get("Columns") or 0)
    if samples * int(ds.get("SamplesPerPixel") or 1) > LARGEST_FRAME:
        raise NotRenderable("too_large")
    return ds


def frame_values(source: str, ds: Dataset, frame: int) -> Array:
    """The decoded values of a frame; YBR is turned to RGB. Raises anything."""
    if os.path.getsize(source) > _SMALL:
        with contextlib.suppress(AttributeError):
            # Without the other frames; but it must be in the encoding that it declares.
            return pixel_array(source, index=frame - 1)
    return pixel_array(ds, index=frame - 1)


def render(source: str, frame: int, rendering: Rendering) -> bytes:
    """The picture of a frame (from 1) of the file `source`. Raises anything."""
    ds = open_image(source, frame)
    values = frame_values(source, ds, frame)
    picture = Image.fromarray(_shades(values, ds, frame, rendering.window))
    if rendering.viewport is not None:
        picture = _within(picture, rendering.viewport)
    out = io.BytesIO()
    if rendering.media_type == "image/jpeg":
        picture.save(out, "JPEG", quality=rendering.quality)
    else:
        picture.save(out, _FORMATS[rendering.media_type], compress_level=3)
    return out.getvalue()


def _shades(values: Array, ds: Dataset, frame: int, window: Window | None) -> NDArray[np.uint8]:
    """Rows by columns of grey, or with three samples of RGB."""
    interpretation = ds.get("PhotometricInterpretation", "MONOCHROME2")
    if interpretation == "PALETTE COLOR":
        return _to_bytes(apply_color_lut(values, ds), 16)
    if values.ndim == 3:
        if values.shape[2] != 3:
            raise NotRenderable("unsupported_photometric_interpretation")
        return _to_bytes(values, int(ds.get("BitsStored") or 8))
    shown = _shown_by(ds, frame)
    if window is None and not shown.get("VOILUTSequence"):
        window = _own_window(shown) or _whole_range(values, ds, shown)
    inverse = interpretation == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"

    def shade(stored: Array) -> NDArray[np.uint8]:
        real = apply_modality_lut(stored, shown)
        shades = _windowed(real, window) if window else _by_voi_lut(real, shown)
        grey = np.clip(np.rint(shades), 0, 255).astype(np.uint8)
        return 255 - grey if inverse else grey

    return _each_value_once(values, shade)


def _each_value_once(
    values: Array, shade: Callable[[Array], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """The shades of all values; of integers each is worked out once, for pixels are many more."""
    if values.dtype.kind not in "iu" or not values.size:
        return shade(values)
    low, high = int(values.min()), int(values.max())
    if high - low >= min(_MOST_SHADES, values.size):
        return shade(values)
    shades = shade(np.arange(low, high + 1, dtype=values.dtype))
    found: NDArray[np.uint8] = shades[values.astype(np.intp) - low]
    return found


def _to_bytes(values: Array, bits: int) -> NDArray[np.uint8]:
    if values.dtype.itemsize == 1:
        return np.ascontiguousarray(values, dtype=np.uint8)
    return (values >> max(0, bits - 8)).astype(np.uint8)


def _shown_by(ds: Dataset, frame: int) -> Dataset:
    """What says how a frame is shown: its own, what all frames share, or the image's (C.7.6.16)."""
    found = Dataset()
    for keyword in ("BitsStored", "PixelRepresentation", "PhotometricInterpretation"):
        if keyword in ds:
            found[keyword] = ds[keyword]
    own = ds.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*own[frame - 1 : frame], *(ds.get("SharedFunctionalGroupsSequence") or [])[:1]]
    places = [item for group in groups for name in _GROUPS for item in (group.get(name) or [])[:1]]
    for place in (*places, ds):
        for keyword in _SHOWN_BY:
            if keyword in place and keyword not in found and place[keyword].value not in (None, ""):
                found[keyword] = place[keyword]
    return found


def _own_window(shown: Dataset) -> Window | None:
    """The first window of the image, if it is one."""
    center, width = (_first(shown.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or float(width) <= 0:
        return None
    try:
        function = WindowFunction(str(shown.get("VOILUTFunction", "LINEAR")).lower())
    except ValueError:
        function = WindowFunction.LINEAR
    return Window(float(center), float(width), function)


def _first(value: Any) -> Any:
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return value
    return value[0] if len(value) else None


def _whole_range(values: Array, ds: Dataset, shown: Dataset) -> Window:
    """From the least to the greatest value, padding left out."""
    counted = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    padding = ds.get("PixelPaddingValue")
    if isinstance(padding, int):
        others = counted[counted != padding]
        counted = others if others.size else counted
    if not counted.size:
        return Window(0.5, 1, WindowFunction.LINEAR_EXACT)
    ends = apply_modality_lut(np.array([counted.min(), counted.max()]), shown).astype(float)
    low, high = float(ends.min()), float(ends.max())
    return Window((low + high) / 2, max(high - low, 1e-9), WindowFunction.LINEAR_EXACT)


def _windowed(values: Array, window: Window) -> Array:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, to 0..255."""
    x = np.nan_to_num(values.astype(np.float64, copy=False))
    match window.function:
        case WindowFunction.LINEAR:
            width = max(window.width - 1, 1e-9)
            return np.clip((x - (window.center - 0.5)) / width + 0.5, 0, 1) * 255
        case WindowFunction.LINEAR_EXACT:
            return np.clip((x - window.center) / window.width + 0.5, 0, 1) * 255
        case WindowFunction.SIGMOID:
            exponent = np.clip(-4 * (x - window.center) / window.width, -700, 700)
            return 255 / (1 + np.exp(exponent))


def _by_voi_lut(values: Array, shown: Dataset) -> Array:
    if values.dtype.kind == "f":
        values = np.rint(values).astype(np.int32)
    bits = int(shown.VOILUTSequence[0].LUTDescriptor[2]) or 16
    shades: Array = apply_voi(values, shown).astype(np.float64) * (255 / (2**bits - 1))
    return shades


def _within(picture: Image.Image, viewport: Viewport) -> Image.Image:
    """The region asked for, scaled so that it fits (PS3.18 8.3.5.1.3)."""
    if viewport.region is not None:
        left, top, width, height = viewport.region
        width = width or picture.width - left
        height = height or picture.height - top
        right, bottom = left + abs(width), top + abs(height)
        box = (max(0, left), max(0, top), min(picture.width, right), min(picture.height, bottom))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise NotRenderable("viewport_outside")
        picture = picture.crop(box)
        if width < 0:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if height < 0:
            picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    scale = min(viewport.width / picture.width, viewport.height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)

"""How a client wants a picture: the parameters of PS3.18 8.3.5 and the media types of pictures."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gantry_domain.query import BadQuery
from gantry_query.negotiation import MULTIPART, NotAcceptable, parse_accept

JPEG = "image/jpeg"
PICTURES = (JPEG, "image/png")
"""The default first."""

LARGEST_VIEWPORT = 8192
THUMBNAIL_SIDE = 128
_QUALITY = 90

# Changed with the pictures, so that clients fetch them anew.
_FORM = 1


class WindowFunction(StrEnum):
    """Of PS3.3 C.11.2.1.3."""

    LINEAR = "linear"
    LINEAR_EXACT = "linear_exact"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the values that the modality LUT gives."""

    center: float
    width: float
    function: WindowFunction


@dataclass(frozen=True, slots=True)
class Viewport:
    """A size in pixels that the picture must fit into, and the region of the image to show.

    `region`: left, top, width and height; 0 is all that is there, a negative one is flipped.
    """

    width: int
    height: int
    region: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture as it is wanted; `quality` (1 to 100) is that of a JPEG."""

    media_type: str
    quality: int = _QUALITY
    window: Window | None = None
    viewport: Viewport | None = None

    def version(self, *names: object) -> str:
        """The ETag of the picture of what the names say."""
        facts = repr((_FORM, self, names))
        return f'"{hashlib.sha256(facts.encode()).hexdigest()[:32]}"'


def choose_picture(accept: str | None) -> tuple[bool, str]:
    """Whether in parts, and the media type of each picture. Raises `NotAcceptable`."""
    if accept is None or not accept.strip():
        return False, JPEG
    for media_range in parse_accept(accept):
        if media_range.type == MULTIPART:
            root = media_range.root or JPEG
            for media_type in PICTURES:
                if root in (media_type, "image/*", "*/*"):
                    return True, media_type
        for media_type in PICTURES:
            if media_range.covers(media_type):
                return False, media_type
    raise NotAcceptable([*PICTURES, *(f'{MULTIPART}; type="{t}"' for t in PICTURES)])


def parse_rendering(
    parameters: Iterable[tuple[str, str]], media_type: str, *, thumbnail: bool
) -> Rendering:
    """The picture that the parameters describe; others are ignored. Raises `BadQuery`."""
    given: dict[str, str] = {}
    for name, value in parameters:
        if value.strip():
            given.setdefault(name.lower(), value)
    viewport = _viewport(given["viewport"], thumbnail) if "viewport" in given else None
    if thumbnail:
        viewport = viewport or Viewport(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    quality = _numbers("quality", given.get("quality", str(_QUALITY)))
    if len(quality) != 1 or not 1 <= quality[0] <= 100:
        raise BadQuery("quality", "is not a number from 1 to 100")
    window = _window(given["window"]) if "window" in given and not thumbnail else None
    return Rendering(media_type, round(quality[0]), window, viewport)


def _window(text: str) -> Window:
    values, _, name = text.rpartition(",") if text.count(",") == 2 else (text, "", "linear")
    numbers = _numbers("window", values)
    try:
        function = WindowFunction(name.strip().lower().replace("-", "_"))
    except ValueError:
        raise BadQuery("window", "its function is linear, linear-exact or sigmoid") from None
    if len(numbers) != 2 or numbers[1] <= 0:
        raise BadQuery("window", "write center,width,function with a width above 0")
    return Window(numbers[0], numbers[1], function)


def _viewport(text: str, thumbnail: bool) -> Viewport:
    numbers = [round(n) for n in _numbers("viewport", text)]
    if len(numbers) not in ((2,) if thumbnail else (2, 6)):
        raise BadQuery("viewport", "write width,height or width,height,x,y,width,height")
    if not all(1 <= side <= LARGEST_VIEWPORT for side in numbers[:2]):
        raise BadQuery("viewport", f"its sides are from 1 to {LARGEST_VIEWPORT} pixels")
    region = (numbers[2], numbers[3], numbers[4], numbers[5]) if len(numbers) == 6 else None
    return Viewport(numbers[0], numbers[1], region)


def _numbers(name: str, text: str) -> list[float]:
    """The numbers between commas; of six the last four may be left empty, which is 0."""
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [float(part) if part or n < 2 else 0.0 for n, part in enumerate(parts)]
    except ValueError:
        raise BadQuery(name, "is not made of numbers") from None
    if not all(math.isfinite(number) and abs(number) < 1e9 for number in numbers):
        raise BadQuery(name, "holds a number that cannot be meant")
    return numbers

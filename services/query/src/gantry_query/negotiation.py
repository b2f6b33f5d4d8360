"""What a client accepts and what it gets: the Accept header (RFC 9110 12.5.1, PS3.18 8.7).

A range that cannot be read or served is passed over; only when none is left there is 406. Browsers
join headers, so a request for JSON may carry ranges of multipart too, and the other way round.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from gantry_domain.errors import PermanentError
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    PixelEncoding,
)

DICOM_JSON = "application/dicom+json"
JSON = "application/json"
DICOM = "application/dicom"
MULTIPART = "multipart/related"
OCTET_STREAM = "application/octet-stream"
ANY_SYNTAX = "*"

# Shall not be used on web services (PS3.18 8.7.3).
NOT_FOR_THE_WEB = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN})

# What is encoded here, all without loss; the first that is accepted is taken.
ENCODED_HERE = (
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.90",  # JPEG 2000
    "1.2.840.10008.1.2.4.70",  # JPEG, first-order prediction
    "1.2.840.10008.1.2.5",  # RLE
)

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110 5.6.2
_RANGE = re.compile(rf"\s*({_TOKEN})/({_TOKEN})\s*")
# Unquoted values hold `/` where they should be quoted: type=application/octet-stream (OHIF).
_PARAMETER = re.compile(rf';\s*(?:({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*)?')
_LONGEST = 8192


class NotAcceptable(PermanentError):
    """Nothing of what the client accepts can be served. `available` can."""

    def __init__(self, available: Iterable[str], why: str = "") -> None:
        self.available = tuple(available)
        known = f"available: {', '.join(self.available)}" if self.available else ""
        super().__init__("; ".join(filter(None, (why, known))))


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One range of an Accept header; names in lower case, values as given without quotes."""

    type: str
    parameters: dict[str, str]
    quality: float

    def covers(self, media_type: str) -> bool:
        """Whether a media type without parameters is in the range."""
        whole, _, _ = media_type.partition("/")
        return self.type in ("*/*", f"{whole}/*", media_type)

    @property
    def root(self) -> str:
        """The `type` of a multipart range, in lower case; empty if it names none."""
        return self.parameters.get("type", "").lower()

    @property
    def syntax(self) -> str | None:
        """The transfer syntax that it names; None if it names none."""
        return self.parameters.get("transfer-syntax") or None


def parse_accept(header: str) -> list[MediaRange]:
    """The ranges of an Accept header, the best first; refused and unreadable ones left out."""
    ranges = [found for part in _split(header[:_LONGEST]) if (found := _range(part))]
    return sorted((r for r in ranges if r.quality > 0), key=lambda r: -r.quality)


def _split(header: str) -> Iterator[str]:
    """The parts between commas, of which those inside of quotes divide nothing."""
    start, quoted, escaped = 0, False, False
    for position, character in enumerate(header):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            yield header[start:position]
            start = position + 1
    yield header[start:]


def _range(part: str) -> MediaRange | None:
    head = _RANGE.match(part)
    if head is None:
        return None
    parameters: dict[str, str] = {}
    position = head.end()
    while position < len(part):
        found = _PARAMETER.match(part, position)
        if found is None:
            return None
        name, quoted, plain = found.groups()
        if name is not None:
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            parameters.setdefault(name.lower(), value)
        position = found.end()
    return MediaRange(f"{head[1]}/{head[2]}".lower(), parameters, _quality(parameters.pop("q", "")))


def _quality(text: str) -> float:
    return min(1.0, float(text)) if re.fullmatch(r"[0-9](\.[0-9]*)?", text) else 1.0


def choose_json(accept: str | None) -> str:
    """The media type of a JSON answer. Raises `NotAcceptable`."""
    if accept is None or not accept.strip():
        return DICOM_JSON
    for media_range in parse_accept(accept):
        for media_type in (DICOM_JSON, JSON):
            if media_range.covers(media_type):
                return media_type
    raise NotAcceptable((DICOM_JSON, JSON))


@dataclass(frozen=True, slots=True)
class Accepted:
    """How a client takes instances: in several parts or as one, and in which transfer syntaxes.

    `default`: it named no syntax, which means Explicit VR Little Endian, or the form that is held
    where there is only a lossy one (PS3.18 8.7.3.4).
    """

    multipart: bool
    syntaxes: frozenset[str]
    default: bool = False

    @property
    def any_syntax(self) -> bool:
        """Whether whatever is held will do."""
        return ANY_SYNTAX in self.syntaxes

    @property
    def encoding(self) -> str | None:
        """The transfer syntax into which instances are encoded for this client, if at all."""
        if EXPLICIT_VR_LITTLE_ENDIAN in self.syntaxes:
            return None
        return next((uid for uid in ENCODED_HERE if uid in self.syntaxes), None)


def choose_instances(accept: str | None, *, one: bool) -> Accepted:
    """How the instances asked for are accepted; `one`: the resource is a single instance.

    Ranges of the same kind add up: each names one more syntax. Raises `NotAcceptable`.
    """
    if accept is None or not accept.strip():
        return Accepted(True, frozenset({EXPLICIT_VR_LITTLE_ENDIAN}), default=True)
    usable = [(kind, r) for r in parse_accept(accept) if (kind := _kind(r, one)) is not None]
    if not usable:
        single = (DICOM,) if one else ()
        raise NotAcceptable((f'{MULTIPART}; type="{DICOM}"', *single))
    multipart = usable[0][0]
    ranges = [media_range for kind, media_range in usable if kind is multipart]
    syntaxes = {_syntax(media_range) for media_range in ranges}
    default = any(r.syntax is None and not r.type.endswith("/*") for r in ranges)
    return Accepted(multipart, frozenset(syntaxes), default)


def _kind(media_range: MediaRange, one: bool) -> bool | None:
    """True: in several parts; False: as one; None: not a range for instances."""
    if media_range.type in ("*/*", "multipart/*"):
        return True
    if media_range.type == MULTIPART:
        return True if media_range.root in ("", DICOM, "application/*", "*/*") else None
    return False if one and media_range.covers(DICOM) else None


def _syntax(media_range: MediaRange) -> str:
    if media_range.syntax is not None:
        return media_range.syntax
    return ANY_SYNTAX if media_range.type.endswith("/*") else EXPLICIT_VR_LITTLE_ENDIAN


class Form(Enum):
    """In which form a stored instance is served."""

    AS_STORED = "as_stored"
    REENCODED = "reencoded"
    DECODED = "decoded"
    ENCODED = "encoded"


def form_of(stored: str, accepted: Accepted) -> Form | None:
    """The form in which an instance of transfer syntax `stored` is served; None: in none.

    What is accepted as it is stored is never touched.
    """
    wanted = accepted.any_syntax or stored in accepted.syntaxes
    if wanted and stored not in NOT_FOR_THE_WEB:
        return Form.AS_STORED
    syntax = TRANSFER_SYNTAXES.get(stored)
    if not wanted and EXPLICIT_VR_LITTLE_ENDIAN not in accepted.syntaxes:
        pixels = syntax is not None and syntax.pixels is not PixelEncoding.REFERENCED
        return Form.ENCODED if pixels and accepted.encoding else None
    if syntax is None:
        return Form.AS_STORED if accepted.default else None
    match syntax.pixels:
        case PixelEncoding.NATIVE:
            return Form.REENCODED
        case PixelEncoding.LOSSLESS:
            return Form.DECODED
        case PixelEncoding.LOSSY:
            return Form.AS_STORED if accepted.default else Form.DECODED
        case PixelEncoding.REFERENCED:
            # Its pixels are elsewhere; only the deflated ones have anything to re-encode.
            return Form.REENCODED if stored in DEFLATED else Form.AS_STORED

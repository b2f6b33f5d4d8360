"""What a message is answered with (HL7 v2 2.9.2): AA, AE or AR, with the reason and no content.

Names and the control identifier go back as the bytes they came in.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gantry_domain.hl7.message import raw_header


class Ack(StrEnum):
    """HL7 Table 0008."""

    ACCEPTED = "AA"
    ERROR = "AE"
    REJECTED = "AR"


ACCEPTED_FOR_NOW = "CA"
"""It is kept; what becomes of it, another acknowledgement tells (HL7 v2 2.9.3)."""

# HL7 Table 0357.
SEGMENT_SEQUENCE = ("100", "Segment sequence error")
REQUIRED_FIELD = ("101", "Required field missing")
DATA_TYPE = ("102", "Data type error")
TABLE_VALUE = ("103", "Table value not found")
UNSUPPORTED_TYPE = ("200", "Unsupported message type")
UNSUPPORTED_EVENT = ("201", "Unsupported event code")
UNSUPPORTED_VERSION = ("203", "Unsupported version id")
UNKNOWN_KEY = ("204", "Unknown key identifier")
RECORD_LOCKED = ("206", "Application record locked")
INTERNAL_ERROR = ("207", "Application internal error")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not accepted: AE or AR, a condition of Table 0357, where, and one line.

    `segment` and `field` are empty and 0 where it is about the message as a whole. The line holds
    nothing of the message.
    """

    ack: Ack
    condition: tuple[str, str]
    text: str
    segment: str = ""
    field: int = 0


def acknowledgement(
    raw: bytes,
    *,
    control_id: str,
    now: datetime,
    refusal: Refusal | None = None,
    code: str | None = None,
) -> bytes:
    """The message, without its frame, that answers `raw`; `control_id` is ours.

    `code`: of the enhanced mode, in place of that of the original one.
    """
    header = [*raw_header(raw), *[b""] * 20][:20]
    field = header[1] or b"|"
    encoding = header[2] if len(header[2]) >= 4 else b"^~\\&"
    component, escape = encoding[:1], encoding[2:3]
    version = header[12].strip() or b"2.5"
    event = header[9].split(component)[1:2]
    text = (
        b""
        if refusal is None or code == ACCEPTED_FOR_NOW
        else _plain(refusal.text, field + encoding, escape)
    )
    ack = Ack.ACCEPTED if refusal is None else refusal.ack
    segments = [
        [
            b"MSH" + field + encoding,
            header[5],
            header[6],
            header[3],
            header[4],
            now.strftime("%Y%m%d%H%M%S%z").encode(),
            b"",
            component.join([b"ACK", *(each for each in event if each)]),
            control_id.encode(),
            header[11] or b"P",
            version,
        ],
        [b"MSA", (code or ack.value).encode(), header[10], *([text] if text else [])],
    ]
    if refusal is not None and code != ACCEPTED_FOR_NOW:
        segments.append(_error(refusal, component, field + encoding, escape, version))
    return b"".join(field.join(segment) + b"\r" for segment in segments)


def _error(
    refusal: Refusal, component: bytes, separators: bytes, escape: bytes, version: bytes
) -> list[bytes]:
    code, meaning = refusal.condition
    condition = [code.encode(), _plain(meaning, separators, escape), b"HL70357"]
    where = [refusal.segment.encode(), b"1", str(refusal.field).encode()] if refusal.segment else []
    if version < b"2.5":  # one field: segment, its number, field, condition
        subcomponent = separators[4:5]
        located = where or [b"", b"", b""]
        return [b"ERR", component.join([*located, subcomponent.join(condition)])]
    return [
        b"ERR",
        b"",
        component.join(where),
        component.join(condition),
        b"E",
        b"",
        b"",
        b"",
        _plain(refusal.text, separators, escape),
    ]


_ESCAPED = (b"F", b"S", b"R", b"E", b"T")


def _plain(text: str, separators: bytes, escape: bytes) -> bytes:
    """Text of ours, with what separates in this message escaped."""
    names = dict(zip(separators[:5], _ESCAPED, strict=False))
    encoded = text.encode("ascii", "replace")
    return b"".join(
        escape + names[byte] + escape if byte in names else bytes((byte,)) for byte in encoded
    )

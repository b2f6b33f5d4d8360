"""Values of data elements to the DICOM JSON model (PS3.18 Annex F).

An element without a value has no `Value`; an empty value among others is null; `Value` is never
all null. Numbers that are none are strings. Text is trimmed of padding (PS3.5 6.2).
"""

import math
import re
from array import array
from binascii import b2a_base64
from collections.abc import Callable
from struct import Struct, unpack
from typing import Any

from gantry_domain.charset import Charset
from gantry_domain.value_representations import BINARY_VRS, WORD_SIZES

# An element of the model: {"vr": ..., "Value" | "InlineBinary" | "BulkDataURI": ...}.
Element = dict[str, Any]
# (rule, tag, detail without patient data)
Report = Callable[[str, int, str], None]

PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")  # PS3.18 Table F.2.3-1 and PS3.5 6.2.1

NUL_IN_TEXT = "nul_in_text"
UID_INVALID = "uid_invalid"
LENGTH_INVALID = "length_invalid"
NUMBER_INVALID = "number_invalid"

# PS3.5 9.1
_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+", re.ASCII)
_IS = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DS = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_EXACT_INTEGER = 2**53  # PS3.18 F.2.3 leaves larger ones to strings: JSON readers use doubles

_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}
_ONE = {
    (vr, little): Struct(("<" if little else ">") + code).unpack
    for vr, code in _NUMBERS.items()
    for little in (True, False)
}
_WORD = {array(code).itemsize: code for code in "HIQ"}

NUMERIC_VRS = frozenset((*_NUMBERS, "AT"))
# A backslash is a character of the text, not a delimiter (PS3.5 6.2).
SINGLE_VALUE_VRS = frozenset(("LT", "ST", "UR", "UT"))


def valid_uid(uid: str) -> bool:
    """Whether a UID follows PS3.5 9.1."""
    return len(uid) <= 64 and _UID.fullmatch(uid) is not None


def little_endian(raw: bytes, vr: str) -> bytes:
    """Big endian words of `vr` in little endian order; a broken last word stays as it is."""
    size = WORD_SIZES.get(vr, 1)
    count = len(raw) // size
    if size == 1 or not count:
        return raw
    words = array(_WORD[size], raw[: count * size])
    words.byteswap()
    return words.tobytes() + raw[count * size :]


class JsonModel:
    """Turns value fields into elements of the model; what is odd goes to `report`."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def element(self, tag: int, vr: str, raw: bytes, charset: Charset, *, little: bool) -> Element:
        """The element for the value field `raw`, whose VR is decided (not `US or SS`)."""
        if not raw:
            return {"vr": vr}
        if vr in _NUMBERS:
            values = self._numbers(tag, vr, raw, little=little)
        elif vr in BINARY_VRS:
            encoded = b2a_base64(raw if little else little_endian(raw, vr), newline=False)
            return {"vr": vr, "InlineBinary": encoded.decode("ascii")}
        elif vr == "AT":
            values = self._tags(tag, raw, little=little)
        else:
            text = self._text(tag, vr, raw, charset)
            if vr in SINGLE_VALUE_VRS:
                return {"vr": vr, "Value": [text]} if text else {"vr": vr}
            convert = _CONVERSIONS.get(vr, _plain)
            if "\\" in text:
                values = [convert(part) for part in text.split("\\")]
                if all(value is None for value in values):
                    return {"vr": vr}
            else:
                value = convert(text)
                if value is None:
                    return {"vr": vr}
                values = [value]
            if vr == "UI":
                if not all(value is None or valid_uid(value) for value in values):
                    self._report(UID_INVALID, tag, "")
            elif vr in ("DS", "IS") and any(isinstance(value, str) for value in values):
                self._report(NUMBER_INVALID, tag, vr)
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    def _text(self, tag: int, vr: str, raw: bytes, charset: Charset) -> str:
        if raw.isascii() and 0x1B not in raw:
            text = raw.decode("ascii").rstrip("\0 ")  # nearly always
        else:
            decoded, finding = charset.decode(raw, name=vr == "PN")
            if finding is not None:
                self._report(finding, tag, "")
            text = decoded.rstrip("\0 ")
        if "\0" in text:
            self._report(NUL_IN_TEXT, tag, "")
            text = text.replace("\0", "")
        return text

    def _numbers(self, tag: int, vr: str, raw: bytes, *, little: bool) -> list[Any]:
        one = _ONE[vr, little]
        size = WORD_SIZES[vr]
        count, rest = divmod(len(raw), size)
        if rest:
            self._report(LENGTH_INVALID, tag, vr)
            raw = raw[: count * size]
        if count == 1:
            values = list(one(raw))
        else:
            values = list(unpack(f"{'<' if little else '>'}{count}{_NUMBERS[vr]}", raw))
        if vr in ("FL", "FD"):
            return [value if math.isfinite(value) else _not_finite(value) for value in values]
        if vr in ("SV", "UV"):
            return [value if abs(value) <= _EXACT_INTEGER else str(value) for value in values]
        return values

    def _tags(self, tag: int, raw: bytes, *, little: bool) -> list[Any]:
        count, rest = divmod(len(raw), 4)
        if rest:
            self._report(LENGTH_INVALID, tag, "AT")
        words = unpack(f"{'<' if little else '>'}{2 * count}H", raw[: 4 * count])
        return [f"{words[i]:04X}{words[i + 1]:04X}" for i in range(0, 2 * count, 2)]


def _plain(text: str) -> str | None:
    return text.strip(" ") or None


def _person_name(text: str) -> dict[str, str] | None:
    if "=" not in text:
        text = text.strip(" ")
        return {"Alphabetic": text} if text else None
    groups = zip(PN_GROUPS, text.split("="), strict=False)
    return {name: stripped for name, group in groups if (stripped := group.strip(" "))} or None


def _integer_string(text: str) -> int | str | None:
    text = text.strip(" ")
    if _IS.fullmatch(text):
        return int(text)
    return text or None


def _decimal_string(text: str) -> float | int | str | None:
    text = text.strip(" ")
    if _IS.fullmatch(text):
        return int(text)
    if _DS.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text or None


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "inf" if value > 0 else "-inf"


_CONVERSIONS: dict[str, Callable[[str], Any]] = {
    "PN": _person_name,
    "IS": _integer_string,
    "DS": _decimal_string,
}

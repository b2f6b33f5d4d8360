"""Corrections: what a person puts in the place of values that a study was sent with.

    header as sent ─▶ first correction ─▶ second ─▶ header as everybody sees it

Each leaves an item in the Original Attributes Sequence (PS3.3 C.12.1.1.9) with the values before
it. Here they meet the DICOM JSON model; `gantry_domain.corrected_data_set` does the same to bytes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from gantry_domain.charset import charset_of
from gantry_domain.dictionary import KEYWORDS, VRS
from gantry_domain.errors import PermanentError
from gantry_domain.json_model import PN_GROUPS, Element, JsonModel
from gantry_domain.keys import received_at
from gantry_domain.levels import comparable_date, comparable_time

CORRECTABLE = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
)
"""Of the patient and the study, each with one value of text; in the order of their tags."""

MODIFIED_ATTRIBUTES = 0x04000550
ORIGINAL_ATTRIBUTES = 0x04000561
MODIFICATION_DATE_TIME = 0x04000562
MODIFYING_SYSTEM = 0x04000563
SOURCE_OF_PREVIOUS_VALUES = 0x04000564
REASON_FOR_MODIFICATION = 0x04000565

SEQUENCE = "SQ"
SYSTEM = "Gantry"
REASON = "CORRECT"  # PS3.3 Table C.12-1: values were wrong

_ORIGINALS = f"{ORIGINAL_ATTRIBUTES:08X}"
_LONGEST = {"CS": 16, "SH": 16, "LO": 64, "PN": 64}  # characters; PN: a group
_OF_OTHERS = 16  # their forms are checked
_SEX = ("M", "F", "O", "")
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\\]")
_UTF_8 = charset_of(b"ISO_IR 192")
_MODEL = JsonModel(lambda _rule, _tag, _detail: None)


class BadCorrection(PermanentError):
    """What cannot be put into a study. The text names the attribute and holds no value."""

    def __init__(self, keyword: str, why: str) -> None:
        super().__init__(f"{keyword} {why}")


@dataclass(frozen=True, slots=True)
class Correction:
    """New values by keyword, one at least; an empty one stays in the header without a value, and a
    sequence goes, which can be given no other.

    `id` is that of the decision, a UUID of version 7, which says when it was.
    """

    id: UUID
    attributes: Mapping[str, str] = field(hash=False)

    @property
    def corrected_at(self) -> datetime:
        """The moment, aware."""
        return received_at(self.id)

    @property
    def modified_at(self) -> str:
        """The moment as a DT value."""
        return f"{self.corrected_at:%Y%m%d%H%M%S.%f}+0000"

    def elements(self) -> list[tuple[int, str, str]]:
        """Tag, VR and text of what it says, by tag."""
        named = ((KEYWORDS[keyword], text) for keyword, text in self.attributes.items())
        return [(tag, VRS[tag], text) for tag, text in sorted(named)]


def checked(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes without surrounding blanks, in the order of their tags.

    Raises `BadCorrection`.
    """
    if not attributes:
        raise BadCorrection("a correction", "names at least one attribute")
    strange = sorted(attributes.keys() - set(CORRECTABLE))
    if strange:
        raise BadCorrection("it can correct", f"{', '.join(CORRECTABLE)} and nothing else")
    return {
        keyword: _checked(keyword, attributes[keyword].strip())
        for keyword in CORRECTABLE
        if keyword in attributes
    }


def _checked(keyword: str, text: str) -> str:
    vr = VRS[KEYWORDS[keyword]]
    if _NO_TEXT.search(text):
        raise BadCorrection(keyword, "holds a character that such a value cannot have")
    groups = text.split("=") if vr == "PN" else [text]
    if any(len(group) > _LONGEST.get(vr, _OF_OTHERS) for group in groups) or len(groups) > len(
        PN_GROUPS
    ):
        raise BadCorrection(keyword, "is too long")
    if any(group.count("^") > 4 for group in groups) and vr == "PN":  # PS3.5 6.2.1
        raise BadCorrection(keyword, "has more than five components")
    if keyword == "PatientSex" and text not in _SEX:
        raise BadCorrection(keyword, "is M, F, O or nothing")
    if vr == "DA" and text and (comparable_date(text) != text or not _is_date(text)):
        raise BadCorrection(keyword, "is no date of the form YYYYMMDD")
    if vr == "TM" and text and (":" in text or comparable_time(text) is None):
        raise BadCorrection(keyword, "is no time of the form HHMMSS")
    return text


def _is_date(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007 - a date alone
    except ValueError:
        return False
    return True


def element_of(tag: int, vr: str, text: str) -> Element:
    """The element of the DICOM JSON model for a text."""
    return _MODEL.element(tag, vr, text.encode(), _UTF_8, little=True)


def text_of(element: Mapping[str, Any]) -> str | None:
    """The text of an element; None where it holds none, but bytes."""
    if "InlineBinary" in element or "BulkDataURI" in element:
        return None
    return "\\".join(map(_text, element.get("Value", ())))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "=".join(str(value.get(group, "")) for group in PN_GROUPS).rstrip("=")
    return "" if value is None else str(value)


def is_new(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Whether a correction changes an element, None where there is none."""
    return text_of(before or {}) != text_of(after)


def corrected(attributes: Mapping[str, Any], corrections: Sequence[Correction]) -> dict[str, Any]:
    """A header as it is after the corrections, in their order, with the values before them."""
    result = dict(attributes)
    items = []
    for correction in corrections:
        before: dict[str, Element] = {}
        for tag, vr, text in correction.elements():
            key = f"{tag:08X}"
            if vr == SEQUENCE:
                if key in result:
                    before[key] = result.pop(key)
                continue
            after = element_of(tag, vr, text)
            if is_new(result.get(key), after):
                before[key] = result.get(key, {"vr": vr})
                result[key] = after
        if before:
            items.append(_original_item(correction, before))
    if items:
        kept = result.get(_ORIGINALS, {}).get("Value", [])
        result[_ORIGINALS] = {"vr": "SQ", "Value": [*kept, *items]}
    return dict(sorted(result.items()))


def _original_item(correction: Correction, before: Mapping[str, Element]) -> dict[str, Element]:
    return {
        f"{MODIFIED_ATTRIBUTES:08X}": {"vr": "SQ", "Value": [dict(before)]},
        f"{MODIFICATION_DATE_TIME:08X}": {"vr": "DT", "Value": [correction.modified_at]},
        f"{MODIFYING_SYSTEM:08X}": {"vr": "LO", "Value": [SYSTEM]},
        f"{SOURCE_OF_PREVIOUS_VALUES:08X}": {"vr": "LO"},
        f"{REASON_FOR_MODIFICATION:08X}": {"vr": "CS", "Value": [REASON]},
    }


def in_order(corrections: Iterable[Correction]) -> tuple[Correction, ...]:
    """The corrections in the order in which they were made."""
    return tuple(sorted(corrections, key=lambda each: each.id))

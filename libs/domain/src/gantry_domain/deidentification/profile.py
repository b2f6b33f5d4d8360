"""The basic profile with the option 113107 (PS3.15 E.2, E.3.6): an editor of data sets.

Dates are moved by whole days, alike for all of a patient. Where Table E.1-1 says nothing, less is
kept than it would allow: no private elements, no free text, no names, nothing that the dictionary
does not know, and no text in which a value occurs that identifies this patient.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from functools import partial

from gantry_domain.deidentification.frame_comments import frame_comments
from gantry_domain.deidentification.pseudonyms import Pseudonyms
from gantry_domain.deidentification.subject import PATIENT_ID, SOP_CLASS, Subject
from gantry_domain.dictionary import KEYWORDS
from gantry_domain.edited_data_set import LONGEST_EDITED, Edit, Ranges, Rewrite, encoded
from gantry_domain.elements import UNDEFINED, Walk
from gantry_domain.little_endian import CLOSED_ITEM, CLOSED_SEQUENCE, OPENED_ITEM
from gantry_domain.reencode import element_head
from gantry_domain.value_representations import SPECIFIC_CHARACTER_SET, vr_of

PATIENT_NAME = 0x00100010
_REFERENCED_CLASS = 0x00081150
_CLASSES = frozenset((SOP_CLASS, _REFERENCED_CLASS))  # also those of vendors
_BIRTH = frozenset((0x00100030, 0x00100032))
_IDENTITY_REMOVED, _METHOD, _METHOD_CODES = 0x00120062, 0x00120063, 0x00120064
_TIMES_MODIFIED = 0x00280303
_TRAILING_PADDING = 0xFFFCFFFC

_FIRST_GROUP = 0x0008
_REPEATING = (0x50, 0x60)  # curves and overlays
_FREE_TEXTS = frozenset(("ST", "LT", "UT", "UC"))
_PLACES = frozenset(("UR", "AE", "UN"))
_MOMENTS = frozenset(("DA", "DT", "TM"))

_DATE = re.compile(rb"(\d{4})\.?(\d\d)\.?(\d\d)")
_DATE_TIME = re.compile(rb"(\d{4})(\d\d)(\d\d)(\d{0,6}(?:\.\d{1,6})?(?:[+-]\d{4})?)")
_TIME = re.compile(rb"[\d:.]{1,16}")
# What a value of these may look like (PS3.5 6.2): others are names and the like at a wrong place.
_FORMS = {
    "CS": re.compile(rb"[A-Z0-9 _\\\0]*"),
    "IS": re.compile(rb"[-+0-9 \\\0]*"),
    "DS": re.compile(rb"[-+0-9Ee. \\\0]*"),
    "AS": re.compile(rb"[0-9DWMY \\\0]*"),
}
# Codes without which an image cannot be shown, and which say nothing of anybody.
_PLAIN_CODES = frozenset(
    KEYWORDS[keyword] for keyword in ("ImageType", "FrameType", "Modality", "Laterality")
)
_IMAGE_GROUP = 0x0028

_REDACTED = b"REMOVED"
_DUMMIES = dict.fromkeys(("LO", "SH", "PN", "LT", "ST", "UT", "UC", "CS"), _REDACTED) | {
    "DS": b"0",
    "IS": b"0",
    "AS": b"000Y",
}


class Action(Enum):
    """What Table E.1-1 wants of an attribute."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    REMOVE_OR_DUMMY = "X/D"
    UID = "U"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The table, by tag, and the key of the pseudonyms."""

    actions: Mapping[int, Action]
    pseudonyms: Pseudonyms

    def editor(self, subject: Subject) -> "Deidentifying":
        """What takes the identities out of this object."""
        return Deidentifying(self, subject)


class Deidentifying:
    """An `Editor` of one object."""

    def __init__(self, profile: Profile, subject: Subject) -> None:
        self._actions = profile.actions
        self._pseudonyms = profile.pseudonyms
        self._subject = subject
        self._shift = profile.pseudonyms.shift(subject.identity)
        self.own = _own(profile.pseudonyms.patient(subject.identity))

    def value(self, tag: int, vr: str, length: int) -> Edit | Rewrite:
        """See `Editor`."""
        if _is_unknown(tag):
            return Edit.LEAVE_OUT
        # The option's column of the table: dates and times are modified, whatever the profile says.
        if vr in _MOMENTS and tag not in _BIRTH:
            return partial(_moved, vr=vr, shift=self._shift)
        match self._actions.get(tag):
            case Action.REMOVE:
                return Edit.LEAVE_OUT
            case Action.EMPTY:
                return Edit.EMPTY
            case Action.UID | Action.DUMMY | Action.REMOVE_OR_DUMMY if vr == "UI":
                return self._uids
            case Action.DUMMY | Action.REMOVE_OR_DUMMY:
                return lambda _: _DUMMIES.get(vr, b"")
            case Action.UID:
                return Edit.LEAVE_OUT  # of a VR that has no UIDs
            case _:
                return self._not_in_the_table(tag, vr, length)

    def sequence(self, tag: int) -> Edit:
        """See `Editor`."""
        action = self._actions.get(tag)
        if _is_unknown(tag) or action in (Action.REMOVE, Action.REMOVE_OR_DUMMY):
            return Edit.LEAVE_OUT
        return Edit.EMPTY if action in (Action.EMPTY, Action.DUMMY) else Edit.KEEP

    def fragments(self, tag: int) -> Edit:
        """See `Editor`."""
        return Edit.LEAVE_OUT if _is_unknown(tag) or tag in self._actions else Edit.KEEP

    def blanked(self, walk: Walk, offset: int, length: int) -> Ranges:
        """See `Editor`."""
        return tuple(frame_comments(walk, offset, length))

    def _not_in_the_table(self, tag: int, vr: str, length: int) -> Edit | Rewrite:
        if vr == "UI":
            return Edit.KEEP if tag in _CLASSES else self._uids
        if vr == "PN":
            return Edit.EMPTY
        if vr in _PLACES or vr_of(tag) == "UN":
            return Edit.LEAVE_OUT
        if vr in _FREE_TEXTS:
            return _redacted
        if tag == SPECIFIC_CHARACTER_SET:
            return Edit.KEEP
        if vr in ("LO", "SH"):
            return self._harmless
        form = _FORMS.get(vr)
        if form is None or length > LONGEST_EDITED:  # the contours of a structure set, say
            return Edit.KEEP
        harmless = self._harmless_codes if vr == "CS" else self._harmless_numbers
        if tag in _PLAIN_CODES or tag >> 16 == _IMAGE_GROUP:
            harmless = _as_it_is
        return lambda value: harmless(value) if form.fullmatch(value) else b""

    def _harmless(self, value: bytes) -> bytes:
        return _REDACTED if self._subject.tells(value) else value

    def _harmless_codes(self, value: bytes) -> bytes:
        return b"" if self._subject.tells_as_code(value) else value

    def _harmless_numbers(self, value: bytes) -> bytes:
        # Some number a series like its patient.
        return b"" if self._subject.tells_as_number(value) else value

    def _uids(self, value: bytes) -> bytes:
        uids = value.decode("ascii", "replace").split("\\")
        return "\\".join(self._pseudonyms.uid(uid.strip("\0 ")) for uid in uids).encode("ascii")


def _as_it_is(value: bytes) -> bytes:
    return value


def _redacted(value: bytes) -> bytes:
    return _REDACTED if value.strip(b"\0 ") else b""


def _moved(value: bytes, *, vr: str, shift: timedelta) -> bytes:
    return b"\\".join(_moved_one(each.strip(b"\0 "), vr, shift) for each in value.split(b"\\"))


def _moved_one(value: bytes, vr: str, shift: timedelta) -> bytes:
    if vr == "TM":  # whole days leave the time of the day alone
        return value if _TIME.fullmatch(value) else b""
    match = (_DATE if vr == "DA" else _DATE_TIME).fullmatch(value)
    if match is None:
        return b""
    year, month, day, *rest = match.groups()
    try:
        moved = date(int(year), int(month), int(day)) + shift
    except (ValueError, OverflowError):
        return b""
    return f"{moved.year:04}{moved.month:02}{moved.day:02}".encode() + b"".join(rest)


def _is_unknown(tag: int) -> bool:
    """Private elements, curves and overlays, padding, and what belongs before a data set."""
    group = tag >> 16
    return (
        group % 2 == 1
        or group < _FIRST_GROUP
        or group >> 8 in _REPEATING
        or tag == _TRAILING_PADDING
    )


def _own(pseudonym: str) -> dict[int, bytes]:
    """What the object says in the place of its identities, and how it came to that."""
    return {
        PATIENT_NAME: _text(PATIENT_NAME, "PN", pseudonym),
        PATIENT_ID: _text(PATIENT_ID, "LO", pseudonym),
        _IDENTITY_REMOVED: _text(_IDENTITY_REMOVED, "CS", "YES"),
        _METHOD: _text(_METHOD, "LO", "PS3.15 E.1-1 Basic Profile, Modified Dates"),
        _METHOD_CODES: _method_codes(),
        _TIMES_MODIFIED: _text(_TIMES_MODIFIED, "CS", "MODIFIED"),
    }


def _method_codes() -> bytes:
    """PS3.16 CID 7050: the profile and its option."""
    items = b"".join(
        OPENED_ITEM
        + _text(0x00080100, "SH", code)
        + _text(0x00080102, "SH", "DCM")
        + _text(0x00080104, "LO", meaning)
        + CLOSED_ITEM
        for code, meaning in (
            ("113100", "Basic Application Confidentiality Profile"),
            ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
        )
    )
    return element_head(_METHOD_CODES, "SQ", UNDEFINED) + items + CLOSED_SEQUENCE


def _text(tag: int, vr: str, value: str) -> bytes:
    return encoded(tag, vr, value.encode("ascii"))

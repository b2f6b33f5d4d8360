"""Values of HL7 as elements of the DICOM JSON model (PS3.18 Annex F), with what is odd about them.

An element without `Value` empties the attribute; None says nothing of it.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from gantry_domain.hl7.message import NULL, Repetition
from gantry_domain.json_model import Element, valid_uid

# Findings: about a field, whose name stands beside them.
TOO_LONG = "value_too_long"
INVALID = "value_invalid"

Report = Callable[[str], None]

# PS3.5 Table 6.2-1, in characters.
LENGTHS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UI": 64, "PN": 64}
_PARAGRAPHS = frozenset(("ST", "LT", "UT"))
_CS = re.compile(r"[A-Z0-9 _]{1,16}")
_AE = re.compile(r"[ -\[\]-~]{1,16}")
_TIMESTAMP = re.compile(
    r"(\d{4})(\d{2})?(\d{2})?T?(?:(\d{2})(\d{2})?(\d{2})?(?:\.\d+)?)?([+-]\d{4})?"
)
_NAME_COMPONENTS = 5  # family, given, middle, prefix, suffix (PS3.5 6.2.1.1)
_IDEOGRAPHIC = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


def text_element(vr: str, text: str, report: Report) -> Element | None:
    """An element with one value of text."""
    if text == NULL:
        return {"vr": vr}
    cleaned = _clean(text, vr)
    if not cleaned:
        return None
    if vr == "CS":
        cleaned = cleaned.upper()
    if (
        (vr == "UI" and not valid_uid(cleaned))
        or (vr == "CS" and not _CS.fullmatch(cleaned))
        or (vr == "AE" and not _AE.fullmatch(cleaned))
    ):
        report(INVALID)
        return None
    longest = LENGTHS.get(vr)
    if longest is not None and len(cleaned) > longest:
        report(TOO_LONG)
        cleaned = cleaned[:longest].rstrip()
    return {"vr": vr, "Value": [cleaned]}


def texts_element(vr: str, texts: Sequence[str], report: Report) -> Element | None:
    """An element with several values."""
    found = [text_element(vr, text, report) for text in texts]
    values = [value for element in found if element for value in element.get("Value", ())]
    if values:
        return {"vr": vr, "Value": values}
    return next((element for element in found if element is not None), None)


def _clean(text: str, vr: str) -> str:
    """Text without what no value of DICOM may hold: controls, and backslashes, which divide it."""
    if vr not in _PARAGRAPHS:
        text = " ".join(text.replace("\\", "/").split("\n"))
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(kept).replace("\n", "\r\n").strip()


def name_element(repetitions: Sequence[Repetition], first: int, report: Report) -> Element | None:
    """A person's name, of XPN (`first` is 1) or XCN, where an identifier comes first (`first` 2).

    Repetitions in other scripts become component groups: by their representation code
    (HL7 Table 0465), or by what they are written in.
    """
    if repetitions and repetitions[0].null:
        return {"vr": "PN"}
    groups: dict[str, str] = {}
    for repetition in repetitions:
        name = _name(repetition, first)
        if not name:
            continue
        code = repetition.text(first + 7).upper()
        if code in ("I", "P"):
            group = "Ideographic" if code == "I" else "Phonetic"
        elif "Alphabetic" in groups and _IDEOGRAPHIC.search(name):
            group = "Ideographic"
        else:
            group = "Alphabetic"
        if len(name) > LENGTHS["PN"]:
            report(TOO_LONG)
            name = name[: LENGTHS["PN"]].rstrip("^ ")
        groups.setdefault(group, name)
    if not groups:
        return None
    order = ("Alphabetic", "Ideographic", "Phonetic")
    return {"vr": "PN", "Value": [{group: groups[group] for group in order if group in groups}]}


def _name(repetition: Repetition, first: int) -> str:
    """family^given^middle^suffix^prefix of HL7 as family^given^middle^prefix^suffix."""
    named = repetition.subcomponents(1)
    if first == 2 and len(named) > 2:  # of type NDL: the name is within one component
        parts = named[1:6]
    else:
        parts = [repetition.text(first + place) for place in range(_NAME_COMPONENTS)]
    parts = [_clean(part, "PN").replace("^", " ").replace("=", " ") for part in parts]
    parts += [""] * (_NAME_COMPONENTS - len(parts))
    family, given, middle, suffix, prefix = ("" if part == NULL else part for part in parts)
    return "^".join((family, given, middle, prefix, suffix)).rstrip("^")


def code_element(repetition: Repetition, first: int) -> Element | None:
    """A sequence of one coded entry, of code^meaning^scheme that begin at component `first`."""
    if repetition.null:
        return {"vr": "SQ"}
    code, meaning, scheme = (repetition.text(first + place) for place in range(3))
    return coded(code, meaning or code, scheme or "L") if code else None


def coded(code: str, meaning: str, scheme: str) -> Element:
    """A sequence of one coded entry (PS3.3 8.8)."""
    short = len(code) <= LENGTHS["SH"]
    entry: dict[str, Element] = {
        "00080102": {"vr": "SH", "Value": [_clean(scheme, "SH")[: LENGTHS["SH"]]]},
        "00080104": {"vr": "LO", "Value": [_clean(meaning, "LO")[: LENGTHS["LO"]]]},
    }
    if short:
        entry["00080100"] = {"vr": "SH", "Value": [_clean(code, "SH")]}
    else:
        entry["00080119"] = {"vr": "UC", "Value": [_clean(code, "UC")]}
    return {"vr": "SQ", "Value": [dict(sorted(entry.items()))]}


def moment(text: str, zone: ZoneInfo) -> tuple[str, str] | None:
    """A time stamp (HL7 v2 2.A.22) as DA and TM, TM empty where it ends with the date.

    One with an offset is converted to `zone`. None where it is no day of the calendar.
    """
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None or not (match[2] and match[3]):
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        found = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
        if match[7] and match[4]:
            sign = -1 if match[7][0] == "-" else 1
            offset = sign * timedelta(hours=int(match[7][1:3]), minutes=int(match[7][3:]))
            found = found.replace(tzinfo=timezone(offset)).astimezone(zone)
    except (ValueError, OverflowError):
        return None
    return found.strftime("%Y%m%d").zfill(8), found.strftime("%H%M%S") if match[4] else ""


# HL7 Table 0001 -> (0010,0040), PS3.3 C.7.1.1; Unknown is no value.
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O", "N": "O", "U": ""}
# HL7 Tables 0485 and 0027 -> (0040,1003), PS3.3 C.4.11.
_PRIORITIES = {
    "S": "STAT", "STAT": "STAT", "A": "HIGH", "T": "HIGH", "HIGH": "HIGH", "P": "MEDIUM",
    "C": "MEDIUM", "MEDIUM": "MEDIUM", "R": "ROUTINE", "ROUTINE": "ROUTINE", "LOW": "LOW",
}  # fmt: skip


def sex_element(text: str, report: Report) -> Element | None:
    """(0010,0040). What is in no table says nothing."""
    if text == NULL:
        return {"vr": "CS"}
    if not text:
        return None
    sex = _SEXES.get(text.upper())
    if sex is None:
        report(INVALID)
        return None
    return {"vr": "CS", "Value": [sex]} if sex else {"vr": "CS"}


def priority_element(text: str, report: Report) -> Element | None:
    """(0040,1003). A priority of the sender's own is passed on as it is."""
    known = _PRIORITIES.get(text.strip().upper())
    return text_element("SH", text, report) if known is None else {"vr": "SH", "Value": [known]}


def pregnancy_element(texts: Sequence[str]) -> Element | None:
    """(0010,21C0) of PV1-15, Ambulatory Status: B6 is pregnant (HL7 Table 0009)."""
    return {"vr": "US", "Value": [3]} if "B6" in texts else None


_UNITS: Mapping[str, Mapping[str, float]] = {
    "PatientWeight": {"": 1, "kg": 1, "g": 0.001, "lb": 0.45359237, "[lb_av]": 0.45359237},
    "PatientSize": {"": 1, "m": 1, "cm": 0.01, "mm": 0.001, "[in_i]": 0.0254, "in": 0.0254},
}
_LARGEST: Mapping[str, float] = {"PatientWeight": 700, "PatientSize": 3}


def measure_element(keyword: str, value: str, unit: str, report: Report) -> Element | None:
    """(0010,1030) in kg or (0010,1020) in m. A size above 3 without a unit is in cm."""
    if not value:
        return None
    factor = _UNITS[keyword].get(unit.strip().lower())
    try:
        number = float(value)
    except ValueError:
        factor = None
    if factor is None:
        report(INVALID)
        return None
    number *= factor
    if keyword == "PatientSize" and not unit and number > _LARGEST[keyword]:
        number /= 100
    if not 0 < number <= _LARGEST[keyword]:
        report(INVALID)
        return None
    rounded = round(number, 4)
    shown: Any = int(rounded) if rounded == int(rounded) else rounded
    return {"vr": "DS", "Value": [shown]}

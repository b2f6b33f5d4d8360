"""What the index holds of a header at each level: searchable text, and attributes as sent.

Attributes are those of the attribute table, in the DICOM JSON model (PS3.18 Annex F). Searchable
text is free of NUL, at most `TEXT_LIMIT` characters long, names folded, dates as YYYYMMDD and
times as HHMMSS.FFFFFF, so that comparing text compares moments.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from gantry_domain.attributes import BY_KEYWORD, Attribute, Level, Matching, attributes_at
from gantry_domain.loose_names import beginnings
from gantry_domain.names import VALUE_SEPARATOR, fold, grams

TEXT_LIMIT = 256  # characters; an index row of PostgreSQL ends at about 2.7 kB
LARGEST_VALUE = 64 * 2**10  # bytes of JSON of one attribute; what is larger is in the header alone

# With points and colons: as ACR-NEMA wrote them (PS3.5 6.2).
_DATE = re.compile(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})")
_TIME = re.compile(r"([0-9]{2})(?:(:?)([0-9]{2})(?:\2([0-9]{2})(?:\.([0-9]{1,6})[0-9]*)?)?)?")

_NO_VALUE: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class LevelValues:
    """The columns of a row: searchable text by column name, and the attributes by tag."""

    columns: dict[str, str | None]
    attributes: dict[str, Any]


def level_values(attributes: Mapping[str, Any], *levels: Level) -> LevelValues:
    """What a row for `levels` holds of a header (its DICOM JSON model)."""
    columns: dict[str, str | None] = {}
    found: dict[str, Any] = {}
    for attribute, tag, column in _table(levels):
        element = attributes.get(tag)
        if element is not None and _small(element):
            found[tag] = element
        if column is not None:
            columns[column] = None if element is None else searchable(attribute, element)
    return LevelValues(columns, found)


@cache
def _table(levels: tuple[Level, ...]) -> list[tuple[Attribute, str, str | None]]:
    """Attribute, tag, and the column by which it is searched."""
    return [
        (
            found,
            found.tag,
            found.column if found.matching and found.matching is not Matching.UID else None,
        )
        for found in attributes_at(*levels)
        if not found.computed
    ]


def _small(element: Mapping[str, Any]) -> bool:
    # Only sequences and long text can be large; measuring the others costs more than it saves.
    values = element.get("Value", _NO_VALUE)
    if element.get("vr") != "SQ" and all(len(str(value)) < 1024 for value in values):
        return len(values) < 256
    return len(orjson.dumps(element)) <= LARGEST_VALUE


def searchable(attribute: Attribute, element: Mapping[str, Any] | None) -> str | None:
    """The text by which an element is found; None where it has no value, or none that compares."""
    texts = list(_texts(element or {}))
    if not any(texts):
        return None
    match attribute.matching:
        case Matching.NAME:
            return fold(VALUE_SEPARATOR.join(texts))[:TEXT_LIMIT] or None
        case Matching.DATE:
            return comparable_date(texts[0])
        case Matching.TIME:
            return comparable_time(texts[0])
        case _:
            return VALUE_SEPARATOR.join(texts)[:TEXT_LIMIT]


def _texts(element: Mapping[str, Any]) -> Iterator[str]:
    for value in element.get("Value", _NO_VALUE):
        if isinstance(value, str):
            text = value
        elif isinstance(value, dict):  # PN (PS3.18 F.2.2)
            groups = (value.get(key, "") for key in ("Alphabetic", "Ideographic", "Phonetic"))
            text = "=".join(groups).rstrip("=")
        else:
            text = "" if value is None else str(value)
        yield (text.replace("\0", "") if "\0" in text else text).strip()


def comparable_date(text: str) -> str | None:
    """A DA value as YYYYMMDD; None if it is none."""
    found = _DATE.fullmatch(text)
    return f"{found[1]}{found[3]}{found[4]}" if found else None


def comparable_time(text: str) -> str | None:
    """A TM value as HHMMSS.FFFFFF, what is left out being zero; None if it is none."""
    found = _TIME.fullmatch(text)
    if not found:
        return None
    return f"{found[1]}{found[3] or '00'}{found[4] or '00'}.{(found[5] or ''):0<6}"


def name_grams(columns: Mapping[str, str | None]) -> list[str]:
    """The grams by which a row's PatientName is found, in order."""
    return sorted(grams(columns.get("patient_name") or ""))


def name_beginnings(columns: Mapping[str, str | None]) -> list[str]:
    """The beginnings by which a row's PatientName is found loosely, in order."""
    return sorted(beginnings(columns.get("patient_name") or ""))


_IDENTITY = [
    (BY_KEYWORD[keyword], BY_KEYWORD[keyword].tag) for keyword in ("PatientID", "IssuerOfPatientID")
]


def patient_identity(attributes: Mapping[str, Any], StudyInstanceUID: str) -> str:
    """Who the patient of a header is: PatientID with its issuer, as far as both are searchable.

    Without PatientID it is the study: two studies without one are not of the same person.
    """
    PatientID, issuer = (
        searchable(attribute, attributes.get(tag)) or "" for attribute, tag in _IDENTITY
    )
    if not PatientID:
        return f"study:{StudyInstanceUID}"
    # As JSON, for both may hold any character.
    return f"patient:{orjson.dumps([PatientID, issuer]).decode()}"

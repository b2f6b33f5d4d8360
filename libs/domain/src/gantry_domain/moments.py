"""Dates and times that belong together, and those of another time zone (PS3.4 C.2.2.2.5.4).

A moment is a date and a time as the columns of the index have them: YYYYMMDD, HHMMSS.FFFFFF.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from gantry_domain.attributes import BY_KEYWORD, Attribute

FIRST_TIME, LAST_TIME = "000000.000000", "235959.999999"

# Each date with its time: of what is matched, and of what is only returned.
_PAIRS = (
    ("StudyDate", "StudyTime"),
    ("SeriesDate", "SeriesTime"),
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    ("ContentDate", "ContentTime"),
)
PAIRS: tuple[tuple[Attribute, Attribute], ...] = tuple(
    (BY_KEYWORD[date], BY_KEYWORD[time]) for date, time in _PAIRS
)
TAGS: tuple[tuple[str, str], ...] = (
    *((date.tag, time.tag) for date, time in PAIRS),
    ("00080012", "00080013"),  # Instance Creation
    ("00080022", "00080032"),  # Acquisition
    ("00400250", "00400251"),  # Performed Procedure Step End
)

_OFFSET = re.compile(r"([+-])([0-9]{2})([0-9]{2})")
_FURTHEST = timedelta(hours=14)

Moment = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Zones:
    """The time zone that is asked in, and that of values that name none.

    `asked` is an offset from UTC; `local` a name of the IANA database.
    """

    asked: timedelta
    local: str


@dataclass(frozen=True, slots=True)
class Moments:
    """A date, which is the key's attribute, with its `time` lies between these, both included.

    None is open. With `zones` these are moments of the zone that is asked in.
    """

    time: Attribute
    low: Moment | None
    high: Moment | None
    zones: Zones | None = None


@dataclass(frozen=True, slots=True)
class TimesOfDay:
    """A time, which is the key's attribute, lies between these in the zone that is asked in."""

    date: Attribute
    low: str | None
    high: str | None
    zones: Zones


def parse_offset(text: str) -> timedelta | None:
    """A value of (0008,0201) such as +0800 as an offset (PS3.3 C.12.1.1.8); None if it is none."""
    found = _OFFSET.fullmatch(text.strip())
    if found is None or int(found[3]) > 59:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
    if offset > _FURTHEST:
        return None
    return -offset if found[1] == "-" else offset


def to_datetime(moment: Moment) -> datetime | None:
    """A moment without its time zone; None for what no clock shows."""
    try:
        return datetime.strptime("".join(moment), "%Y%m%d%H%M%S.%f")  # noqa: DTZ007 - of any zone
    except ValueError:
        return None


def in_zone(
    moment: datetime, *, own: timedelta | None, local: tzinfo, asked: timedelta
) -> datetime:
    """A moment of its `own` offset, or else of `local`, as a clock of the other zone shows it."""
    zone = local if own is None else timezone(own)
    return moment.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None) + asked

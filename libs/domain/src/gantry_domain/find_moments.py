"""What a C-FIND asks of dates and times, where more than each by itself is agreed on.

Combined matching: a range of dates and one of times of the same form are one range of moments
(PS3.4 C.2.2.2.5.4). Adjusted to a time zone, values are compared, and answered, as a clock of that
zone shows them (C.2.2.2.1.3): so the date alone is a range of moments, too.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Any

from gantry_domain.attributes import Attribute
from gantry_domain.levels import comparable_date, comparable_time
from gantry_domain.moments import (
    FIRST_TIME,
    LAST_TIME,
    PAIRS,
    TAGS,
    Moment,
    Moments,
    TimesOfDay,
    Zones,
    in_zone,
    parse_offset,
    to_datetime,
)
from gantry_domain.query import BadQuery, Key, Range

_OFFSET_TAG = "00080201"

_Form = tuple[bool, bool]


def taken_together(
    keys: Sequence[Key], *, ranges: Collection[str], combined: bool, zones: Zones | None
) -> tuple[Key, ...]:
    """The keys, with those of dates and times in one where that is agreed on.

    `ranges`: keywords of the keys whose value is a range. `combined`, `zones`: what is agreed on.
    Raises `BadQuery` for a date that no calendar has, where it is needed as such.
    """
    left = {key.attribute.keyword: key for key in keys}
    made: list[Key] = []
    for date, time in PAIRS:
        days, times = _range(left.get(date.keyword)), _range(left.get(time.keyword))
        together = (
            combined
            and days is not None
            and times is not None
            and {date.keyword, time.keyword} <= set(ranges)
            and _form(days) == _form(times)
        )
        if together or zones is not None:
            made += _pair(date, time, days, times, together=together, zones=zones)
            for attribute, test in ((date, days), (time, times)):
                if test is not None:
                    del left[attribute.keyword]
    for key in made:
        _check(key)
    return (*left.values(), *made)


def _pair(
    date: Attribute,
    time: Attribute,
    days: Range | None,
    times: Range | None,
    *,
    together: bool,
    zones: Zones | None,
) -> Iterator[Key]:
    if days is not None:
        first, last = (times.low, times.high) if together and times else (FIRST_TIME, LAST_TIME)
        low = (days.low, first) if days.low and first else None
        high = (days.high, last) if days.high and last else None
        yield Key(date, Moments(time, low, high, zones))
    if times is not None and not together and zones is not None:
        yield Key(time, TimesOfDay(date, times.low, times.high, zones))


def _range(key: Key | None) -> Range | None:
    return key.test if key is not None and isinstance(key.test, Range) else None


def _form(found: Range) -> _Form:
    return found.low is None, found.high is None


def _check(key: Key) -> None:
    test = key.test
    if isinstance(test, Moments) and test.zones is not None:
        ends: list[Moment] = [end for end in (test.low, test.high) if end is not None]
        if any(to_datetime(end) is None for end in ends):
            raise BadQuery(key.attribute.keyword, "is not a date of the calendar")


@dataclass(frozen=True, slots=True)
class AnswerZone:
    """Answers as a clock of the zone shows them that is asked in: `text` is its (0008,0201).

    `local` is the zone of values that name none.
    """

    text: str
    asked: timedelta
    local: tzinfo

    @staticmethod
    def include(tags: Collection[str]) -> frozenset[str]:
        """What has to be looked up so that these can be answered."""
        pairs = (pair for pair in TAGS if not set(pair).isdisjoint(tags))
        also = {tag for pair in pairs for tag in pair}
        return frozenset(tags) | also | ({_OFFSET_TAG} if also else set())

    def adjusted(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document in that zone; what lacks its date or its time is left as it is."""
        changed = dict(document)
        own = parse_offset(_text(document, _OFFSET_TAG))
        for date_tag, time_tag in TAGS:
            date, time = _text(document, date_tag), _text(document, time_tag)
            day, clock = comparable_date(date), comparable_time(time)
            moment = to_datetime((day, clock)) if day and clock else None
            if moment is None:
                continue
            shown = in_zone(moment, own=own, local=self.local, asked=self.asked)
            changed[date_tag] = {"vr": "DA", "Value": [f"{shown:%Y%m%d}"]}
            changed[time_tag] = {"vr": "TM", "Value": [_as_exact(f"{shown:%H%M%S.%f}", time)]}
        changed[_OFFSET_TAG] = {"vr": "SH", "Value": [self.text]}
        return changed


def _as_exact(shown: str, sent: str) -> str:
    """No more digits than were sent, but minutes, for a zone may be off by half an hour."""
    digits = len(sent.replace(":", ""))
    return shown[: max(digits, 4)]


def _text(document: Mapping[str, Any], tag: str) -> str:
    values = document.get(tag, {}).get("Value") or [""]
    return str(values[0] or "").strip()

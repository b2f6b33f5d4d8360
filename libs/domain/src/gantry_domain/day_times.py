"""Times of the day, such as 22:00-06:00, and of the week, such as Mon-Fri 08:00-18:00."""

import re
from dataclasses import dataclass
from datetime import datetime, time

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class DaySpan:
    """From `begin` up to `end`, over midnight where that is earlier."""

    begin: time
    end: time

    def includes(self, now: time) -> bool:
        """Whether a time of the day, in the zone of the two, lies in it."""
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end


def parse_day_span(text: str) -> DaySpan:
    """Reads `HH:MM-HH:MM`. Raises `ValueError`."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time of the day: write it as 22:00-06:00")
    hours = [int(each) for each in match.groups()]
    begin, end = time(hours[0], hours[1]), time(hours[2], hours[3])
    if begin == end:
        raise ValueError(f"{text} begins when it ends")
    return DaySpan(begin, end)


@dataclass(frozen=True, slots=True)
class WeekSpan:
    """A time of the day, or all of it (None), on these days of the week (0 is Monday).

    What runs over midnight belongs to the day on which it begins.
    """

    days: frozenset[int]
    span: DaySpan | None = None

    def includes(self, now: datetime) -> bool:
        """Whether a moment, in the zone of the span, lies in it."""
        today = now.weekday()
        if self.span is None:
            return today in self.days
        at, over_midnight = now.time(), self.span.begin > self.span.end
        begun = today if not over_midnight or at >= self.span.begin else (today - 1) % 7
        return begun in self.days and self.span.includes(at)


def parse_week_span(text: str) -> WeekSpan:
    """Reads `Mon-Fri 08:00-18:00`, `Sat,Sun` or `22:00-06:00`. Raises `ValueError`."""
    words = text.split()
    if len(words) not in (1, 2):
        raise ValueError(f"{text!r} is no time of the week: write it as Mon-Fri 08:00-18:00")
    span = parse_day_span(words[-1]) if words[-1][:1].isdigit() else None
    if len(words) == 2 and span is None:
        raise ValueError(f"{text!r} is no time of the week: write it as Mon-Fri 08:00-18:00")
    if span is not None and len(words) == 1:
        return WeekSpan(frozenset(range(len(_DAYS))), span)
    return WeekSpan(_days(words[0]), span)


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = _day(first)
        count = (_day(last) - begin) % len(_DAYS) if dash else 0
        found.update((begin + each) % len(_DAYS) for each in range(count + 1))
    return frozenset(found)


def _day(text: str) -> int:
    name = text.casefold()
    if name not in _DAYS:
        raise ValueError(f"{text!r} is no day of the week: write Mon, Tue, Wed, Thu, Fri, Sat, Sun")
    return _DAYS.index(name)

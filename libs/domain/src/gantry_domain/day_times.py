"""Times of the day at which something may be done, such as 22:00-06:00."""

import re
from dataclasses import dataclass
from datetime import time

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

"""Tests of dates and times together, and in another time zone, as SQL conditions.

The columns hold dates as YYYYMMDD and times as HHMMSS.FFFFFF, neither checked against a calendar.
"""

from datetime import datetime, timedelta

from gantry_domain.moments import (
    FIRST_TIME,
    LAST_TIME,
    Moment,
    Moments,
    TimesOfDay,
    Zones,
    to_datetime,
)
from gantry_stores.index.values import Values

# Two clocks show at most two days apart: -1200 and +1400 are 26 hours.
_APART = timedelta(days=2)
# What a study says of its own clock, (0008,0201).
_OFFSET = "(study.attributes -> '00080201' -> 'Value' ->> 0)"
_OWN = f"CASE WHEN {_OFFSET} ~ '^[+-][0-9]{{4}}$' THEN {_OFFSET} END"
# +0800 as an interval of hours and minutes, with its sign before both.
_EAST = rf"regexp_replace({_OWN}, '^(.)(..)(..)$', '\1\2:\3')::interval"


def moments_condition(date: str, time: str, moments: Moments, values: Values) -> str:
    """What rows satisfy whose date and time lie between two moments; both are empty where absent.

    Where the time is absent the day has to lie there as a whole.
    """
    plain = _plain(date, time, moments.low, moments.high, values)
    if moments.zones is None:
        return plain
    shown = _shown(date, time, moments.zones, values)
    low, high = _moment(moments.low), _moment(moments.high)
    # An index knows the dates as they stand.
    near = [f"{date} >= {values.text(f'{low - _APART:%Y%m%d}')}" if low else f"{date} > ''"]
    within = [f"{shown} >= {values.moment(low)}" if low else f"{shown} IS NOT NULL"]
    if high is not None:
        near.append(f"{date} <= {values.text(f'{high + _APART:%Y%m%d}')}")
        within.append(f"{shown} <= {values.moment(high)}")
    return f"{' AND '.join(near)} AND ({' AND '.join(within)} OR {time} = '' AND {plain})"


def times_condition(date: str, time: str, times: TimesOfDay, values: Values) -> str:
    """What rows satisfy whose time lies between two of a clock of the zone that is asked in."""
    clock = f"to_char({_shown(date, time, times.zones, values)}, 'HH24MISS.US')"
    ends = [f"{clock} >= {values.text(times.low)}" if times.low else f"{clock} IS NOT NULL"]
    if times.high is not None:
        ends.append(f"{clock} <= {values.text(times.high)}")
    return " AND ".join(ends)


def _plain(date: str, time: str, low: Moment | None, high: Moment | None, values: Values) -> str:
    conditions: list[str] = []
    if low is None:
        conditions.append(f"{date} > ''")
    elif low[1] == FIRST_TIME:
        conditions.append(f"{date} >= {values.text(low[0])}")
    else:
        # In this form an index by date and time serves it.
        moment = ", ".join(map(values.text, low))
        conditions.append(f"({date}, {time}) >= ({moment})")
    if high is not None and high[1] == LAST_TIME:
        conditions.append(f"{date} <= {values.text(high[0])}")
    elif high is not None:
        day, moment = map(values.text, high)
        conditions.append(f"({date}, {time}) <= ({day}, {moment})")
        conditions.append(f"({date} <> {day} OR {time} <> '')")
    return " AND ".join(conditions)


def _shown(date: str, time: str, zones: Zones, values: Values) -> str:
    """What a clock of the zone that is asked in shows; null where that cannot be told."""
    text = rf"{date} || ' ' || regexp_replace({time}, '^(..)(..)(.*)$', '\1:\2:\3')"
    valid = f"{time} <> '' AND pg_input_is_valid({text}, 'timestamp')"
    moment = f"(CASE WHEN {valid} THEN {text} END)::timestamp"
    local = f"timezone('UTC', timezone({values.text(zones.local)}, {moment}))"
    return f"coalesce({moment} - {_EAST}, {local}) + {values.span(zones.asked)}"


def _moment(moment: Moment | None) -> datetime | None:
    return None if moment is None else to_datetime(moment)

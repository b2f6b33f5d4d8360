"""Tests of dates and times together, and in another time zone, as SQL conditions.

The columns hold dates as YYYYMMDD and times as HHMMSS.FFFFFF, neither checked against a calendar.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Interval,
    Text,
    and_,
    case,
    func,
    or_,
    true,
    tuple_,
)
from sqlalchemy import cast as sql_cast

from gantry_domain.moments import (
    FIRST_TIME,
    LAST_TIME,
    Moment,
    Moments,
    TimesOfDay,
    Zones,
    to_datetime,
)
from gantry_stores.index.schema import study

_DAY = timedelta(days=1)
# Two clocks show at most two days apart: -1200 and +1400 are 26 hours.
_APART = 2 * _DAY
_OFFSET = "00080201"


def moments_condition(
    date: ColumnElement[str], time: ColumnElement[str], moments: Moments
) -> ColumnElement[bool]:
    """What rows satisfy whose date and time lie between two moments; both are empty where absent.

    Where the time is absent the day has to lie there as a whole.
    """
    plain = _plain(date, time, moments.low, moments.high)
    if moments.zones is None:
        return plain
    shown = _shown(date, time, moments.zones)
    low, high = _moment(moments.low), _moment(moments.high)
    # An index knows the dates as they stand.
    near = [
        date >= f"{low - _APART:%Y%m%d}" if low is not None else date > "",
        date <= f"{high + _APART:%Y%m%d}" if high is not None else true(),
    ]
    within = and_(
        shown >= low if low is not None else shown.is_not(None),
        shown <= high if high is not None else true(),
    )
    return and_(*near, or_(within, and_(time == "", plain)))


def times_condition(
    date: ColumnElement[str], time: ColumnElement[str], times: TimesOfDay
) -> ColumnElement[bool]:
    """What rows satisfy whose time lies between two of a clock of the zone that is asked in."""
    clock = func.to_char(_shown(date, time, times.zones), "HH24MISS.US", type_=Text)
    return and_(
        clock >= times.low if times.low is not None else clock.is_not(None),
        clock <= times.high if times.high is not None else true(),
    )


def _plain(
    date: ColumnElement[str], time: ColumnElement[str], low: Moment | None, high: Moment | None
) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    if low is None:
        conditions.append(date > "")
    elif low[1] == FIRST_TIME:
        conditions.append(date >= low[0])
    else:
        # In this form an index by date and time serves it.
        conditions.append(tuple_(date, time) >= tuple_(*low))
    if high is not None and high[1] == LAST_TIME:
        conditions.append(date <= high[0])
    elif high is not None:
        conditions.append(tuple_(date, time) <= tuple_(*high))
        conditions.append(or_(date != high[0], time != ""))
    return and_(*conditions)


def _shown(
    date: ColumnElement[str], time: ColumnElement[str], zones: Zones
) -> ColumnElement[datetime]:
    """What a clock of the zone that is asked in shows; null where that cannot be told."""
    text = date + " " + func.regexp_replace(time, r"^(..)(..)(.*)$", r"\1:\2:\3", type_=Text)
    valid = and_(time != "", func.pg_input_is_valid(text, "timestamp", type_=Boolean))
    moment = sql_cast(case((valid, text)), DateTime)
    offset = study.c.attributes[_OFFSET]["Value"][0].astext
    own = case((offset.regexp_match("^[+-][0-9]{4}$"), offset))
    # +0800 as an interval of hours and minutes, with its sign before both.
    east: ColumnElement[Any] = sql_cast(
        func.regexp_replace(own, "^(.)(..)(..)$", r"\1\2:\3", type_=Text), Interval
    )
    local = func.timezone("UTC", func.timezone(zones.local, moment), type_=DateTime)
    return func.coalesce(moment - east, local, type_=DateTime) + zones.asked


def _moment(moment: Moment | None) -> datetime | None:
    return None if moment is None else to_datetime(moment)

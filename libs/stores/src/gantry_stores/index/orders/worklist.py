"""The worklist: scheduled steps that pass the keys of a question, soonest first, page by page."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Text, and_, func, or_, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

from gantry_domain.json_model import Element
from gantry_domain.names import GROUP_SEPARATOR, VALUE_SEPARATOR
from gantry_domain.orders.attributes import (
    MATCHED,
    SCHEDULED_PROCEDURE_STEP_SEQUENCE,
    STATUS,
    Place,
    tag_of,
)
from gantry_domain.orders.question import WorklistKey, WorklistQuestion
from gantry_domain.orders.states import STATUSES, StepState
from gantry_domain.query import Empty, Like, Names, NameTest, OneOf, Pattern, Range
from gantry_stores.index.order_tables import order_, order_patient, order_step

Document = dict[str, Element]
Position = tuple[str, str, int]
"""Date, time and surrogate of the last step of a page."""

_DATE, _TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
_STATION = "ScheduledStationAETitle"
_STATIONS = tag_of(_STATION)
_TABLES = {Place.PATIENT: order_patient, Place.ORDER: order_, Place.STEP: order_step}
_COLUMNS = {
    attribute.keyword: _TABLES[place].c[attribute.column]
    for place, attributes in MATCHED.items()
    for attribute in attributes
}
_EMPTY: ColumnElement[str] = sa.literal_column("''", Text)
# Written out, for the expressions of an index are compared as written.
_STEP_DATE = func.coalesce(order_step.c.scheduled_procedure_step_start_date, _EMPTY, type_=Text)
_STEP_TIME = func.coalesce(order_step.c.scheduled_procedure_step_start_time, _EMPTY, type_=Text)
_MIDNIGHT, _END_OF_DAY = "000000.000000", "235959.999999"


@dataclass(frozen=True, slots=True)
class WorklistPage:
    """Matches, each as the attributes of one response; `next` continues, None: that is all."""

    rows: list[Document]
    next: Position | None


def search_worklist(
    connection: Connection,
    question: WorklistQuestion,
    *,
    partition: str,
    limit: int,
    after: Position | None = None,
    unassigned: bool = False,
) -> WorklistPage:
    """At most `limit` matches after a position.

    `unassigned`: a step without a station is any station's that asks, and is returned as its.
    """
    conditions = [
        order_step.c.partition == partition,
        order_step.c.state.in_(_written(question.states)),
        *_moments(question),
        *(
            _condition(key, question, unassigned=unassigned)
            for key in question.keys
            if not _of_moment(key)
        ),
    ]
    if after is not None:
        place = sa.tuple_(_STEP_DATE, _STEP_TIME, order_step.c.pk)
        conditions.append(place > sa.tuple_(*after))
    statement = (
        sa.select(
            order_patient.c.attributes.label("of_patient"),
            order_.c.attributes.label("of_order"),
            order_step.c.attributes.label("of_step"),
            order_step.c.state,
            _STEP_DATE.label("date"),
            _STEP_TIME.label("time"),
            order_step.c.pk,
        )
        .join_from(order_step, order_, order_.c.pk == order_step.c.order_pk)
        .join(order_patient, order_patient.c.pk == order_.c.patient_pk)
        .where(*conditions)
        .order_by(_STEP_DATE, _STEP_TIME, order_step.c.pk)
        .limit(limit + 1)
    )
    rows = connection.execute(statement).all()
    more = len(rows) > limit
    documents = [_document(row, question.station) for row in rows[:limit]]
    last = rows[limit - 1] if more else None
    return WorklistPage(documents, (last.date, last.time, last.pk) if last is not None else None)


def _written(states: Collection[StepState]) -> list[ColumnElement[str]]:
    # As constants, or the partial index cannot be used.
    return [sa.literal_column(f"'{state.value}'", Text) for state in sorted(states)]


def _document(row: sa.Row[*tuple[Any, ...]], station: str | None) -> Document:
    step = dict(row.of_step)
    if station is not None and _STATIONS not in step:
        step[_STATIONS] = {"vr": "AE", "Value": [station]}
    step[STATUS.tag] = {"vr": STATUS.vr, "Value": [STATUSES[StepState(row.state)]]}
    sequence = {"vr": "SQ", "Value": [dict(sorted(step.items()))]}
    return {**row.of_order, **row.of_patient, SCHEDULED_PROCEDURE_STEP_SEQUENCE: sequence}


def _of_moment(key: WorklistKey) -> bool:
    return key.keyword in (_DATE, _TIME) and isinstance(key.test, Range)


def _moments(question: WorklistQuestion) -> list[ColumnElement[bool]]:
    """Ranges of date and time, of which both together are one range (PS3.4 C.2.2.2.5)."""
    dates, times = question.range_of(_DATE), question.range_of(_TIME)
    if dates is None:
        return [] if times is None else [_range(_STEP_TIME, times)]
    found = [_range(_STEP_DATE, dates)]
    if times is None:
        return found
    if dates.low == dates.high:
        return [*found, _range(_STEP_TIME, times)]
    moment = sa.tuple_(_STEP_DATE, _STEP_TIME)
    if dates.low is not None:
        found.append(moment >= sa.tuple_(sa.literal(dates.low), times.low or _MIDNIGHT))
    if dates.high is not None:
        found.append(moment <= sa.tuple_(sa.literal(dates.high), times.high or _END_OF_DAY))
    return found


def _condition(
    key: WorklistKey, question: WorklistQuestion, *, unassigned: bool
) -> ColumnElement[bool]:
    column = _COLUMNS[key.keyword]
    if key.keyword == _STATION:
        none = func.cardinality(column) == 0
        if isinstance(key.test, Empty):
            return none
        found = _of_stations(column, key.test)
        return or_(found, none) if unassigned and question.station is not None else found
    match key.test:
        case Empty():
            return func.coalesce(column, _EMPTY) == _EMPTY
        case OneOf(values):
            return column.in_(values)
        case Like(patterns):
            return or_(*(_like(column, pattern) for pattern in patterns))
        case Range():
            return _range(func.coalesce(column, _EMPTY, type_=Text), key.test)
        case Names(tests):
            return or_(*(_name(column, test) for test in tests))
        case _:
            raise AssertionError(f"{type(key.test).__name__} is no test of a worklist")


def _of_stations(column: ColumnElement[Any], test: object) -> ColumnElement[bool]:
    match test:
        case OneOf(values):
            array = sa.cast(list(values), ARRAY(Text))
            return cast("ColumnElement[bool]", column.overlap(array))
        case Like(patterns):
            title = func.unnest(column, type_=Text).column_valued("station")
            passes = or_(*(_like(title, pattern) for pattern in patterns))
            return sa.exists(sa.select(title).where(passes))
        case _:
            raise AssertionError(f"{type(test).__name__} is no test of a station")


def _range(value: ColumnElement[str], test: Range) -> ColumnElement[bool]:
    if test.low is not None and test.low == test.high:
        return value == test.low
    return and_(
        # An absent value lies in no range (PS3.4 C.2.2.2.5).
        value >= test.low if test.low is not None else value > _EMPTY,
        value <= test.high if test.high is not None else true(),
    )


def _like(value: ColumnElement[Any], pattern: Pattern) -> ColumnElement[bool]:
    if pattern.literal:
        return value == pattern.text
    escaped = pattern.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return value.like(escaped.replace("*", "%").replace("?", "_"))


def _name(column: ColumnElement[Any], test: NameTest) -> ColumnElement[bool]:
    """Over the component groups, whose text is folded."""
    if test.anywhere:
        (pattern,) = test.groups
        assert pattern is not None
        every = func.replace(column, VALUE_SEPARATOR, GROUP_SEPARATOR)
        group = func.unnest(func.string_to_array(every, GROUP_SEPARATOR), type_=Text)
        found = group.column_valued("component_group")
        return sa.exists(sa.select(found).where(_like(found, pattern)))
    return and_(
        *(
            _like(func.split_part(column, GROUP_SEPARATOR, position), pattern)
            for position, pattern in enumerate(test.groups, start=1)
            if pattern is not None
        )
    )

"""Tests of matching keys as SQL conditions.

Text is compared through bound parameters alone; what LIKE would read as its own wildcards is
escaped. The columns hold names folded, dates as YYYYMMDD and times as HHMMSS.FFFFFF.
"""

from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    TableValuedColumn,
    Text,
    and_,
    any_,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, JSONPATH

from gantry_domain.attributes import Attribute, Level, Matching
from gantry_domain.moments import Moments, TimesOfDay
from gantry_domain.names import GROUP_SEPARATOR, VALUE_SEPARATOR
from gantry_domain.query import (
    Empty,
    Key,
    Like,
    Names,
    NameTest,
    Numbers,
    OneOf,
    Pattern,
    Range,
    Test,
)
from gantry_stores.index.schema import instance, series, study
from gantry_stores.index.search.moments import moments_condition, times_condition

# A study's row has what its own images say of the patient.
TABLES = {
    Level.PATIENT: study,
    Level.STUDY: study,
    Level.SERIES: series,
    Level.INSTANCE: instance,
}

# Written into the statement, for the expressions of an index are compared as written.
_EMPTY: ColumnElement[str] = literal_column("''", Text)
_AFTER_ALL_NUMBERS: ColumnElement[int] = literal_column(str(10**13), BigInteger)


def column_of(attribute: Attribute) -> ColumnElement[Any]:
    """The column of a searchable attribute."""
    return cast("ColumnElement[Any]", TABLES[attribute.level].c[attribute.column])


def text_or_empty(attribute: Attribute) -> ColumnElement[str]:
    """The column's text, empty where absent: what text is ordered by, absent values first."""
    return func.coalesce(column_of(attribute), _EMPTY, type_=Text)


def _number(attribute: Attribute) -> ColumnElement[int]:
    """The column's integer, null where its text is none."""
    value = column_of(attribute)
    return case((value.regexp_match("^[+-]?[0-9]{1,12}$"), sql_cast(value, BigInteger)))


def number_or_last(attribute: Attribute) -> ColumnElement[int]:
    """What numbers are ordered by: the column's integer, greater than all where it holds none."""
    return func.coalesce(_number(attribute), _AFTER_ALL_NUMBERS, type_=BigInteger)


def condition(key: Key) -> ColumnElement[bool]:
    """What the rows that pass the key's test satisfy."""
    attribute = key.attribute
    if key.inner is not None:
        return _in_items(attribute, key.inner, key.test)
    match key.test:
        case Empty() if attribute.matching is Matching.SET:
            return func.cardinality(column_of(attribute)) == 0
        case Empty():
            return text_or_empty(attribute) == _EMPTY
        case Names(tests):
            return or_(*(_name(attribute, test) for test in tests))
        case Numbers(values):
            return _number(attribute).in_(values)
        case Range(low, high):
            return _range(attribute, low, high)
        case Moments() as moments:
            return moments_condition(text_or_empty(attribute), text_or_empty(moments.time), moments)
        case TimesOfDay() as times:
            return times_condition(text_or_empty(times.date), text_or_empty(attribute), times)
        case OneOf(values) if attribute.matching is Matching.SET:
            return cast("ColumnElement[bool]", column_of(attribute).overlap(_array(values)))
        case Like(patterns) if attribute.matching is Matching.SET:
            member = _each(column_of(attribute), "member")
            return _any(member, or_(*(_like(member, pattern) for pattern in patterns)))
        case OneOf(values):
            value = column_of(attribute)
            return value == values[0] if len(values) == 1 else value == any_(_array(values))
        case Like(patterns):
            return or_(*(_like(column_of(attribute), pattern) for pattern in patterns))


def _in_items(attribute: Attribute, inner: str, test: Test) -> ColumnElement[bool]:
    """One item of the sequence has a value that passes (PS3.4 C.2.2.2.6)."""
    # As a path rather than a join: what is no array, or not there, is passed over.
    path = f'lax $."{attribute.tag}".Value[*]."{inner}".Value[*]'
    attributes = TABLES[attribute.level].c.attributes
    found = func.jsonb_path_query(attributes, sql_cast(path, JSONPATH), type_=JSONB)
    element = found.column_valued("inner_value")
    value = element.op("#>>", return_type=Text())(sql_cast([], ARRAY(Text)))
    match test:
        case OneOf(values):
            passes = value == any_(_array(values))
        case Like(patterns):
            passes = or_(*(_like(value, pattern) for pattern in patterns))
        case Range(low, high):
            passes = and_(
                value >= low if low is not None else true(),
                value <= high if high is not None else true(),
            )
        case _:
            raise AssertionError(f"{type(test).__name__} is no test of an item")
    return exists(select(element).where(passes))


def _array(values: tuple[str, ...]) -> ColumnElement[Any]:
    return sql_cast(list(values), ARRAY(Text))


def _like(value: ColumnElement[str], pattern: Pattern) -> ColumnElement[bool]:
    if pattern.literal:
        return value == pattern.text
    escaped = pattern.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return value.like(escaped.replace("*", "%").replace("?", "_"))


def _range(attribute: Attribute, low: str | None, high: str | None) -> ColumnElement[bool]:
    value = text_or_empty(attribute)
    if low is not None and low == high:
        return value == low
    ends = [
        # An absent value lies in no range (PS3.4 C.2.2.2.5).
        value >= low if low is not None else value > _EMPTY,
        value <= high if high is not None else true(),
    ]
    return and_(*ends)


def _name(attribute: Attribute, test: NameTest) -> ColumnElement[bool]:
    if not test.loose:
        return _by_letters(attribute, test)
    beginnings = study.c.patient_name_beginnings
    found = [beginnings.contains(_array(tuple(sorted(words)))) for words in test.loose]
    if any(pattern and _has_inner_wildcard(pattern) for pattern in test.groups):
        found.append(_by_letters(attribute, test))
    return or_(*found)


def _has_inner_wildcard(pattern: Pattern) -> bool:
    """Whether it may find what its words alone do not; `text*` cannot."""
    return not Pattern(pattern.text.rstrip("*")).literal


def _by_letters(attribute: Attribute, test: NameTest) -> ColumnElement[bool]:
    names = column_of(attribute)
    conditions: list[ColumnElement[bool]] = []
    if attribute.keyword == "PatientName":
        grams = _grams_of(test)
        if grams:
            conditions.append(study.c.patient_name_grams.contains(_array(tuple(sorted(grams)))))
    if test.anywhere:
        (pattern,) = test.groups
        assert pattern is not None
        if _is_substring(pattern):
            # Within the whole is within one of its groups, and much quicker to see.
            return and_(*conditions, _like(names, pattern))
        every = func.replace(names, VALUE_SEPARATOR, GROUP_SEPARATOR)
        group = _each(func.string_to_array(every, GROUP_SEPARATOR), "component_group")
        conditions.append(_any(group, _like(group, pattern)))
    else:
        name = _each(func.string_to_array(names, VALUE_SEPARATOR), "name")
        groups = (
            _like(func.split_part(name, GROUP_SEPARATOR, position), pattern)
            for position, pattern in enumerate(test.groups, start=1)
            if pattern is not None
        )
        conditions.append(_any(name, and_(*groups)))
    return and_(*conditions)


def _is_substring(pattern: Pattern) -> bool:
    """Whether it asks for `*text*` with no other wildcard, and no separator within."""
    inner = pattern.text[1:-1]
    return (
        pattern.text == f"*{inner}*"
        and Pattern(inner).literal
        and GROUP_SEPARATOR not in inner
        and VALUE_SEPARATOR not in inner
    )


def _each(array: ColumnElement[Any], name: str) -> TableValuedColumn[str]:
    return func.unnest(array, type_=Text).column_valued(name)


def _any(element: TableValuedColumn[str], found: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(select(element).where(found))


def _grams_of(test: NameTest) -> set[str]:
    """Grams that every name which passes the test has: of each piece the longest there are."""
    pieces = (piece for pattern in test.groups if pattern for piece in pattern.fragments())
    return {piece[start : start + 2] for piece in pieces for start in range(max(1, len(piece) - 1))}

"""Tests of matching keys as SQL conditions.

Conditions are text; what is compared stands beside them (`Values`), and what LIKE would read as its
own wildcards is escaped. The columns hold names folded, dates as YYYYMMDD and times as
HHMMSS.FFFFFF.
"""

from collections.abc import Iterable
from functools import cache

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
from gantry_stores.index.values import Values

# A study's row has what its own images say of the patient.
TABLES = {
    Level.PATIENT: study,
    Level.STUDY: study,
    Level.SERIES: series,
    Level.INSTANCE: instance,
}

_AFTER_ALL_NUMBERS = 10**13


@cache
def column_of(attribute: Attribute) -> str:
    """The column of a searchable attribute."""
    # Asked of the table, which refuses what it does not have.
    return str(TABLES[attribute.level].c[attribute.column])


@cache
def text_or_empty(attribute: Attribute) -> str:
    """The column's text, empty where absent: what text is ordered by, absent values first.

    As in the indexes, which serve what is written like them.
    """
    return f"coalesce({column_of(attribute)}, '')"


def _number(attribute: Attribute) -> str:
    """The column's integer, null where its text is none."""
    value = column_of(attribute)
    return f"CASE WHEN {value} ~ '^[+-]?[0-9]{{1,12}}$' THEN {value}::bigint END"


@cache
def number_or_last(attribute: Attribute) -> str:
    """What numbers are ordered by: the column's integer, greater than all where it holds none."""
    return f"coalesce({_number(attribute)}, {_AFTER_ALL_NUMBERS})"


def condition(key: Key, values: Values) -> str:
    """What the rows that pass the key's test satisfy."""
    attribute = key.attribute
    if key.inner is not None:
        return _in_items(attribute, key.inner, key.test, values)
    match key.test:
        case Empty() if attribute.matching is Matching.SET:
            return f"cardinality({column_of(attribute)}) = 0"
        case Empty():
            return f"{text_or_empty(attribute)} = ''"
        case Names(tests):
            return _either(_name(attribute, test, values) for test in tests)
        case Numbers(numbers):
            return f"{_number(attribute)} = ANY({values.numbers(numbers)})"
        case Range(low, high):
            return _range(attribute, low, high, values)
        case Moments() as moments:
            date, time = text_or_empty(attribute), text_or_empty(moments.time)
            return moments_condition(date, time, moments, values)
        case TimesOfDay() as times:
            date, time = text_or_empty(times.date), text_or_empty(attribute)
            return times_condition(date, time, times, values)
        case OneOf(wanted) if attribute.matching is Matching.SET:
            return f"{column_of(attribute)} && {values.texts(wanted)}"
        case Like(patterns) if attribute.matching is Matching.SET:
            found = _either(_like("member", pattern, values) for pattern in patterns)
            return _any(f"unnest({column_of(attribute)})", "member", found)
        case OneOf((wanted,)):
            return f"{column_of(attribute)} = {values.text(wanted)}"
        case OneOf(wanted):
            return f"{column_of(attribute)} = ANY({values.texts(wanted)})"
        case Like(patterns):
            return _either(_like(column_of(attribute), pattern, values) for pattern in patterns)


def both(conditions: Iterable[str]) -> str:
    """What satisfies all of the conditions."""
    return " AND ".join(conditions)


def _either(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(conditions)})"


def _in_items(attribute: Attribute, inner: str, test: Test, values: Values) -> str:
    """One item of the sequence has a value that passes (PS3.4 C.2.2.2.6)."""
    # As a path rather than a join: what is no array, or not there, is passed over.
    path = values.path(f'lax $."{attribute.tag}".Value[*]."{inner}".Value[*]')
    found = f"jsonb_path_query({TABLES[attribute.level].name}.attributes, {path})"
    value = "(inner_value #>> '{}')"
    match test:
        case OneOf(wanted):
            passes = f"{value} = ANY({values.texts(wanted)})"
        case Like(patterns):
            passes = _either(_like(value, pattern, values) for pattern in patterns)
        case Range(low, high):
            passes = _between(value, low, high, values)
        case _:
            raise AssertionError(f"{type(test).__name__} is no test of an item")
    return _any(found, "inner_value", passes)


def _like(value: str, pattern: Pattern, values: Values) -> str:
    if pattern.literal:
        return f"{value} = {values.text(pattern.text)}"
    escaped = pattern.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{value} LIKE {values.text(escaped.replace('*', '%').replace('?', '_'))}"


def _range(attribute: Attribute, low: str | None, high: str | None, values: Values) -> str:
    value = text_or_empty(attribute)
    if low is not None and low == high:
        return f"{value} = {values.text(low)}"
    # An absent value lies in no range (PS3.4 C.2.2.2.5).
    above = [f"{value} > ''"] if low is None else []
    return both([*above, _between(value, low, high, values)])


def _between(value: str, low: str | None, high: str | None, values: Values) -> str:
    ends = []
    if low is not None:
        ends.append(f"{value} >= {values.text(low)}")
    if high is not None:
        ends.append(f"{value} <= {values.text(high)}")
    return both(ends)


def _name(attribute: Attribute, test: NameTest, values: Values) -> str:
    if not test.loose:
        return _by_letters(attribute, test, values)
    found = [
        f"study.patient_name_beginnings @> {values.texts(sorted(words))}" for words in test.loose
    ]
    if any(pattern and _has_inner_wildcard(pattern) for pattern in test.groups):
        found.append(_by_letters(attribute, test, values))
    return _either(found)


def _has_inner_wildcard(pattern: Pattern) -> bool:
    """Whether it may find what its words alone do not; `text*` cannot."""
    return not Pattern(pattern.text.rstrip("*")).literal


def _by_letters(attribute: Attribute, test: NameTest, values: Values) -> str:
    names = column_of(attribute)
    conditions: list[str] = []
    if attribute.keyword == "PatientName":
        grams = _grams_of(test)
        if grams:
            conditions.append(f"study.patient_name_grams @> {values.texts(sorted(grams))}")
    if test.anywhere:
        (pattern,) = test.groups
        assert pattern is not None
        if _is_substring(pattern):
            # Within the whole is within one of its groups, and much quicker to see.
            return both([*conditions, _like(names, pattern, values)])
        every = f"replace({names}, '{VALUE_SEPARATOR}', '{GROUP_SEPARATOR}')"
        groups = f"unnest(string_to_array({every}, '{GROUP_SEPARATOR}'))"
        found = _like("component_group", pattern, values)
        conditions.append(_any(groups, "component_group", found))
    else:
        each = f"unnest(string_to_array({names}, '{VALUE_SEPARATOR}'))"
        found = both(
            _like(f"split_part(name, '{GROUP_SEPARATOR}', {position})", pattern, values)
            for position, pattern in enumerate(test.groups, start=1)
            if pattern is not None
        )
        conditions.append(_any(each, "name", found))
    return both(conditions)


def _is_substring(pattern: Pattern) -> bool:
    """Whether it asks for `*text*` with no other wildcard, and no separator within."""
    inner = pattern.text[1:-1]
    return (
        pattern.text == f"*{inner}*"
        and Pattern(inner).literal
        and GROUP_SEPARATOR not in inner
        and VALUE_SEPARATOR not in inner
    )


def _any(elements: str, name: str, found: str) -> str:
    """One of the elements, as which `name` stands in `found`, satisfies it."""
    return f"EXISTS (SELECT FROM {elements} AS {name} WHERE {found})"


def _grams_of(test: NameTest) -> set[str]:
    """Grams that every name which passes the test has: of each piece the longest there are."""
    pieces = (piece for pattern in test.groups if pattern for piece in pattern.fragments())
    return {piece[start : start + 2] for piece in pieces for start in range(max(1, len(piece) - 1))}

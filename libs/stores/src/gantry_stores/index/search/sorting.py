"""The order of matches, and the place in it where a page continues.

Every order is total, for its last terms are unique among the matches; so a page that starts after
the last match of another neither skips nor repeats one, whatever was added in between.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from gantry_domain.attributes import BY_KEYWORD, Level, Matching
from gantry_domain.query import BadQuery, Order, Query
from gantry_stores.index.search.conditions import (
    TABLES,
    column_of,
    number_or_last,
    text_or_empty,
)
from gantry_stores.index.values import Values

CURSOR = "after"
"""What a broken cursor is called in `BadQuery`."""


PATIENT = "study.patient_pk"
"""What makes studies those of one patient: its identifier with the issuer."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of an order: an expression that is never null."""

    name: str
    expression: str
    descending: bool = False
    kind: type[str | int] = str

    def sorted(self) -> str:
        """The term as ORDER BY takes it."""
        return f"{self.expression} DESC" if self.descending else self.expression


def terms_of(query: Query) -> tuple[Term, ...]:
    """The total order that the query asks for. Raises `BadQuery`.

    By itself: patients as they came; studies newest first; series and instances of one study by
    number; series and instances of many studies by their UIDs, which an index gives without
    sorting.
    """
    if query.level is Level.PATIENT:
        return (Term("Patient", PATIENT, kind=int),)
    chosen = tuple(_term(order) for order in query.order)
    if not chosen:
        chosen = _default(query)
    # The direction of the last term, so that one comparison of rows can continue a page.
    descending = chosen[-1].descending
    names = {term.name for term in chosen}
    unique = (
        _uid(keyword, descending=descending)
        for keyword in _UNIQUE[query.level]
        if keyword not in names
    )
    return (*chosen, *unique)


# What lies after a value in an order that ascends or descends.
_BEYOND = {False: ">", True: "<"}

_UNIQUE = {
    Level.STUDY: ("StudyInstanceUID",),
    Level.SERIES: ("SeriesInstanceUID", "StudyInstanceUID"),
    Level.INSTANCE: ("SOPInstanceUID",),
}


def _default(query: Query) -> tuple[Term, ...]:
    if query.level is Level.STUDY:
        newest = ("StudyDate", "StudyTime")
        return tuple(_term(Order(BY_KEYWORD[keyword], descending=True)) for keyword in newest)
    if not query.pins("StudyInstanceUID"):
        return (_uid(_UNIQUE[query.level][0]),)
    by_series = (_term(Order(BY_KEYWORD["SeriesNumber"])), _uid("SeriesInstanceUID"))
    if query.level is Level.SERIES:
        return by_series
    by_instance = (_term(Order(BY_KEYWORD["InstanceNumber"])),)
    return by_instance if query.pins("SeriesInstanceUID") else (*by_series, *by_instance)


def _uid(keyword: str, *, descending: bool = False) -> Term:
    return Term(keyword, column_of(BY_KEYWORD[keyword]), descending)


def _term(order: Order) -> Term:
    attribute = order.attribute
    if attribute.matching is Matching.SET or attribute.column not in TABLES[attribute.level].c:
        raise BadQuery(attribute.keyword, "cannot be ordered by")
    name, descending = attribute.keyword, order.descending
    if attribute.matching is Matching.NUMBER:
        return Term(name, number_or_last(attribute), descending, int)
    if attribute.computed:
        # What is computed and no set is a number.
        return Term(name, column_of(attribute), descending, int)
    if attribute.matching is Matching.UID:
        return Term(name, column_of(attribute), descending)
    return Term(name, text_or_empty(attribute), descending)


def order_by(terms: Iterable[Term]) -> str:
    """The order as a clause."""
    return f"ORDER BY {', '.join(term.sorted() for term in terms)}"


def continuation(terms: Sequence[Term], place: Sequence[str | int], values: Values) -> str:
    """What lies after the match with these values of the terms."""
    after = list(map(values.of, place))
    expressions = [term.expression for term in terms]
    if len({term.descending for term in terms}) == 1:
        beyond = _BEYOND[terms[0].descending]
        return f"({', '.join(expressions)}) {beyond} ({', '.join(after)})"
    ways = []
    for index, term in enumerate(terms):
        alike = zip(expressions[:index], after[:index], strict=True)
        beyond = f"{term.expression} {_BEYOND[term.descending]} {after[index]}"
        ways.append(" AND ".join([*(f"{one} = {other}" for one, other in alike), beyond]))
    return f"({' OR '.join(ways)})"


def encode_cursor(terms: Sequence[Term], values: Sequence[object]) -> str:
    """The place of a match, for use in a URL."""
    return base64.urlsafe_b64encode(orjson.dumps([_signature(terms), *values])).decode().rstrip("=")


def decode_cursor(terms: Sequence[Term], cursor: str) -> tuple[str | int, ...]:
    """The values of the terms at a cursor. Raises `BadQuery`."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        signature, *values = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError, ValueError, TypeError):
        raise BadQuery(CURSOR, "is not a place in a search") from None
    kinds = [term.kind for term in terms]
    if (
        signature != _signature(terms)
        or [type(value) for value in values] != kinds
        or any("\x00" in value for value in values if isinstance(value, str))
    ):
        raise BadQuery(CURSOR, "belongs to another search")
    return tuple(values)


def _signature(terms: Sequence[Term]) -> str:
    return ",".join(f"-{term.name}" if term.descending else term.name for term in terms)

"""One page of matches: one SQL statement, over what the caller may see alone.

Statements are put together as text for each question (docs/decisions/0035).
"""

from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from sqlalchemy.engine import Engine

from gantry_domain.attributes import Level
from gantry_domain.query import Query
from gantry_domain.sight import Sight
from gantry_stores.index.asking import Asking, ask
from gantry_stores.index.search.conditions import both, condition
from gantry_stores.index.search.newest import may_be_frequent, newest_first
from gantry_stores.index.search.rows import SOURCES, Document, Shape, shape_of
from gantry_stores.index.search.seeing import seen
from gantry_stores.index.search.sorting import (
    PATIENT,
    Term,
    continuation,
    decode_cursor,
    encode_cursor,
    order_by,
    terms_of,
)
from gantry_stores.index.values import Values

_STUDIES = "study"
_SERIES = " JOIN series ON series.study_pk = study.pk"
_JOINED = {
    Level.PATIENT: "",
    Level.STUDY: "",
    Level.SERIES: _SERIES,
    Level.INSTANCE: f"{_SERIES} JOIN instance ON instance.series_pk = series.pk",
}


@dataclass(frozen=True, slots=True)
class Page:
    """The matches of one page, and the cursor of the page after it, if there is more."""

    rows: list[Document]
    next: str | None
    more: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """What is asked of the database: a text, and the values that it names."""

    text: str
    values: Values


class Searching:
    """A page that is being searched for, with a connection to the index until it is closed."""

    def __init__(
        self, engine: Engine, query: Query, *, sight: Sight, retrieve_base: str | None = None
    ) -> None:
        """Ask. Raises `BadQuery` for an order or a cursor that cannot be, `IndexUnavailable`."""
        self._limit = query.page.limit
        self._terms = terms_of(query)
        self._shape = shape_of(query, retrieve_base=retrieve_base)
        statement = _page_of(query, sight, self._terms, self._shape)
        self._asking = Asking(engine, statement.text, statement.values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._asking.close()

    def answered(self, patience: float) -> bool:
        """Whether the page is here, after so many seconds at most. Raises `IndexUnavailable`."""
        return self._asking.answered(patience)

    def page(self) -> Page:
        """The page, once it is here. Raises `IndexUnavailable`."""
        found = self._asking.rows()
        rows = found[: self._limit]
        more = len(found) > self._limit
        following = None
        if more and rows:
            following = encode_cursor(self._terms, rows[-1][-len(self._terms) :])
        return Page([self._shape.document(row) for row in rows], following, more)


def search(engine: Engine, query: Query, *, sight: Sight, retrieve_base: str | None = None) -> Page:
    """The page of matches that the query asks for, as documents of the DICOM JSON model.

    Raises `BadQuery` for an order or a cursor that cannot be, `IndexUnavailable`.
    """
    with Searching(engine, query, sight=sight, retrieve_base=retrieve_base) as searching:
        return searching.page()


def statement_of(query: Query, *, sight: Sight) -> Statement:
    """What `search` asks, for those who want to see how the database goes about it."""
    return _page_of(query, sight, terms_of(query), shape_of(query, retrieve_base=None))


def count(engine: Engine, query: Query, *, sight: Sight, limit: int) -> int:
    """How many matches there are from the query's page on, itself included, but at most `limit`.

    Raises as `search` does.
    """
    values = Values()
    chosen = f"DISTINCT {PATIENT}" if query.level is Level.PATIENT else "1"
    conditions = _conditions(query, sight, terms_of(query), values)
    matches = (
        f"SELECT {chosen} FROM {_STUDIES}{_JOINED[query.level]} WHERE {conditions}"
        f" LIMIT {values.number(limit)} OFFSET {values.number(query.page.offset)}"
    )
    ((counted,),) = ask(engine, f"SELECT count(*) FROM ({matches}) AS matches", values)
    return int(counted)


def _page_of(query: Query, sight: Sight, terms: tuple[Term, ...], shape: Shape) -> Statement:
    values, page = Values(), query.page
    # The terms come last: where the next page begins.
    columns = [*shape.columns, *(term.expression for term in terms)]
    named = ", ".join(f"{column} AS c{number}" for number, column in enumerate(columns))
    order = terms
    if query.level is Level.PATIENT:
        # Studies are what is searched: of each patient the newest that matches.
        named = f"DISTINCT ON ({PATIENT}) {named}"
        order = (*terms, *terms_of(replace(query, level=Level.STUDY)))
    conditions = _conditions(query, sight, terms, values)
    limit = values.number(page.limit + 1)

    def matches(studies: str, condition: str) -> str:
        return (
            f"SELECT {named} FROM {_source(query.level, shape, studies)}"
            f" WHERE {condition} AND {conditions} {order_by(order)} LIMIT {limit}"
        )

    before, found = "", matches(_STUDIES, "true")
    if may_be_frequent(query):
        shown = both(_seen(query, sight, terms, values))
        before, found = newest_first(matches, seen=shown, order=order_by(order), limit=limit)
    if page.offset:
        found += f" OFFSET {values.number(page.offset)}"
    # What becomes of a column is done for the matches of the page alone: JSON is turned into text
    # before matches are sorted, where that stands in the same SELECT.
    chosen = [shape.chosen(f"c{number}", number) for number in range(len(columns))]
    again = [
        replace(term, expression=f"c{number}")
        for number, term in enumerate(terms, start=len(shape.columns))
    ]
    text = f"{before}SELECT {', '.join(chosen)} FROM ({found}) AS page {order_by(again)}"
    return Statement(text, values)


def _source(level: Level, shape: Shape, studies: str) -> str:
    """What is selected from; `studies` is the table of studies, or what stands for it."""
    tables = studies + _JOINED[level]
    if shape.needs_object:
        tables += " JOIN object ON object.id = instance.object_id"
    if shape.needs_header:
        tables += f" LEFT JOIN header ON header.object_id = {SOURCES[level]}"
    return tables


def _conditions(query: Query, sight: Sight, terms: tuple[Term, ...], values: Values) -> str:
    keys = [condition(key, values) for key in query.keys]
    return both([*_seen(query, sight, terms, values), *keys])


def _seen(query: Query, sight: Sight, terms: tuple[Term, ...], values: Values) -> list[str]:
    """What is seen, from where the page begins."""
    conditions = seen(sight, values)
    if query.level is Level.INSTANCE:
        conditions.append(f"instance.partition = {values.text(sight.partition)}")
    if query.page.after is not None:
        place = decode_cursor(terms, query.page.after)
        conditions.append(continuation(terms, place, values))
    return conditions

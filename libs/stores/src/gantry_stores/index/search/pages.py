"""One page of matches: one SQL statement, over what the caller may see alone.

Statements are put together as text for each question (docs/decisions/0035).
"""

from dataclasses import dataclass, replace

from sqlalchemy.engine import Engine

from gantry_domain.attributes import Level
from gantry_domain.query import Query
from gantry_domain.sight import Sight
from gantry_stores.index.database import ask
from gantry_stores.index.search.conditions import condition
from gantry_stores.index.search.rows import SOURCES, Document, Shape
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
from gantry_stores.index.search.values import Values

_STUDIES = "study"
_SERIES = f"{_STUDIES} JOIN series ON series.study_pk = study.pk"
_TABLES = {
    Level.PATIENT: _STUDIES,
    Level.STUDY: _STUDIES,
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


def search(engine: Engine, query: Query, *, sight: Sight, retrieve_base: str | None = None) -> Page:
    """The page of matches that the query asks for, as documents of the DICOM JSON model.

    Raises `BadQuery` for an order or a cursor that cannot be, `IndexUnavailable`.
    """
    terms = terms_of(query)
    shape = Shape(query, retrieve_base=retrieve_base)
    statement = _page_of(query, sight, terms, shape)
    found = ask(engine, statement.text, statement.values)
    rows = found[: query.page.limit]
    more = len(found) > query.page.limit
    following = encode_cursor(terms, rows[-1][-len(terms) :]) if more and rows else None
    return Page([shape.document(row) for row in rows], following, more)


def statement_of(query: Query, *, sight: Sight) -> Statement:
    """What `search` asks, for those who want to see how the database goes about it."""
    return _page_of(query, sight, terms_of(query), Shape(query, retrieve_base=None))


def count(engine: Engine, query: Query, *, sight: Sight, limit: int) -> int:
    """How many matches there are from the query's page on, itself included, but at most `limit`.

    Raises as `search` does.
    """
    values = Values()
    chosen = f"DISTINCT {PATIENT}" if query.level is Level.PATIENT else "1"
    conditions = _conditions(query, sight, terms_of(query), values)
    matches = (
        f"SELECT {chosen} FROM {_TABLES[query.level]} WHERE {conditions}"
        f" LIMIT {values.number(limit)} OFFSET {values.number(query.page.offset)}"
    )
    ((counted,),) = ask(engine, f"SELECT count(*) FROM ({matches}) AS matches", values)
    return int(counted)


def _page_of(query: Query, sight: Sight, terms: tuple[Term, ...], shape: Shape) -> Statement:
    values, page = Values(), query.page
    # The terms come last: where the next page begins.
    columns = ", ".join([*shape.columns, *(term.expression for term in terms)])
    order = terms
    if query.level is Level.PATIENT:
        # Studies are what is searched: of each patient the newest that matches.
        columns = f"DISTINCT ON ({PATIENT}) {columns}"
        order = (*terms, *terms_of(replace(query, level=Level.STUDY)))
    text = (
        f"SELECT {columns} FROM {_source(query.level, shape)}"
        f" WHERE {_conditions(query, sight, terms, values)} {order_by(order)}"
        f" LIMIT {values.number(page.limit + 1)}"
    )
    if page.offset:
        text += f" OFFSET {values.number(page.offset)}"
    return Statement(text, values)


def _source(level: Level, shape: Shape) -> str:
    tables = _TABLES[level]
    if shape.needs_object:
        tables += " JOIN object ON object.id = instance.object_id"
    if shape.needs_header:
        tables += f" LEFT JOIN header ON header.object_id = {SOURCES[level]}"
    return tables


def _conditions(query: Query, sight: Sight, terms: tuple[Term, ...], values: Values) -> str:
    conditions = seen(sight, values)
    if query.level is Level.INSTANCE:
        conditions.append(f"instance.partition = {values.text(sight.partition)}")
    conditions += [condition(key, values) for key in query.keys]
    if query.page.after is not None:
        place = decode_cursor(terms, query.page.after)
        conditions.append(continuation(terms, place, values))
    return " AND ".join(conditions)

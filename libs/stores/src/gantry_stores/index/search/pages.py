"""One page of matches: one SQL statement, over what the caller may see alone."""

from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, FromClause, distinct, func, literal, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.engine import Engine

from gantry_domain.attributes import Level
from gantry_domain.query import Query
from gantry_domain.sight import Sight
from gantry_stores.index.database import transaction
from gantry_stores.index.schema import header, instance, object_, series, study
from gantry_stores.index.search.conditions import condition
from gantry_stores.index.search.rows import SOURCES, Document, Shape
from gantry_stores.index.search.seeing import seen
from gantry_stores.index.search.sorting import (
    PATIENT,
    Term,
    continuation,
    decode_cursor,
    encode_cursor,
    terms_of,
)


@dataclass(frozen=True, slots=True)
class Page:
    """The matches of one page, and the cursor of the page after it, if there is more."""

    rows: list[Document]
    next: str | None
    more: bool


def search(engine: Engine, query: Query, *, sight: Sight, retrieve_base: str | None = None) -> Page:
    """The page of matches that the query asks for, as documents of the DICOM JSON model.

    Raises `BadQuery` for an order or a cursor that cannot be, `IndexUnavailable`.
    """
    terms = terms_of(query)
    shape = Shape(query, retrieve_base=retrieve_base)
    page = query.page
    keys = [term.expression.label(f"term_{number}") for number, term in enumerate(terms)]
    statement = (
        select(*shape.columns, *keys)
        .select_from(_source(query.level, shape))
        .where(*_conditions(query, sight, terms))
        .order_by(*(term.sorted() for term in terms))
        .limit(page.limit + 1)
    )
    if query.level is Level.PATIENT:
        # Studies are what is searched: of each patient the newest that matches.
        newest = (term.sorted() for term in terms_of(replace(query, level=Level.STUDY)))
        statement = statement.ext(distinct_on(PATIENT)).order_by(*newest)
    if page.offset:
        statement = statement.offset(page.offset)
    with transaction(engine) as connection:
        found = connection.execute(statement).mappings().all()
    rows = found[: page.limit]
    more = len(found) > page.limit
    following = None
    if more and rows:
        last = rows[-1]
        following = encode_cursor(terms, [last[key.name] for key in keys])
    return Page([shape.document(row) for row in rows], following, more)


def count(engine: Engine, query: Query, *, sight: Sight, limit: int) -> int:
    """How many matches there are from the query's page on, itself included, but at most `limit`.

    Raises as `search` does.
    """
    terms = terms_of(query)
    chosen = distinct(PATIENT) if query.level is Level.PATIENT else literal(1)
    matches = (
        select(chosen)
        .select_from(_tables(query.level))
        .where(*_conditions(query, sight, terms))
        .offset(query.page.offset)
        .limit(limit)
    )
    with transaction(engine) as connection:
        counted = select(func.count()).select_from(matches.subquery("matches"))
        return connection.scalars(counted).one()


def _tables(level: Level) -> FromClause:
    tables: FromClause = study
    if level in (Level.SERIES, Level.INSTANCE):
        tables = tables.join(series, series.c.study_pk == study.c.pk)
    if level is Level.INSTANCE:
        tables = tables.join(instance, instance.c.series_pk == series.c.pk)
    return tables


def _source(level: Level, shape: Shape) -> FromClause:
    tables = _tables(level)
    if shape.needs_object:
        tables = tables.join(object_, object_.c.id == instance.c.object_id)
    if shape.needs_header:
        tables = tables.outerjoin(header, header.c.object_id == SOURCES[level])
    return tables


def _conditions(query: Query, sight: Sight, terms: tuple[Term, ...]) -> list[ColumnElement[bool]]:
    conditions = list(seen(sight))
    if query.level is Level.INSTANCE:
        conditions.append(instance.c.partition == sight.partition)
    conditions += [condition(key) for key in query.keys]
    if query.page.after is not None:
        conditions.append(continuation(terms, decode_cursor(terms, query.page.after)))
    return conditions

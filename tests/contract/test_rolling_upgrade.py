"""The previous release's code runs on the new schema: each migration only adds.

While pods are replaced one by one, old code still reads and writes. So no table or column that it
knows goes away, changes its type or begins to be required, and no row that it writes is refused by
a constraint that it does not know.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine, transaction

# A list of values as PostgreSQL writes it.
_VALUE = re.compile(r"'((?:[^']|'')*)'::text")
_VALUES = re.compile(rf"{_VALUE.pattern}(?:, {_VALUE.pattern})*")
# The first condition of a partial index.
_ROWS = re.compile(rf"^CREATE UNIQUE INDEX .* WHERE \(+(\w+) = {_VALUE.pattern}")

Columns = dict[tuple[str, str], tuple[str, bool, bool]]


@dataclass(frozen=True, slots=True)
class Schema:
    """What old code relies on: columns (type, nullable, has a default) and constraints by table."""

    columns: Columns
    constraints: frozenset[tuple[str, str]]


def schema(connection: sa.Connection) -> Schema:
    columns = connection.execute(
        sa.text(
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,"
            " a.atthasdef OR a.attidentity <> '' FROM pg_attribute a"
            " JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind = 'r' AND a.attnum > 0"
            " AND NOT a.attisdropped AND c.relnamespace = 'public'::regnamespace"
            " AND c.relname <> 'alembic_version'"
        )
    )
    constraints = connection.execute(
        sa.text(
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND contype <> 'n' UNION"
            " SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            " AND indexdef LIKE 'CREATE UNIQUE%'"
        )
    )
    return Schema(
        {(table, column): (kind, null, default) for table, column, kind, null, default in columns},
        frozenset((table, definition) for table, definition in constraints),
    )


def objections(before: Schema, after: Schema) -> list[str]:
    """What code that knows `before` would stumble over in `after`."""
    tables = {table for table, _ in before.columns}
    found = [f"{table}.{column} is gone" for table, column in before.columns.keys() - after.columns]
    for (table, column), (kind, null, default) in after.columns.items():
        known = before.columns.get((table, column))
        if known is None:
            if table in tables and not null and not default:
                found.append(f"{table}.{column} is new and required")
            continue
        if kind != known[0]:
            found.append(f"{table}.{column} was {known[0]} and is {kind}")
        if known[1] and not null:
            found.append(f"{table}.{column} may no longer be null")
        if known[2] and not default:
            found.append(f"{table}.{column} has lost its default")
    old = defaultdict(set)
    for table, definition in before.constraints:
        old[table].add(definition)
    found += [
        f"{table} is restrained by {definition}"
        for table, definition in after.constraints - before.constraints
        if table in tables
        and not any(map(partial(_wider, definition), old[table]))
        and not any(map(partial(_of_new_rows, definition), old[table]))
    ]
    return sorted(found)


def _of_new_rows(definition: str, before: str) -> bool:
    """Whether an index is over rows alone with a value that a check of before did not allow.

    Old code has written no such row, and writes none.
    """
    rows = _ROWS.search(definition)
    if rows is None or " OR " in definition:
        return False
    column, value = rows.groups()
    return before.startswith(f"CHECK (({column} = ANY ") and value not in _VALUE.findall(before)


def _wider(definition: str, before: str) -> bool:
    """Whether a constraint is the same as before but for values that are allowed besides."""

    def values(text: str) -> set[str]:
        return set(_VALUE.findall(text))

    def form(text: str) -> str:
        return _VALUES.sub("", text)

    return form(definition) == form(before) and values(definition) > values(before)


def test_each_migration_only_adds(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url, pool_size=1)
    with transaction(engine) as connection:
        config = migrations._config(connection)
        scripts = [*ScriptDirectory.from_config(config).walk_revisions()][::-1]
        assert len(scripts) >= 3
        assert tuple(script.revision for script in scripts) == migrations.REVISIONS
        for previous, script in zip([None, *scripts], scripts, strict=False):
            before = schema(connection)
            command.upgrade(config, script.revision)
            if previous is not None:
                assert objections(before, schema(connection)) == [], script.revision
    engine.dispose()


def test_there_is_no_way_back() -> None:
    """A rollback of the release leaves the schema; a downgrade would lose what new code wrote."""
    engine = sa.create_engine("postgresql+psycopg://")
    config = migrations._config(engine)
    for script in ScriptDirectory.from_config(config).walk_revisions():
        assert not hasattr(script.module, "downgrade"), script.revision


@pytest.mark.parametrize(
    ("statement", "objection"),
    [
        ("ALTER TABLE study DROP COLUMN verdict CASCADE", "study.verdict is gone"),
        ("ALTER TABLE study RENAME COLUMN verdict TO outcome", "study.verdict is gone"),
        ("ALTER TABLE object ADD COLUMN x integer NOT NULL", "object.x is new and required"),
        ("ALTER TABLE object ALTER COLUMN size TYPE text", "object.size was bigint and is text"),
        ("ALTER TABLE study ALTER COLUMN verdict SET NOT NULL", "study.verdict may no longer"),
        ("ALTER TABLE study ADD CHECK (revision > 1)", "study is restrained by CHECK"),
        ("CREATE UNIQUE INDEX x ON study (verdict)", "study is restrained by CREATE UNIQUE"),
        (
            "CREATE UNIQUE INDEX x ON study (pk) WHERE verdict = 'held'",
            "study is restrained by CREATE UNIQUE",
        ),
        (
            "CREATE UNIQUE INDEX x ON study (pk) WHERE verdict = 'lost' OR verdict = 'held'",
            "study is restrained by CREATE UNIQUE",
        ),
        (
            "ALTER TABLE study DROP CONSTRAINT ck_study_verdict,"
            " ADD CHECK (verdict IN ('accepted', 'held', 'lost'))",
            "study is restrained by CHECK",
        ),
    ],
)
def test_what_old_code_stumbles_over_is_seen(
    postgres_url: str, statement: str, objection: str
) -> None:
    engine = make_engine(postgres_url, pool_size=1)
    with transaction(engine) as connection:
        before = schema(connection)
        connection.execute(sa.text(statement))
        found: list[Any] = objections(before, schema(connection))
    assert any(line.startswith(objection) for line in found), found
    engine.dispose()


def test_what_it_does_not_stumble_over(postgres_url: str) -> None:
    engine = make_engine(postgres_url, pool_size=1)
    with transaction(engine) as connection:
        before = schema(connection)
        for statement in (
            "ALTER TABLE study ADD COLUMN x integer",
            "ALTER TABLE study ADD COLUMN y integer NOT NULL DEFAULT 0",
            "CREATE TABLE z (pk bigint PRIMARY KEY, n integer NOT NULL)",
            "CREATE INDEX ON study (x)",
            "ALTER TABLE study DROP CONSTRAINT ck_study_verdict,"
            " ADD CHECK (verdict IN ('accepted', 'held', 'refused', 'lost'))",
        ):
            connection.execute(sa.text(statement))
        assert objections(before, schema(connection)) == []
    engine.dispose()

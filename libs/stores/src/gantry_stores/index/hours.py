"""Hours of the object store: which are closed, which are still looked at, and by whom.

An hour is closed when it is old enough that no reception that began in it still goes on, and every
key in it has its `object` row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from gantry_stores.index.database import transaction

_SWEEP_LOCK = 0x53574545_50


@dataclass(frozen=True, slots=True)
class OpenHour:
    """What the last look at an hour (aware UTC) found: keys, and how many lacked a row."""

    hour: datetime
    objects: int
    missing: int
    looked_at: datetime


@contextmanager
def sweep_lock(engine: Engine) -> Iterator[bool]:
    """Holds the lock of the sweep; gives False where another sweep has it.

    The transaction that holds it does nothing else and may last as long as the sweep.
    """
    with transaction(engine) as connection:
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        taken = connection.scalar(
            sa.text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _SWEEP_LOCK}
        )
        yield bool(taken)


def oldest_open_hour(connection: Connection) -> datetime | None:
    """The first hour after a closed one that is not closed itself; None before any is closed."""
    found: datetime | None = connection.scalar(
        sa.text(
            "SELECT c.hour + interval '1 hour' FROM closed_hour c"
            " WHERE NOT EXISTS (SELECT 1 FROM closed_hour n"
            " WHERE n.hour = c.hour + interval '1 hour') ORDER BY c.hour LIMIT 1"
        )
    )
    return found


def closed_hours(connection: Connection, start: datetime) -> set[datetime]:
    """The closed hours from `start` on."""
    return set(
        connection.scalars(
            sa.text("SELECT hour FROM closed_hour WHERE hour >= :start"), {"start": start}
        )
    )


def open_hours(connection: Connection) -> dict[datetime, OpenHour]:
    """The hours that were looked at and are not closed."""
    rows = connection.execute(
        sa.text("SELECT hour, objects, missing, looked_at FROM open_hour ORDER BY hour")
    )
    return {row.hour: OpenHour(row.hour, row.objects, row.missing, row.looked_at) for row in rows}


def note_look(connection: Connection, look: OpenHour, *, close: bool) -> None:
    """Writes down what a look at an hour found, and closes it."""
    values = {"hour": look.hour, "objects": look.objects, "now": look.looked_at}
    if close:
        connection.execute(sa.text("DELETE FROM open_hour WHERE hour = :hour"), values)
        connection.execute(
            sa.text(
                "INSERT INTO closed_hour (hour, objects, closed_at) VALUES (:hour, :objects, :now)"
                " ON CONFLICT (hour) DO NOTHING"
            ),
            values,
        )
        return
    connection.execute(
        sa.text(
            "INSERT INTO open_hour (hour, objects, missing, looked_at)"
            " VALUES (:hour, :objects, :missing, :now) ON CONFLICT (hour) DO UPDATE SET"
            " objects = excluded.objects, missing = excluded.missing,"
            " looked_at = excluded.looked_at"
        ),
        {**values, "missing": look.missing},
    )


def without_row(connection: Connection, object_ids: Sequence[UUID]) -> list[UUID]:
    """Those of the objects that have no row, in the order given."""
    return list(
        connection.scalars(
            sa.text(
                "SELECT w.id FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS w(id, place)"
                " WHERE NOT EXISTS (SELECT 1 FROM object o WHERE o.id = w.id) ORDER BY w.place"
            ),
            {"ids": list(object_ids)},
        )
    )

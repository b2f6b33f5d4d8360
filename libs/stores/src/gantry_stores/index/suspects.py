"""Suspects: objects noted before an attempt to index them, and forgotten when it has ended.

Whoever still stands here was in hand when a process died. Each function is one statement, to be
committed before the attempt that it speaks of.
"""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection


def suspects(connection: Connection, object_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Those of the objects that are suspects, and how many attempts at each alone never ended."""
    found = connection.execute(
        sa.text("SELECT object_id, attempts FROM suspect WHERE object_id = ANY(:ids)"),
        {"ids": list(object_ids)},
    )
    return {row.object_id: row.attempts for row in found}


def suspect_each(connection: Connection, object_ids: Sequence[UUID]) -> None:
    """Note objects that are about to be tried together."""
    connection.execute(
        sa.text(
            "INSERT INTO suspect (object_id, attempts) SELECT id, 0"
            " FROM unnest(CAST(:ids AS uuid[])) AS t(id) ORDER BY id ON CONFLICT DO NOTHING"
        ),
        {"ids": list(object_ids)},
    )


def count_attempt(connection: Connection, object_id: UUID) -> None:
    """Count an attempt at one object alone, which is about to begin."""
    connection.execute(
        sa.text(
            "INSERT INTO suspect (object_id, attempts) VALUES (:id, 1)"
            " ON CONFLICT (object_id) DO UPDATE SET attempts = suspect.attempts + 1"
        ),
        {"id": object_id},
    )


def take_attempt_back(connection: Connection, object_id: UUID) -> None:
    """An attempt at one object alone has failed, but it has ended."""
    connection.execute(
        sa.text(
            "UPDATE suspect SET attempts = attempts - 1 WHERE object_id = :id AND attempts > 0"
        ),
        {"id": object_id},
    )


def acquit(connection: Connection, object_ids: Sequence[UUID]) -> None:
    """The objects are settled: forget what was noted of them."""
    # In one order, for two workers may have the same objects in hand.
    connection.execute(
        sa.text(
            "DELETE FROM suspect WHERE object_id IN (SELECT object_id FROM suspect"
            " WHERE object_id = ANY(:ids) ORDER BY object_id FOR UPDATE)"
        ),
        {"ids": list(object_ids)},
    )


def acquit_indexed(connection: Connection) -> None:
    """Forget the objects that have got their row meanwhile."""
    connection.execute(
        sa.text(
            "DELETE FROM suspect WHERE object_id IN (SELECT s.object_id FROM suspect s"
            " JOIN object o ON o.id = s.object_id ORDER BY s.object_id FOR UPDATE OF s)"
        )
    )


def count_suspects(connection: Connection) -> int:
    """How many there are."""
    return int(connection.scalar(sa.text("SELECT count(*) FROM suspect")) or 0)

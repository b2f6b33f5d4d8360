"""Rows of objects whose bytes are kept elsewhere: found, and removed with what hangs on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.policies.findings import Severity

# The kept object's bytes in the store are not those that were received.
STORED_BYTES_DIFFER = "stored_bytes_differ"


@dataclass(frozen=True, slots=True)
class SameBytes:
    """An object to purge, and the one that keeps its bytes."""

    object_id: UUID
    size: int
    dataset_offset: int
    sha256: bytes
    kept_id: UUID
    kept_sha256: bytes
    kept_dataset_offset: int


def same_bytes(connection: Connection, *, after: UUID | None, limit: int) -> list[SameBytes]:
    """The first objects after `after` whose bytes another one keeps, as far as is known."""
    rows = connection.execute(
        sa.text(
            "SELECT o.id, o.size, o.dataset_offset, o.sha256,"
            " k.id AS kept_id, k.sha256 AS kept_sha256, k.dataset_offset AS kept_offset"
            " FROM object o JOIN object k ON k.id = o.relates_to"
            " WHERE o.state = 'duplicate' AND o.reason = 'same_bytes'"
            " AND (CAST(:after AS uuid) IS NULL OR o.id > CAST(:after AS uuid))"
            " AND NOT EXISTS (SELECT 1 FROM finding f"
            " WHERE f.object_id = k.id AND f.rule = :damaged)"
            " ORDER BY o.id LIMIT :limit"
        ),
        {"after": after, "limit": limit, "damaged": STORED_BYTES_DIFFER},
    )
    return [SameBytes(*row) for row in rows]


def lock_to_purge(connection: Connection, found: SameBytes) -> bool:
    """Locks the object's row; False where it is no longer to be purged for the same reason."""
    return bool(
        connection.scalar(
            sa.text(
                "SELECT true FROM object WHERE id = :id AND state = 'duplicate'"
                " AND reason = 'same_bytes' AND relates_to = :kept FOR UPDATE"
            ),
            {"id": found.object_id, "kept": found.kept_id},
        )
    )


def forget(connection: Connection, object_id: UUID) -> None:
    """Removes the row of an object that is no longer in the store, its header and findings."""
    connection.execute(sa.text("DELETE FROM object WHERE id = :id"), {"id": object_id})


def lay_out_as(connection: Connection, found: SameBytes) -> None:
    """The kept object, which the store has lost, gets the file of the other one: the same data set
    behind a file meta information that may be longer or shorter."""
    moved = connection.execute(
        sa.text(
            "UPDATE object SET size = :size, dataset_offset = :offset"
            " WHERE id = :kept AND (size, dataset_offset) IS DISTINCT FROM (:size, :offset)"
        ),
        {"kept": found.kept_id, "size": found.size, "offset": found.dataset_offset},
    )
    if moved.rowcount:
        # Frames are known by where they are in the file.
        frames = sa.text("UPDATE header SET frames = NULL WHERE object_id = :kept")
        connection.execute(frames, {"kept": found.kept_id})
        due = "INSERT INTO frames_due (object_id) VALUES (:kept) ON CONFLICT DO NOTHING"
        connection.execute(sa.text(due), {"kept": found.kept_id})


def note_damage(connection: Connection, object_ids: Sequence[UUID]) -> None:
    """Writes a finding of kept objects whose stored bytes are not those received."""
    connection.execute(
        sa.text(
            "INSERT INTO finding (object_id, rule, severity)"
            " SELECT id, :rule, :severity FROM unnest(CAST(:ids AS uuid[])) AS r(id)"
        ),
        {"rule": STORED_BYTES_DIFFER, "severity": Severity.ERROR, "ids": list(object_ids)},
    )

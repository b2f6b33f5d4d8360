"""Deletions after the deleting: listed, taken back, and purged when their time has come."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.deletions import Deletion, DeletionState, Restoration
from gantry_domain.events import EventKind, Happening
from gantry_stores.index.events import note

_LIST = """
    SELECT t.*, (SELECT count(*) FROM deleted_object d WHERE d.deletion_id = t.id) AS objects
    FROM deletion t ORDER BY t.deleted_at DESC, t.id DESC LIMIT :limit
"""

# Newcomers may join a deletion while it ends; so what is done follows from the objects, and what
# counts as done too.
_OBJECTS = """
    SELECT d.object_id, o.size FROM deleted_object d
    JOIN deletion t ON t.id = d.deletion_id JOIN object o ON o.id = d.object_id
    WHERE t.state = ANY(:states) ORDER BY d.object_id LIMIT :limit FOR UPDATE OF o
"""

_END = """
    UPDATE deletion t SET state = :ended, ended_at = now() WHERE t.state = :ending
      AND NOT EXISTS (SELECT 1 FROM deleted_object d WHERE d.deletion_id = t.id)
    RETURNING t.id, t.partition, t.study_instance_uid, t.series_instance_uid, t.sop_instance_uid,
              t.deleted_at, t.deleted_by, t.instances, t.visible
"""

_PURGE = (DeletionState.PURGING, DeletionState.PURGED)
_RESTORE = (DeletionState.RESTORING, DeletionState.RESTORED)


@dataclass(frozen=True, slots=True)
class DeletionLine:
    """A deletion as people see it: how many instances it was, and objects that are still kept."""

    deletion: Deletion
    state: DeletionState
    instances: int
    objects: int
    restored_by: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeletedObject:
    """An object that is deleted, and its size in bytes."""

    object_id: UUID
    size: int


def list_deletions(connection: Connection, *, limit: int) -> list[DeletionLine]:
    """At most `limit` deletions, the newest first."""
    rows = connection.execute(sa.text(_LIST), {"limit": limit})
    return [
        DeletionLine(
            _deletion(row),
            DeletionState(row.state),
            row.instances,
            row.objects,
            row.restored_by,
            row.ended_at,
        )
        for row in rows
    ]


def marked_deletions(
    connection: Connection, StudyInstanceUID: str, *, partition: str | None = None
) -> list[Deletion]:
    """What was deleted of a study and can be taken back; `partition` None: of any."""
    rows = connection.execute(
        sa.text(
            "SELECT * FROM deletion WHERE study_instance_uid = :study AND state = 'marked'"
            " AND (CAST(:partition AS text) IS NULL OR partition = :partition) ORDER BY id"
        ),
        {"study": StudyInstanceUID, "partition": partition},
    )
    return [_deletion(row) for row in rows]


def take_back(connection: Connection, restoration: Restoration) -> bool:
    """Have a deletion taken back by the worker; False where it is too late."""
    return bool(
        connection.execute(
            sa.text(
                "UPDATE deletion SET state = 'restoring', restoration_id = :restoration,"
                " restored_by = :by WHERE id = :id AND state = 'marked'"
            ),
            {
                "id": restoration.deletion_id,
                "restoration": restoration.id,
                "by": restoration.restored_by,
            },
        ).rowcount
    )


def restorations(connection: Connection) -> list[Restoration]:
    """Those that are not through."""
    rows = connection.execute(
        sa.text("SELECT id, restoration_id, restored_by FROM deletion WHERE state = 'restoring'")
    )
    return [
        Restoration(id=row.restoration_id, deletion_id=row.id, restored_by=row.restored_by)
        for row in rows
    ]


def begin_purges(connection: Connection, *, after: timedelta) -> int:
    """Have those purged that were deleted longer ago than `after`; how many they are."""
    return connection.execute(
        sa.text(
            "UPDATE deletion SET state = 'purging' WHERE state = 'marked'"
            " AND deleted_at < now() - CAST(:after AS interval)"
        ),
        {"after": after},
    ).rowcount


def lock_to_purge_deleted(connection: Connection, *, limit: int) -> list[DeletedObject]:
    """At most `limit` objects to purge, locked for the rest of the transaction."""
    return _objects(connection, _PURGE, limit)


def lock_to_restore(connection: Connection, *, limit: int) -> list[DeletedObject]:
    """At most `limit` objects to restore."""
    return _objects(connection, _RESTORE, limit)


def _objects(
    connection: Connection, states: Sequence[DeletionState], limit: int
) -> list[DeletedObject]:
    rows = connection.execute(
        sa.text(_OBJECTS), {"states": [state.value for state in states], "limit": limit}
    )
    return [DeletedObject(row.object_id, row.size) for row in rows]


def forget_deleted(connection: Connection, object_ids: Collection[UUID]) -> int:
    """Removes the rows of deleted objects: those that are no longer in the store, or deleted no
    longer. How many were there."""
    return connection.execute(
        sa.text("DELETE FROM object WHERE id = ANY(:ids) AND state = 'deleted'"),
        {"ids": sorted(object_ids)},
    ).rowcount


def end_purges(connection: Connection) -> list[Deletion]:
    """Those that are purged now, with nothing left of them."""
    return _end(connection, *_PURGE, EventKind.PURGED)


def end_restorations(connection: Connection) -> list[Deletion]:
    """Those that are restored now."""
    return _end(connection, *_RESTORE, EventKind.RESTORED)


def _end(
    connection: Connection, ending: DeletionState, ended: DeletionState, kind: EventKind
) -> list[Deletion]:
    rows = connection.execute(sa.text(_END), {"ending": ending.value, "ended": ended.value}).all()
    deletions = [_deletion(row) for row in rows]
    note(
        connection,
        [
            happening(kind, deletion, instances=row.instances, visible=row.visible)
            for deletion, row in zip(deletions, rows, strict=True)
        ],
    )
    return deletions


def happening(
    kind: EventKind, deletion: Deletion, *, instances: int, visible: bool | None
) -> Happening:
    """What is told of a deletion."""
    return Happening(
        kind=kind,
        partition=deletion.partition,
        StudyInstanceUID=deletion.StudyInstanceUID,
        SeriesInstanceUID=deletion.SeriesInstanceUID,
        SOPInstanceUID=deletion.SOPInstanceUID,
        instances=instances,
        visible=visible,
    )


def _deletion(row: sa.Row[tuple[object, ...]]) -> Deletion:
    return Deletion(
        id=row.id,
        partition=row.partition,
        StudyInstanceUID=row.study_instance_uid,
        SeriesInstanceUID=row.series_instance_uid,
        SOPInstanceUID=row.sop_instance_uid,
        deleted_at=row.deleted_at,
        deleted_by=row.deleted_by,
    )

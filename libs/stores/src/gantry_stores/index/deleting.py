"""Deletes in the index: what a person names is hidden everywhere at once, and nothing is lost yet.

    instances, series, study: rows removed, the levels above rolled up anew
    objects: state `deleted`, and a row in `deleted_object`
    deliveries: what was not sent is not sent any more

Locks in the order of `gantry_stores.index.batch`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.deletions import Deletion
from gantry_domain.entries import Entry
from gantry_domain.events import EventKind
from gantry_domain.policies.findings import VerdictKind
from gantry_domain.sight import Sight
from gantry_stores.index.contested import Contest
from gantry_stores.index.database import IndexContended
from gantry_stores.index.deletions import happening
from gantry_stores.index.events import note, show_notes
from gantry_stores.index.findings import write_findings
from gantry_stores.index.level_rows import Row, Rows, StudyRow, lock_series_uids
from gantry_stores.index.rollup import roll_up

_VANISHED = "40001"

_STUDY = """
    SELECT t.pk, t.source, t.visible, t.verdict, p.pk AS patient_pk, p.identity
    FROM study t JOIN patient p ON p.pk = t.patient_pk
    WHERE t.partition = :partition AND t.study_instance_uid = :study
"""

_SERIES = """
    SELECT pk, source, series_instance_uid AS uid FROM series WHERE study_pk = :study_pk
      AND (CAST(:series AS text) IS NULL OR series_instance_uid = :series)
"""

_REMOVE_INSTANCES = """
    DELETE FROM instance WHERE series_pk = ANY(:series_pks)
      AND (CAST(:instance AS text) IS NULL OR sop_instance_uid = :instance)
    RETURNING sop_instance_uid, series_pk
"""

# Copies and contradictions that lie in the same series go along: none may take its place.
_MARK_OBJECTS = """
    WITH marked AS (
        UPDATE object SET state = 'deleted', reason = NULL, relates_to = NULL
        WHERE partition = :partition AND sop_instance_uid = ANY(:instances)
          AND study_instance_uid = :study AND series_instance_uid = ANY(:series_uids)
          AND state IN ('primary', 'duplicate', 'conflict')
        RETURNING id, partition, sop_instance_uid, sha256
    ), noted AS (
        INSERT INTO deleted_object (object_id, deletion_id, partition, sop_instance_uid, sha256)
        SELECT id, :deletion, partition, sop_instance_uid, sha256 FROM marked
    )
    SELECT id FROM marked
"""

_INSERT = """
    INSERT INTO deletion (id, partition, study_instance_uid, series_instance_uid, sop_instance_uid,
                          instances, deleted_at, deleted_by, visible)
    VALUES (:id, :partition, :study, :series, :instance, :instances, :deleted_at, :deleted_by,
            :visible)
"""

CANCELLED_BY_DELETION = "deleted"
"""The reason of a delivery that ended so. It is planned anew if the study comes again."""

_OPEN = """
    d.partition = :partition AND d.study_instance_uid = :study
    AND d.state IN ('waiting', 'sending', 'failed')
"""

_DROP_ITEMS = f"""
    DELETE FROM delivery_item p USING delivery d
    WHERE {_OPEN} AND p.delivery_pk = d.pk
      AND p.sop_instance_uid = ANY(:instances) AND p.state IN ('waiting', 'failed')
"""  # noqa: S608 - constants

# One that has sent some of its items ends by itself.
_CANCEL = f"""
    UPDATE delivery d
    SET state = 'cancelled', reason = '{CANCELLED_BY_DELETION}', fence = fence + 1,
        lease_owner = NULL, lease_until = NULL
    WHERE {_OPEN} AND (:whole OR NOT EXISTS (
        SELECT 1 FROM delivery_item p WHERE p.delivery_pk = d.pk))
"""  # noqa: S608 - constants


def delete(connection: Connection, deletion: Deletion, *, sight: Sight | None = None) -> int | None:
    """Delete what the deletion names; how many instances that were. None: there is no such thing.

    `sight`: of whoever deletes, who has to see it; None: that does not matter. Raises
    `IndexContended` where another transaction was in the way.
    """
    rows = Rows()
    found = _lock_study(connection, rows, deletion, sight)
    if found is None:
        return None
    study, visible = found
    series = _lock_series(connection, rows, deletion, study)
    gone = connection.execute(
        sa.text(_REMOVE_INSTANCES),
        {"series_pks": list(series), "instance": deletion.SOPInstanceUID},
    ).all()
    if not gone:
        return None
    instances = sorted(row.sop_instance_uid for row in gone)
    _write_down(connection, deletion, instances=len(instances), visible=visible)
    _mark_objects(connection, deletion, instances, series.values())
    _stop_deliveries(connection, deletion, instances)
    disturbed = frozenset(row.series_pk for row in gone)
    rolled = roll_up(
        connection, rows, entries=(), primaries=(), disturbed=disturbed, now=datetime.now(UTC)
    )
    contest = Contest(disturbed=disturbed)
    write_findings(connection, rows, entries=(), primaries=(), contest=contest, rolled=rolled)
    if visible:
        show_notes(connection, deletion.StudyInstanceUID, partition=deletion.partition)
    told = happening(EventKind.DELETED, deletion, instances=len(instances), visible=visible)
    note(connection, [told])
    return len(instances)


def _lock_study(
    connection: Connection, rows: Rows, deletion: Deletion, sight: Sight | None
) -> tuple[StudyRow, bool] | None:
    """Locks the study and its patient, and notes them in `rows`. With whether it is visible."""
    key = (deletion.partition, deletion.StudyInstanceUID)
    named = {"partition": key[0], "study": key[1]}
    seen = connection.execute(sa.text(_STUDY), named).one_or_none()
    if seen is None:
        return None
    held = seen.verdict == VerdictKind.HELD.value
    if sight is not None and not (seen.visible or (sight.held and held)):
        return None
    patient = connection.execute(
        sa.text("SELECT pk, source FROM patient WHERE pk = :pk FOR UPDATE"),
        {"pk": seen.patient_pk},
    ).one_or_none()
    locked = connection.execute(sa.text(f"{_STUDY} FOR UPDATE OF t"), named).one_or_none()
    if patient is None or locked is None or locked.patient_pk != patient.pk:
        raise IndexContended(_VANISHED)
    rows.patients[deletion.partition, locked.identity] = Row(patient.pk, patient.source, False)
    study = StudyRow(locked.pk, locked.source, False, key, patient.pk)
    rows.studies[key] = study
    return study, locked.visible


def _lock_series(
    connection: Connection, rows: Rows, deletion: Deletion, study: StudyRow
) -> Mapping[int, str]:
    """The UIDs of the series that are concerned, by their pks; noted in `rows` too."""
    found = connection.execute(
        sa.text(_SERIES), {"study_pk": study.pk, "series": deletion.SeriesInstanceUID}
    ).all()
    lock_series_uids(connection, [(deletion.partition, row.uid) for row in found])
    for row in found:
        rows.series[study.pk, row.uid] = Row(row.pk, row.source, False)
    return {row.pk: row.uid for row in found}


def _write_down(
    connection: Connection, deletion: Deletion, *, instances: int, visible: bool
) -> None:
    connection.execute(
        sa.text(_INSERT),
        {
            "id": deletion.id,
            "partition": deletion.partition,
            "study": deletion.StudyInstanceUID,
            "series": deletion.SeriesInstanceUID,
            "instance": deletion.SOPInstanceUID,
            "instances": instances,
            "deleted_at": deletion.deleted_at,
            "deleted_by": deletion.deleted_by,
            "visible": visible,
        },
    )


def _mark_objects(
    connection: Connection,
    deletion: Deletion,
    instances: Sequence[str],
    series_uids: Collection[str],
) -> None:
    ids = list(
        connection.scalars(
            sa.text(_MARK_OBJECTS),
            {
                "deletion": deletion.id,
                "partition": deletion.partition,
                "study": deletion.StudyInstanceUID,
                "series_uids": list(series_uids),
                "instances": list(instances),
            },
        )
    )
    # The store has all of it, should it be wanted again.
    for table in ("header", "sent_header", "moved_object", "finding", "frames_due"):
        connection.execute(
            sa.text(f"DELETE FROM {table} WHERE object_id = ANY(:ids)"),  # noqa: S608 - constants
            {"ids": ids},
        )


def _stop_deliveries(connection: Connection, deletion: Deletion, instances: Sequence[str]) -> None:
    study = {"partition": deletion.partition, "study": deletion.StudyInstanceUID}
    connection.execute(sa.text(_DROP_ITEMS), {**study, "instances": list(instances)})
    connection.execute(
        sa.text(_CANCEL),
        {**study, "whole": deletion.level == "study"},
    )


def follow_deletions(connection: Connection, entries: Sequence[Entry]) -> Mapping[UUID, UUID]:
    """Which of the objects are the very bytes of a deleted one, sent again: their deletions.

    The studies of the entries are locked. A person deleted what is in them, and the device that
    sends it once more does not know.
    """
    found = connection.execute(
        sa.text(
            "SELECT w.object_id, d.deletion_id FROM unnest(CAST(:ids AS uuid[]),"
            " CAST(:partitions AS text[]), CAST(:uids AS text[]), CAST(:hashes AS bytea[]))"
            " AS w(object_id, partition, uid, sha256)"
            " JOIN deleted_object d ON d.partition = w.partition AND d.sop_instance_uid = w.uid"
            " AND d.sha256 = w.sha256"
            " JOIN deletion t ON t.id = d.deletion_id AND t.state = 'marked'"
        ),
        {
            "ids": [entry.object_id for entry in entries],
            "partitions": [entry.partition for entry in entries],
            "uids": [entry.SOPInstanceUID for entry in entries],
            "hashes": [entry.sha256 for entry in entries],
        },
    )
    return {row.object_id: row.deletion_id for row in found}


def add_to_deletions(
    connection: Connection, entries: Sequence[Entry], following: Mapping[UUID, UUID]
) -> None:
    """Writes down that these objects, which have just got their rows, are deleted too."""
    added = [entry for entry in entries if entry.object_id in following]
    connection.execute(
        sa.text("UPDATE object SET state = 'deleted' WHERE id = ANY(:ids)"),
        {"ids": [entry.object_id for entry in added]},
    )
    connection.execute(
        sa.text(
            "INSERT INTO deleted_object (object_id, deletion_id, partition, sop_instance_uid,"
            " sha256) SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:deletions AS uuid[]),"
            " CAST(:partitions AS text[]), CAST(:uids AS text[]), CAST(:hashes AS bytea[]))"
        ),
        {
            "ids": [entry.object_id for entry in added],
            "deletions": [following[entry.object_id] for entry in added],
            "partitions": [entry.partition for entry in added],
            "uids": [entry.SOPInstanceUID for entry in added],
            "hashes": [entry.sha256 for entry in added],
        },
    )

"""Deliveries of corrected studies: every destination that has old values gets the new ones.

A delivery of its own for each, of what that destination has had and did not send to us itself. It
waits while the study is held, as all do. Of series that were moved the new values are those of the
study that they are in now; what of them was still to be sent goes nowhere as part of the former.
"""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_stores.index.deleting import CANCELLED_BY_DELETION

# What is being sent just now may be old or new: its lane loses it, and it is sent once more.
_INTERRUPT = """
    UPDATE delivery SET state = 'waiting', fence = fence + 1, next_attempt_at = now(),
        lease_owner = NULL, lease_until = NULL
    WHERE partition = :partition AND study_instance_uid = ANY(:studies) AND state = 'sending'
    RETURNING pk
"""

_PLAN = """
    WITH had AS (
        SELECT DISTINCT d.destination, p.sop_instance_uid, i.object_id
        FROM delivery d JOIN delivery_item p ON p.delivery_pk = d.pk
        JOIN instance i ON i.partition = d.partition AND i.sop_instance_uid = p.sop_instance_uid
        JOIN series s ON s.pk = i.series_pk JOIN study t ON t.pk = s.study_pk
        JOIN object o ON o.id = i.object_id
        WHERE d.partition = :partition AND d.study_instance_uid = ANY(:studies)
          AND t.study_instance_uid = :study
          AND (CAST(:series AS text[]) IS NULL OR s.series_instance_uid = ANY(:series))
          AND (CAST(:only AS text[]) IS NULL OR d.destination = ANY(:only))
          AND (p.state IN ('accepted', 'warned') OR d.pk = ANY(:interrupted))
          AND lower(o.calling_ae) IS DISTINCT FROM lower(d.destination)
    ), planned AS (
        INSERT INTO delivery (partition, destination, level, study_instance_uid, origin,
                              study_revision, created_at, unsent_since, next_attempt_at)
        SELECT t.partition, h.destination, 'study', t.study_instance_uid, 'correction',
               t.revision, now(), now(), now()
        FROM (SELECT DISTINCT destination FROM had) AS h, study t
        WHERE t.partition = :partition AND t.study_instance_uid = :study
        ORDER BY h.destination
        ON CONFLICT (partition, destination, study_instance_uid)
            WHERE origin = 'correction' AND state IN ('waiting', 'sending', 'failed')
        DO UPDATE SET study_revision = excluded.study_revision, attempts = 0,
                      next_attempt_at = now()
        RETURNING pk, destination
    ), items AS (
        INSERT INTO delivery_item AS p (delivery_pk, sop_instance_uid, object_id)
        SELECT planned.pk, had.sop_instance_uid, had.object_id
        FROM planned JOIN had ON had.destination = planned.destination
        ON CONFLICT (delivery_pk, sop_instance_uid)
        DO UPDATE SET state = 'waiting', status = NULL, reason = NULL, attempts = 0,
                      settled_at = NULL, proved_at = NULL, object_id = excluded.object_id
    )
    SELECT pk, destination FROM planned
"""


_OPEN = """
    d.partition = :partition AND d.study_instance_uid = :former
    AND d.state IN ('waiting', 'sending', 'failed')
"""

_DROP = f"""
    DELETE FROM delivery_item p USING delivery d, instance i, series s, study t
    WHERE {_OPEN} AND p.delivery_pk = d.pk AND p.state IN ('waiting', 'failed')
      AND i.partition = d.partition AND i.sop_instance_uid = p.sop_instance_uid
      AND s.pk = i.series_pk AND t.pk = s.study_pk AND t.study_instance_uid = :study
"""  # noqa: S608 - constants

_CANCEL_EMPTY = f"""
    UPDATE delivery d
    SET state = 'cancelled', reason = '{CANCELLED_BY_DELETION}', fence = fence + 1,
        lease_owner = NULL, lease_until = NULL
    WHERE {_OPEN} AND NOT EXISTS (SELECT 1 FROM delivery_item p WHERE p.delivery_pk = d.pk)
"""  # noqa: S608 - constants


def plan_corrected(
    connection: Connection,
    *,
    partition: str,
    StudyInstanceUID: str,
    only: Collection[str] | None = None,
) -> dict[str, int]:
    """The deliveries of a study that is locked and whose corrections have changed, by destination;
    `only`: to these."""
    return _plan(connection, partition, StudyInstanceUID, [StudyInstanceUID], only=only)


def plan_moved(
    connection: Connection,
    *,
    partition: str,
    StudyInstanceUID: str,
    former: str,
    series: Collection[str],
) -> dict[str, int]:
    """The deliveries of series that are in this study since, and were in the former one, by
    destination; both are locked."""
    planned = _plan(
        connection,
        partition,
        StudyInstanceUID,
        [StudyInstanceUID, former],
        series=sorted(series),
    )
    named = {"partition": partition, "study": StudyInstanceUID, "former": former}
    connection.execute(sa.text(_DROP), named)
    connection.execute(sa.text(_CANCEL_EMPTY), named)
    return planned


def _plan(
    connection: Connection,
    partition: str,
    StudyInstanceUID: str,
    studies: list[str],
    *,
    series: Collection[str] | None = None,
    only: Collection[str] | None = None,
) -> dict[str, int]:
    named = {
        "partition": partition,
        "study": StudyInstanceUID,
        "studies": studies,
        "series": None if series is None else list(series),
        "only": None if only is None else list(only),
    }
    interrupted = list(connection.scalars(sa.text(_INTERRUPT), named))
    planned = connection.execute(sa.text(_PLAN), {**named, "interrupted": interrupted})
    return {row.destination: row.pk for row in planned}

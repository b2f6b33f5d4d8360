"""Deliveries of corrected studies: every destination that has old values gets the new ones.

A delivery of its own for each, of what that destination has had and did not send to us itself. It
waits while the study is held, as all do.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# What is being sent just now may be old or new: its lane loses it, and it is sent once more.
_INTERRUPT = """
    UPDATE delivery SET state = 'waiting', fence = fence + 1, next_attempt_at = now(),
        lease_owner = NULL, lease_until = NULL
    WHERE partition = :partition AND study_instance_uid = :study AND state = 'sending'
    RETURNING pk
"""

_PLAN = """
    WITH had AS (
        SELECT DISTINCT d.destination, p.sop_instance_uid, i.object_id
        FROM delivery d JOIN delivery_item p ON p.delivery_pk = d.pk
        JOIN instance i ON i.partition = d.partition AND i.sop_instance_uid = p.sop_instance_uid
        JOIN object o ON o.id = i.object_id
        WHERE d.partition = :partition AND d.study_instance_uid = :study
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
    SELECT count(*) FROM planned
"""


def plan_corrected(connection: Connection, *, partition: str, StudyInstanceUID: str) -> int:
    """The deliveries of a study that is locked and whose corrections have changed: how many."""
    named = {"partition": partition, "study": StudyInstanceUID}
    interrupted = list(connection.scalars(sa.text(_INTERRUPT), named))
    planned = connection.scalar(sa.text(_PLAN), {**named, "interrupted": interrupted})
    return int(planned or 0)

"""Rejection notes in the index: planned with what they go before, sent, taken back.

    correction ─▶ delivery of the new values, its note first
    refusal ────▶ delivery of a note alone, to who has the study

A note is made when it is planned, for it tells of values that its destination has and that the
index is about to forget.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.rejection_notes import Rejected, RejectionNote
from gantry_stores.index.delivery_leases import Claim, ItemOutcome, LeaseLost

_ITEMS = """
    SELECT s.series_instance_uid, i.sop_class_uid, i.sop_instance_uid
    FROM delivery d JOIN delivery_item p ON p.delivery_pk = d.pk
    JOIN instance i ON i.partition = d.partition AND i.sop_instance_uid = p.sop_instance_uid
    JOIN series s ON s.pk = i.series_pk
    WHERE d.pk = :pk
"""

# Of the study as it is now, whichever delivery brought it there; not to who sent it to us.
_HOLDERS = """
    SELECT DISTINCT d.destination, s.series_instance_uid, i.sop_class_uid, i.sop_instance_uid
    FROM delivery d JOIN delivery_item p ON p.delivery_pk = d.pk
    JOIN instance i ON i.partition = d.partition AND i.sop_instance_uid = p.sop_instance_uid
    JOIN series s ON s.pk = i.series_pk JOIN study t ON t.pk = s.study_pk
    JOIN object o ON o.id = i.object_id
    WHERE d.partition = :partition AND d.study_instance_uid = :study
      AND t.study_instance_uid = :study AND p.state IN ('accepted', 'warned')
      AND lower(o.calling_ae) IS DISTINCT FROM lower(d.destination)
"""

_PLAN = """
    INSERT INTO delivery (partition, destination, level, study_instance_uid, origin,
                          study_revision, created_at, unsent_since, next_attempt_at)
    SELECT t.partition, :destination, 'study', t.study_instance_uid, 'rejection',
           t.revision, now(), now(), now()
    FROM study t WHERE t.partition = :partition AND t.study_instance_uid = :study
    RETURNING pk
"""

# What waits tells of the values that its destination has still; what was sent is told of anew.
_WRITE = """
    INSERT INTO rejection_note AS n (delivery_pk, sop_instance_uid, title, content)
    VALUES (:pk, :uid, :title, :content)
    ON CONFLICT (delivery_pk) DO UPDATE
    SET sop_instance_uid = excluded.sop_instance_uid, title = excluded.title,
        content = excluded.content, state = 'waiting', status = NULL, reason = NULL,
        settled_at = NULL
    WHERE n.state NOT IN ('waiting', 'failed')
"""

# What is being sent just now may have arrived.
_TAKE_BACK = """
    WITH open AS (
        UPDATE delivery d
        SET state = 'cancelled', reason = 'undone', fence = d.fence + 1, lease_owner = NULL,
            lease_until = NULL
        FROM delivery b
        WHERE b.pk = d.pk AND d.partition = :partition AND d.study_instance_uid = :study
          AND d.origin = 'rejection' AND d.state IN ('waiting', 'sending', 'failed')
        RETURNING d.pk, d.destination, b.state AS was
    )
    SELECT destination FROM open WHERE was = 'sending'
    UNION
    SELECT d.destination FROM delivery d JOIN rejection_note n ON n.delivery_pk = d.pk
    WHERE d.partition = :partition AND d.study_instance_uid = :study AND d.origin = 'rejection'
      AND n.state IN ('accepted', 'warned')
"""

_PENDING = """
    SELECT sop_instance_uid, content FROM rejection_note
    WHERE delivery_pk = :pk AND state IN ('waiting', 'failed')
"""

_RECORD = """
    UPDATE rejection_note n
    SET state = :state, status = :status, reason = :reason,
        settled_at = CASE WHEN :settled THEN now() END
    FROM delivery d
    WHERE d.pk = :pk AND d.fence = :fence AND d.state = 'sending' AND n.delivery_pk = d.pk
"""


@dataclass(frozen=True, slots=True)
class FormerStudy:
    """A study as it was: its UID, and the attributes of its patient and its own (DICOM JSON)."""

    StudyInstanceUID: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PendingNote:
    """A note that is to be sent before anything else of its delivery."""

    SOPInstanceUID: str
    content: bytes


def study_as_it_is(
    connection: Connection, *, partition: str, StudyInstanceUID: str
) -> FormerStudy | None:
    """The study before it changes; None: there is none."""
    attributes = connection.scalar(
        sa.text(
            "SELECT attributes FROM study"
            " WHERE partition = :partition AND study_instance_uid = :study"
        ),
        {"partition": partition, "study": StudyInstanceUID},
    )
    return None if attributes is None else FormerStudy(StudyInstanceUID, attributes)


def rejected_by(connection: Connection, delivery: int) -> list[Rejected]:
    """The instances that a delivery is about to bring anew."""
    rows = connection.execute(sa.text(_ITEMS), {"pk": delivery})
    return [Rejected(*row) for row in rows]


def holders(
    connection: Connection, *, partition: str, StudyInstanceUID: str
) -> dict[str, list[Rejected]]:
    """What of a study each destination has received."""
    found: dict[str, list[Rejected]] = defaultdict(list)
    rows = connection.execute(
        sa.text(_HOLDERS), {"partition": partition, "study": StudyInstanceUID}
    )
    for destination, *instance in rows:
        found[destination].append(Rejected(*instance))
    return found


def plan_rejection(
    connection: Connection, destination: str, *, partition: str, StudyInstanceUID: str
) -> int:
    """A delivery of nothing but a note; its number."""
    named = {"destination": destination, "partition": partition, "study": StudyInstanceUID}
    return int(connection.execute(sa.text(_PLAN), named).scalar_one())


def write_note(connection: Connection, delivery: int, note: RejectionNote) -> None:
    """The note goes before all of a delivery, unless one waits there already."""
    connection.execute(
        sa.text(_WRITE),
        {
            "pk": delivery,
            "uid": note.SOPInstanceUID,
            "title": note.title.value,
            "content": note.content,
        },
    )


def take_rejections_back(
    connection: Connection, *, partition: str, StudyInstanceUID: str
) -> Collection[str]:
    """What is not sent of them is not sent any more; to whom others may have been."""
    return connection.scalars(
        sa.text(_TAKE_BACK), {"partition": partition, "study": StudyInstanceUID}
    ).all()


def pending_note(connection: Connection, claimed: Claim) -> PendingNote | None:
    """The note of a delivery, if it is to be sent."""
    row = connection.execute(sa.text(_PENDING), {"pk": claimed.pk}).one_or_none()
    return None if row is None else PendingNote(row.sop_instance_uid, bytes(row.content))


def record_note(connection: Connection, claimed: Claim, outcome: ItemOutcome) -> None:
    """Write what became of the note. Raises `LeaseLost`."""
    written = connection.execute(
        sa.text(_RECORD),
        {
            "pk": claimed.pk,
            "fence": claimed.fence,
            "state": outcome.state.value,
            "status": outcome.status,
            "reason": outcome.reason,
            "settled": outcome.state.settled,
        },
    )
    if not written.rowcount:
        raise LeaseLost(claimed.pk)

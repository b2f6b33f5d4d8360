"""Deliveries as they come to be: from routes for studies, from people for what they name.

Planning twice adds nothing twice: a destination has one delivery per routed study, to which late
instances are added, and one open delivery per thing that was pushed to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.class_refusals import NOT_OF_IMAGES
from gantry_domain.deliveries import DeliveryLevel
from gantry_domain.route_parts import Leaving, Part
from gantry_domain.routes import Onward
from gantry_domain.statuses import SOP_CLASS_NOT_SUPPORTED
from gantry_stores.index.deleting import CANCELLED_BY_DELETION
from gantry_stores.index.due_hints import hint_due
from gantry_stores.index.studies_to_route import StudyToRoute, part_rows

# Of the same modality first, then the newest; a study without a date is no earlier one.
_PRIORS = """
    SELECT p.study_instance_uid, p.revision
    FROM study t JOIN study p ON p.patient_pk = t.patient_pk AND p.pk <> t.pk
    WHERE t.pk = :study_pk AND p.partition = t.partition
      AND p.verdict = 'accepted' AND p.judged_revision = p.revision
      AND p.study_date <> '' AND p.study_date <= t.study_date
    ORDER BY p.modalities_in_study && t.modalities_in_study DESC, p.study_date DESC,
             p.study_time DESC, p.study_instance_uid
    LIMIT :limit
"""

_ROUTED = """
    INSERT INTO delivery (partition, destination, level, study_instance_uid, origin, priority,
                          study_revision, created_at, completed_at, unsent_since, next_attempt_at)
    VALUES (:partition, :destination, 'study', :study, 'route', :priority,
            :revision, now(), :completed_at, now(), now())
    ON CONFLICT (partition, destination, study_instance_uid) WHERE origin = 'route'
    DO UPDATE SET study_revision = excluded.study_revision, completed_at = excluded.completed_at,
                  priority = greatest(delivery.priority, excluded.priority)
    RETURNING pk, xmax = 0 AS created
"""

_PUSHED = """
    INSERT INTO delivery (partition, destination, level, study_instance_uid, series_instance_uid,
                          sop_instance_uid, origin, priority, study_revision, created_at,
                          unsent_since, next_attempt_at)
    VALUES (:partition, :destination, :level, :study, :series, :instance, 'push', :priority,
            :revision, now(), now(), now())
    ON CONFLICT (partition, destination, study_instance_uid, coalesce(series_instance_uid, ''),
                 coalesce(sop_instance_uid, ''))
        WHERE origin = 'push' AND state IN ('waiting', 'sending', 'failed')
    DO UPDATE SET study_revision = excluded.study_revision,
                  priority = greatest(delivery.priority, excluded.priority)
    RETURNING pk, xmax = 0 AS created
"""

# What it accepted already, must not have, or does not take for its class, by a push or a replay.
_NOT_THERE = """
    NOT EXISTS (
        SELECT 1 FROM delivery h JOIN delivery_item a ON a.delivery_pk = h.pk
        WHERE h.partition = :partition AND h.study_instance_uid = :study AND h.pk <> :pk
          AND h.destination = :destination
          AND a.sop_instance_uid = i.sop_instance_uid
          AND (a.state IN ('accepted', 'warned', 'withheld')
               OR a.state = 'refused' AND a.status = :not_supported
               AND i.sop_class_uid = ANY(:not_of_images))
    )
"""

NOT_TAKEN = {
    "not_supported": SOP_CLASS_NOT_SUPPORTED.code,
    "not_of_images": sorted(NOT_OF_IMAGES),
}
"""Values of the parameters by which statements know what is refused for its class."""

_ITEMS = """
    INSERT INTO delivery_item (delivery_pk, sop_instance_uid, object_id)
    SELECT CAST(:pk AS bigint), i.sop_instance_uid, i.object_id
    FROM study t JOIN series s ON s.study_pk = t.pk JOIN instance i ON i.series_pk = s.pk
    WHERE t.partition = :partition AND t.study_instance_uid = :study
      AND (CAST(:series AS text) IS NULL OR s.series_instance_uid = :series)
      AND (CAST(:instance AS text) IS NULL OR i.sop_instance_uid = :instance)
    ON CONFLICT DO NOTHING
"""

_ROUTED_ITEMS = f"""
    INSERT INTO delivery_item (delivery_pk, sop_instance_uid, object_id)
    SELECT CAST(:pk AS bigint), i.sop_instance_uid, i.object_id
    FROM study t JOIN series s ON s.study_pk = t.pk JOIN instance i ON i.series_pk = s.pk
    WHERE t.partition = :partition AND t.study_instance_uid = :study AND {_NOT_THERE}
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants

_PART_ITEMS = f"""
    INSERT INTO delivery_item (delivery_pk, sop_instance_uid, object_id)
    SELECT CAST(:pk AS bigint), i.sop_instance_uid, i.object_id
    FROM jsonb_to_recordset(CAST(:parts AS jsonb))
        AS p(series text, sop_class text, calling_ae text, called_ae text)
    JOIN study t ON t.partition = :partition AND t.study_instance_uid = :study
    JOIN series s ON s.study_pk = t.pk AND s.series_instance_uid = p.series
    JOIN instance i ON i.series_pk = s.pk AND i.sop_class_uid = p.sop_class
    JOIN object o ON o.id = i.object_id AND o.calling_ae IS NOT DISTINCT FROM p.calling_ae
        AND o.called_ae IS NOT DISTINCT FROM p.called_ae
    WHERE {_NOT_THERE}
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants

# What was over is open again; what a person cancelled stays so. A study that was deleted and is
# here all the same was restored, or sent anew.
_REOPEN = f"""
    UPDATE delivery
    SET state = 'waiting', reason = NULL, attempts = 0, next_attempt_at = now(),
        unsent_since = now(), delivered_at = NULL
    WHERE pk = :pk AND (state IN ('delivered', 'dead')
                        OR state = 'cancelled' AND reason = '{CANCELLED_BY_DELETION}')
"""  # noqa: S608 - constants

_FIND = """
    SELECT 'study' AS level, t.pk, t.partition, t.study_instance_uid, t.revision, t.verdict,
           NULL AS series_instance_uid, NULL AS sop_instance_uid
    FROM study t WHERE t.partition = ANY(:partitions) AND t.study_instance_uid = :uid
    UNION ALL
    SELECT 'series', t.pk, t.partition, t.study_instance_uid, t.revision, t.verdict,
           s.series_instance_uid, NULL
    FROM series s JOIN study t ON t.pk = s.study_pk
    WHERE t.partition = ANY(:partitions) AND s.series_instance_uid = :uid
    UNION ALL
    SELECT 'instance', t.pk, t.partition, t.study_instance_uid, t.revision, t.verdict,
           s.series_instance_uid, i.sop_instance_uid
    FROM instance i JOIN series s ON s.pk = i.series_pk JOIN study t ON t.pk = s.study_pk
    WHERE i.partition = ANY(:partitions) AND i.sop_instance_uid = :uid
"""


@dataclass(frozen=True, slots=True)
class Pushable:
    """Something with a UID that can be sent: UIDs of the levels above it, and its study's verdict
    (None: nobody judged it yet)."""

    level: DeliveryLevel
    partition: str
    StudyInstanceUID: str
    SeriesInstanceUID: str | None
    SOPInstanceUID: str | None
    revision: int
    verdict: str | None


def plan_routed(connection: Connection, study: StudyToRoute, leaving: Leaving) -> int:
    """The deliveries of a study and its priors to a destination, made or continued; how many have
    new items."""
    onward = leaving.onward
    planned = 0
    planned += _plan_one(
        connection,
        study.facts.partition,
        onward,
        uid=study.StudyInstanceUID,
        revision=study.revision,
        completed_at=study.completed_at,
        parts=leaving.parts,
    )
    if not onward.priors or (study.completed_at is None and not planned):
        return planned  # asked twice a second while it comes, it looks for priors when they may go
    values = {"study_pk": study.pk, "limit": onward.priors}
    for prior in connection.execute(sa.text(_PRIORS), values).all():
        planned += _plan_one(
            connection,
            study.facts.partition,
            onward,
            uid=prior.study_instance_uid,
            revision=prior.revision,
            completed_at=None,  # long ago: it says nothing of how fast we send
        )
    return planned


def _plan_one(
    connection: Connection,
    partition: str,
    onward: Onward,
    *,
    uid: str,
    revision: int,
    completed_at: datetime | None,
    parts: Sequence[Part] | None = None,
) -> bool:
    row = connection.execute(
        sa.text(_ROUTED),
        {
            "partition": partition,
            "destination": onward.destination,
            "priority": onward.priority,
            "study": uid,
            "revision": revision,
            "completed_at": completed_at,
        },
    ).one()
    values = {
        "pk": row.pk,
        "partition": partition,
        "study": uid,
        "destination": onward.destination,
        "parts": None if parts is None else part_rows(parts),
        **NOT_TAKEN,
    }
    items = _ROUTED_ITEMS if parts is None else _PART_ITEMS
    added = connection.execute(sa.text(items), values).rowcount
    if added:
        connection.execute(sa.text(_REOPEN), {"pk": row.pk})
    elif row.created:
        connection.execute(sa.text("DELETE FROM delivery WHERE pk = :pk"), {"pk": row.pk})
    return added > 0


def find_pushable(connection: Connection, uid: str, *, partitions: Sequence[str]) -> list[Pushable]:
    """The studies, series and instances of these partitions that have the UID."""
    return [
        Pushable(
            DeliveryLevel(row.level),
            row.partition,
            row.study_instance_uid,
            row.series_instance_uid,
            row.sop_instance_uid,
            row.revision,
            row.verdict,
        )
        for row in connection.execute(sa.text(_FIND), {"uid": uid, "partitions": list(partitions)})
    ]


def plan_pushed(
    connection: Connection, target: Pushable, destination: str, *, priority: int
) -> tuple[int, bool]:
    """The delivery of what a person pushed: its number, and whether it is new.

    While the same is still on its way to the same destination no second delivery is made.
    """
    row = connection.execute(
        sa.text(_PUSHED),
        {
            "partition": target.partition,
            "destination": destination,
            "level": target.level.value,
            "study": target.StudyInstanceUID,
            "series": target.SeriesInstanceUID,
            "instance": target.SOPInstanceUID,
            "priority": priority,
            "revision": target.revision,
        },
    ).one()
    _add_items(
        connection,
        row.pk,
        partition=target.partition,
        study=target.StudyInstanceUID,
        series=target.SeriesInstanceUID,
        instance=target.SOPInstanceUID,
    )
    hint_due(connection)
    return row.pk, row.created


def _add_items(
    connection: Connection,
    pk: int,
    *,
    partition: str,
    study: str,
    series: str | None = None,
    instance: str | None = None,
) -> int:
    return connection.execute(
        sa.text(_ITEMS),
        {
            "pk": pk,
            "partition": partition,
            "study": study,
            "series": series,
            "instance": instance,
        },
    ).rowcount

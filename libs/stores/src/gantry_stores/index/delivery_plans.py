"""Deliveries as they come to be: from routes for complete studies, from people for what they name.

Planning twice adds nothing twice: a destination has one delivery per routed study, to which late
instances are added, and one open delivery per thing that was pushed to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.deliveries import DeliveryLevel
from gantry_domain.routes import Onward, StudyFacts
from gantry_stores.index.deleting import CANCELLED_BY_DELETION

_STUDY_DESCRIPTION = "00081030"

# Studies that are complete and accepted as they are now, and whose routes were not asked since.
_TO_ROUTE = f"""
    SELECT pk, partition, study_instance_uid, revision, completed_at, modalities_in_study,
           sop_classes_in_study, attributes->'{_STUDY_DESCRIPTION}'->'Value'->>0 AS description,
           last_received_at >= (SELECT min(began_at) FROM beginning) AS received_since
    FROM study
    WHERE (routed_revision IS NULL OR routed_revision < revision)
      AND completed_revision = revision AND judged_revision = revision AND verdict = 'accepted'
    ORDER BY pk LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608 - constants

_SENDERS = """
    SELECT array_agg(DISTINCT o.calling_ae) FILTER (WHERE o.calling_ae <> '') AS calling,
           array_agg(DISTINCT o.called_ae) FILTER (WHERE o.called_ae <> '') AS called
    FROM series s JOIN instance i ON i.series_pk = s.pk JOIN object o ON o.id = i.object_id
    WHERE s.study_pk = :study_pk
"""

_FINDINGS = """
    SELECT array_agg(DISTINCT rule) || array_agg(DISTINCT code)
    FROM study_finding WHERE study_pk = :study_pk AND severity <> 'info'
"""

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
    RETURNING pk
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

_ITEMS = """
    INSERT INTO delivery_item (delivery_pk, sop_instance_uid, object_id)
    SELECT CAST(:pk AS bigint), i.sop_instance_uid, i.object_id
    FROM study t JOIN series s ON s.study_pk = t.pk JOIN instance i ON i.series_pk = s.pk
    WHERE t.partition = :partition AND t.study_instance_uid = :study
      AND (CAST(:series AS text) IS NULL OR s.series_instance_uid = :series)
      AND (CAST(:instance AS text) IS NULL OR i.sop_instance_uid = :instance)
    ON CONFLICT DO NOTHING
"""

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
class StudyToRoute:
    """A complete and accepted study at the revision that its facts describe.

    `older_than_index`: all of it was stored before the index was made, by which it was found again.
    """

    pk: int
    StudyInstanceUID: str
    revision: int
    completed_at: object
    facts: StudyFacts
    older_than_index: bool


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


def studies_to_route(
    connection: Connection, *, limit: int, with_senders: bool
) -> list[StudyToRoute]:
    """Lock at most `limit` studies that wait for their routes, for the rest of the transaction.

    `with_senders`: look up who sent them, which costs a walk over their instances, and what was
    found of them.
    """
    studies = []
    for row in connection.execute(sa.text(_TO_ROUTE), {"limit": limit}).all():
        senders = (
            connection.execute(sa.text(_SENDERS), {"study_pk": row.pk}).one()
            if with_senders
            else None
        )
        facts = StudyFacts(
            partition=row.partition,
            ModalitiesInStudy=tuple(row.modalities_in_study),
            SOPClassesInStudy=tuple(row.sop_classes_in_study),
            StudyDescription=row.description,
            calling_aes=tuple(senders.calling or ()) if senders else (),
            called_aes=tuple(senders.called or ()) if senders else (),
            findings=(
                tuple(connection.scalar(sa.text(_FINDINGS), {"study_pk": row.pk}) or ())
                if with_senders
                else ()
            ),
        )
        studies.append(
            StudyToRoute(
                row.pk,
                row.study_instance_uid,
                row.revision,
                row.completed_at,
                facts,
                older_than_index=not row.received_since,
            )
        )
    return studies


def plan_routed(connection: Connection, study: StudyToRoute, onward: Onward) -> int:
    """The deliveries of a study and its priors to a destination, made or continued; how many have
    new items."""
    values = {"study_pk": study.pk, "limit": onward.priors}
    priors = connection.execute(sa.text(_PRIORS), values).all() if onward.priors else ()
    planned = 0
    planned += _plan_one(
        connection,
        study.facts.partition,
        onward,
        uid=study.StudyInstanceUID,
        revision=study.revision,
        completed_at=study.completed_at,
    )
    for prior in priors:
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
    completed_at: object,
) -> bool:
    pk = connection.scalars(
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
    added = _add_items(connection, pk, partition=partition, study=uid)
    if added:
        connection.execute(sa.text(_REOPEN), {"pk": pk})
    return added > 0


def mark_routed(connection: Connection, studies: Sequence[StudyToRoute]) -> None:
    """The routes of these studies were asked."""
    connection.execute(
        sa.text(
            "UPDATE study AS t SET routed_revision = r.revision"
            " FROM unnest(CAST(:pks AS bigint[]), CAST(:revisions AS bigint[]))"
            " AS r(pk, revision) WHERE t.pk = r.pk"
        ),
        {
            "pks": [study.pk for study in studies],
            "revisions": [study.revision for study in studies],
        },
    )


def mark_all_routed(connection: Connection) -> None:
    """Nothing that is in the index now is routed anywhere: for an index built anew."""
    connection.execute(
        sa.text(
            "UPDATE study SET routed_revision = revision"
            " WHERE routed_revision IS NULL OR routed_revision < revision"
        )
    )


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

"""Deliveries of what was stored in a time range: of each study what a destination has not.

A destination has what it accepted, by whatever delivery, and what came from it; what is withheld
from it, it must not have, and what it refused for its class, it does not take. What is on its way
to it needs no second delivery. Such deliveries have the origin `replay`, one open per study.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.route_parts import Part
from gantry_stores.index.delivery_plans import NOT_TAKEN
from gantry_stores.index.studies_to_route import part_rows

_OBJECTS = """
    SELECT id, partition, study_instance_uid FROM object
    WHERE id >= :first AND id < :end AND state = 'primary' AND partition = ANY(:partitions)
    ORDER BY id LIMIT :limit
"""

_MISSING = """
    SELECT i.sop_instance_uid, i.object_id
    FROM study t JOIN series s ON s.study_pk = t.pk JOIN instance i ON i.series_pk = s.pk
    JOIN object o ON o.id = i.object_id
    WHERE t.partition = :partition AND t.study_instance_uid = :study
      AND o.id >= :first AND o.id < :end
      AND lower(o.calling_ae) IS DISTINCT FROM lower(:destination)
      AND (CAST(:parts AS jsonb) IS NULL OR EXISTS (
          SELECT 1 FROM jsonb_to_recordset(CAST(:parts AS jsonb))
              AS p(series text, sop_class text, calling_ae text, called_ae text)
          WHERE p.series = s.series_instance_uid AND p.sop_class = i.sop_class_uid
            AND p.calling_ae IS NOT DISTINCT FROM o.calling_ae
            AND p.called_ae IS NOT DISTINCT FROM o.called_ae
      ))
      AND NOT EXISTS (
          SELECT 1 FROM delivery d JOIN delivery_item p ON p.delivery_pk = d.pk
          WHERE d.partition = t.partition AND d.study_instance_uid = t.study_instance_uid
            AND d.destination = :destination AND p.sop_instance_uid = i.sop_instance_uid
            AND (p.state IN ('accepted', 'warned', 'withheld')
                 OR p.state = 'refused' AND p.status = :not_supported
                    AND i.sop_class_uid = ANY(:not_of_images)
                 OR p.state IN ('waiting', 'failed')
                    AND d.state IN ('waiting', 'sending', 'failed'))
      )
"""

_COUNT = f"SELECT count(*) AS items, NULL AS pk FROM ({_MISSING}) AS missing"  # noqa: S608 - constants

_PLAN = f"""
    WITH missing AS ({_MISSING}), planned AS (
        INSERT INTO delivery (partition, destination, level, study_instance_uid, origin, priority,
                              study_revision, created_at, unsent_since, next_attempt_at)
        SELECT t.partition, :destination, 'study', t.study_instance_uid, 'replay', 0,
               t.revision, now(), now(), now()
        FROM study t
        WHERE t.partition = :partition AND t.study_instance_uid = :study
          AND EXISTS (SELECT 1 FROM missing)
        ON CONFLICT (partition, destination, study_instance_uid)
            WHERE origin = 'replay' AND state IN ('waiting', 'sending', 'failed')
        DO UPDATE SET study_revision = excluded.study_revision
        RETURNING pk
    ), items AS (
        INSERT INTO delivery_item AS p (delivery_pk, sop_instance_uid, object_id)
        SELECT planned.pk, missing.sop_instance_uid, missing.object_id FROM planned, missing
        ON CONFLICT (delivery_pk, sop_instance_uid)
        DO UPDATE SET state = 'waiting', settled_at = NULL  -- it was refused in this delivery
    )
    SELECT (SELECT count(*) FROM missing) AS items, (SELECT pk FROM planned) AS pk
"""  # noqa: S608 - constants

_PROGRESS = """
    SELECT count(*) FILTER (WHERE d.state IN ('waiting', 'sending', 'failed')) AS open,
           count(*) FILTER (WHERE d.state = 'delivered') AS delivered,
           coalesce(sum(i.instances), 0) AS instances, coalesce(sum(i.arrived), 0) AS arrived
    FROM delivery d, LATERAL (
        SELECT count(*) AS instances,
               count(*) FILTER (WHERE p.state IN ('accepted', 'warned')) AS arrived
        FROM delivery_item p WHERE p.delivery_pk = d.pk
    ) AS i
    WHERE d.pk = ANY(:pks)
"""


@dataclass(frozen=True, slots=True)
class StoredRange:
    """A piece of a time range: objects from `first` up to `end`, and the studies that they are of,
    by partition and UID, in the order of reception."""

    first: UUID
    end: UUID
    studies: tuple[tuple[str, str], ...]
    objects: int


def stored_range(
    connection: Connection, *, first: UUID, end: UUID, partitions: Iterable[str], limit: int
) -> StoredRange:
    """The first `limit` objects from `first` on; its `end` is where to go on."""
    values = {"first": first, "end": end, "partitions": sorted(partitions), "limit": limit}
    rows = connection.execute(sa.text(_OBJECTS), values).all()
    studies = dict.fromkeys((row.partition, row.study_instance_uid) for row in rows)
    end = UUID(int=rows[-1].id.int + 1) if len(rows) == limit else end
    return StoredRange(first, end, tuple(studies), len(rows))


def plan_range(
    connection: Connection,
    within: StoredRange,
    *,
    partition: str,
    StudyInstanceUID: str,
    destination: str,
    parts: Sequence[Part] | None,
    dry_run: bool,
) -> tuple[int, int | None]:
    """How many instances of a study, of those in the range, a destination has not; and the number
    of the delivery that sends them. Planned twice it is the same one while it is open."""
    row = connection.execute(
        sa.text(_COUNT if dry_run else _PLAN),
        {
            "partition": partition,
            "study": StudyInstanceUID,
            "destination": destination,
            "first": within.first,
            "end": within.end,
            "parts": None if parts is None else part_rows(parts),
            **NOT_TAKEN,
        },
    ).one()
    return row.items, row.pk


@dataclass(frozen=True, slots=True)
class Progress:
    """Of some deliveries together: instances, how many of them arrived; deliveries that are open,
    and that arrived as a whole."""

    instances: int = 0
    arrived: int = 0
    open: int = 0
    delivered: int = 0


def progress_of(connection: Connection, pks: Sequence[int]) -> Progress:
    """How far these deliveries are."""
    row = connection.execute(sa.text(_PROGRESS), {"pks": list(pks)}).one()
    return Progress(int(row.instances), int(row.arrived), row.open, row.delivered)

"""What performed steps say of studies: how many images to expect, and whether they are there.

A step is settled once all is there that it refers to, or it refers to nothing, or nobody waits for
it any longer; until then its studies wait for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_AT_ONCE = 100

# Both kinds of references of a performed series (PS3.4 Table F.7.2-1).
_REFERENCES = """
    SELECT jsonb_path_query(p.attributes,
        '$."00400340"."Value"[*]."00081140"."Value"[*]."00081155"."Value"[0]') #>> '{}' AS uid
    UNION ALL
    SELECT jsonb_path_query(p.attributes,
        '$."00400340"."Value"[*]."00400220"."Value"[*]."00081155"."Value"[0]') #>> '{}'
"""

# The counts are looked at first, for they cost nothing.
_SETTLE = f"""
    WITH here AS (
        SELECT p.pk FROM performed_step p
        WHERE p.settled_at IS NULL AND p.state <> 'IN PROGRESS' AND p.instances > 0
          AND CASE
            WHEN p.instances > (
                SELECT coalesce(sum(s.number_of_study_related_instances), 0) FROM study s
                WHERE s.partition = p.partition
                  AND s.study_instance_uid = ANY(p.study_instance_uids)
            ) THEN false
            ELSE NOT EXISTS (
                SELECT 1 FROM ({_REFERENCES}) AS told WHERE NOT EXISTS (
                    SELECT 1 FROM instance i
                    WHERE i.partition = p.partition AND i.sop_instance_uid = told.uid
                )
            ) END
        ORDER BY p.pk LIMIT :limit FOR UPDATE OF p SKIP LOCKED
    )
    UPDATE performed_step p SET settled_at = :now FROM here WHERE p.pk = here.pk
    RETURNING p.partition, p.study_instance_uids
"""  # noqa: S608 - constants

_GIVE_UP = """
    UPDATE performed_step p SET settled_at = :now
    WHERE p.settled_at IS NULL AND p.updated_at <= :before AND NOT EXISTS (
        SELECT 1 FROM study s WHERE s.partition = p.partition
        AND s.study_instance_uid = ANY(p.study_instance_uids) AND s.indexed_at > :before
    )
"""

_NOT_WAITED_FOR = """
    SELECT s.pk FROM study s
    JOIN unnest(CAST(:partitions AS text[]), CAST(:uids AS text[])) AS told(partition, uid)
      ON s.partition = told.partition AND s.study_instance_uid = told.uid
    WHERE NOT EXISTS (
        SELECT 1 FROM performed_step p WHERE p.settled_at IS NULL
        AND p.partition = s.partition AND p.study_instance_uids @> ARRAY[s.study_instance_uid]
    )
"""

_AWAITED = """
    SELECT s.pk, max(p.updated_at) AS since FROM study s JOIN performed_step p
      ON p.settled_at IS NULL AND p.partition = s.partition
      AND p.study_instance_uids @> ARRAY[s.study_instance_uid]
    WHERE s.pk = ANY(:pks) GROUP BY s.pk
"""


@dataclass(frozen=True, slots=True)
class Settled:
    """How many steps were settled, and the studies that wait for no other step now."""

    steps: int
    study_pks: list[int]


def settle_performed(connection: Connection, *, now: datetime) -> Settled:
    """Settle some of the steps whose images are all in the index."""
    rows = connection.execute(sa.text(_SETTLE), {"now": now, "limit": _AT_ONCE}).all()
    named = sorted({(row.partition, uid) for row in rows for uid in row.study_instance_uids})
    if not named:
        return Settled(len(rows), [])
    pks = connection.scalars(
        sa.text(_NOT_WAITED_FOR),
        {"partitions": [each[0] for each in named], "uids": [each[1] for each in named]},
    ).all()
    return Settled(len(rows), list(pks))


def give_up_performed(connection: Connection, *, now: datetime, longest: timedelta) -> int:
    """Settle the steps of which nothing was told, and nothing came, for so long; how many."""
    return connection.execute(sa.text(_GIVE_UP), {"now": now, "before": now - longest}).rowcount


def awaited_since(connection: Connection, study_pks: Sequence[int]) -> dict[int, datetime]:
    """Of those studies that wait for a step, when a step last told something."""
    rows = connection.execute(sa.text(_AWAITED), {"pks": list(study_pks)}).all()
    return {row.pk: row.since for row in rows}

"""How many objects and studies are in which state, without counting a hundred million rows."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.duplicates import ObjectState
from gantry_domain.policies.findings import VerdictKind

# Up to here what is the rule is counted; beyond, PostgreSQL's own estimate is near enough.
_COUNTED = 200_000


def objects_by_state(connection: Connection) -> Counter[ObjectState]:
    """Objects by state: exact but for the primaries of a large archive."""
    rows = connection.execute(
        sa.text(
            "SELECT state, count(*) AS number FROM object WHERE state <> 'primary' GROUP BY state"
        )
    )
    counts = Counter(dict.fromkeys(ObjectState, 0))
    counts.update({ObjectState(row.state): row.number for row in rows})
    counts[ObjectState.PRIMARY] = _rest(connection, "object", "state = 'primary'", counts.total())
    return counts


def studies_by_verdict(connection: Connection) -> Counter[VerdictKind]:
    """Judged studies by verdict: exact but for the accepted ones of a large archive."""
    rows = connection.execute(
        sa.text(
            "SELECT verdict, count(*) AS number FROM study WHERE verdict <> 'accepted'"
            " GROUP BY verdict"
        )
    )
    counts = Counter(dict.fromkeys(VerdictKind, 0))
    counts.update({VerdictKind(row.verdict): row.number for row in rows})
    counts[VerdictKind.ACCEPTED] = _rest(
        connection, "study", "verdict = 'accepted'", counts.total()
    )
    return counts


def held_by_rule(connection: Connection) -> dict[str, tuple[int, datetime]]:
    """How many held studies each rule finds fault with, and when the oldest got its last image."""
    rows = connection.execute(
        sa.text(
            "SELECT f.rule, count(DISTINCT t.pk) AS number, min(t.last_received_at) AS oldest"
            " FROM study t JOIN study_finding f ON f.study_pk = t.pk AND f.severity <> 'info'"
            " WHERE t.verdict = 'held' GROUP BY f.rule"
        )
    )
    return {row.rule: (row.number, row.oldest) for row in rows}


def decisions_by_kind(connection: Connection) -> dict[str, int]:
    """How many decisions of people stand, by kind."""
    rows = connection.execute(
        sa.text(
            "SELECT kind, count(*) AS number FROM decision WHERE undoing_id IS NULL GROUP BY kind"
        )
    )
    return {row.kind: row.number for row in rows}


def instances_of_studies(
    connection: Connection, uids: Sequence[str], *, partition: str
) -> dict[str, int]:
    """How many instances these studies of a partition have; those that are not here are absent."""
    rows = connection.execute(
        sa.text(
            "SELECT study_instance_uid, number_of_study_related_instances AS number FROM study"
            " WHERE partition = :partition AND study_instance_uid = ANY(:uids)"
        ),
        {"partition": partition, "uids": list(uids)},
    )
    return {row.study_instance_uid: row.number for row in rows}


def _rest(connection: Connection, table: str, condition: str, others: int) -> int:
    """How many rows of a table meet the condition that all but `others` meet."""
    estimate = connection.scalar(
        sa.text("SELECT reltuples::bigint FROM pg_class WHERE oid = CAST(:table AS regclass)"),
        {"table": table},
    )
    if estimate is not None and estimate > _COUNTED:
        return max(0, int(estimate) - others)
    return connection.scalar(sa.text(f"SELECT count(*) FROM {table} WHERE {condition}")) or 0  # noqa: S608 - constants

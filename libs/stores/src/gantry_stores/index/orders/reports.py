"""What is passed on of performed steps: each N-CREATE and N-SET waits until it was taken.

    create_, set_performed ──add_reports, one transaction──▶ performed_report ──claim──▶ sender

What is about one step goes to one destination in its order. Who claims a report has it for a while;
a process that dies leaves it to the next.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_stores.index.order_tables import performed_report

_CLAIM = """
    UPDATE performed_report AS r SET claimed_until = :until
    WHERE r.pk = (
        SELECT f.pk FROM performed_report f
        WHERE f.destination = :destination AND f.refused_at IS NULL AND f.due_at <= :now
          AND coalesce(f.claimed_until, f.due_at) <= :now
          AND NOT EXISTS (
              SELECT 1 FROM performed_report e
              WHERE e.destination = f.destination AND e.sop_instance_uid = f.sop_instance_uid
                AND e.refused_at IS NULL AND e.pk < f.pk
          )
        ORDER BY f.pk LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING r.pk, r.sop_instance_uid, r.operation, r.transfer_syntax, r.content, r.attempts,
              r.created_at
"""

# One that another process holds by now is no longer ours.
_OURS = (
    performed_report.c.pk == sa.bindparam("report"),
    performed_report.c.claimed_until == sa.bindparam("claim"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An N-CREATE (`create`) or N-SET (`set`) as the modality sent it."""

    SOPInstanceUID: str
    operation: str
    transfer_syntax: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedReport:
    """A report to be sent now; `attempts` failed before."""

    pk: int
    claimed_until: datetime
    report: Report
    attempts: int
    created_at: datetime


def add_reports(
    connection: Connection, report: Report, destinations: Iterable[str], *, now: datetime
) -> None:
    """Have it passed on to each destination, if the transaction is committed."""
    values = [
        {
            "destination": destination,
            "sop_instance_uid": report.SOPInstanceUID,
            "operation": report.operation,
            "transfer_syntax": report.transfer_syntax,
            "content": report.content,
            "created_at": now,
            "due_at": now,
        }
        for destination in destinations
    ]
    if values:
        connection.execute(sa.insert(performed_report), values)


def claim_report(
    connection: Connection, destination: str, *, now: datetime, lease: timedelta
) -> ClaimedReport | None:
    """The next report that is due for a destination; nobody else gets it during the lease."""
    until = now + lease
    row = connection.execute(
        sa.text(_CLAIM), {"destination": destination, "now": now, "until": until}
    ).one_or_none()
    if row is None:
        return None
    return ClaimedReport(
        pk=row.pk,
        claimed_until=until,
        report=Report(
            SOPInstanceUID=row.sop_instance_uid,
            operation=row.operation,
            transfer_syntax=row.transfer_syntax,
            content=row.content,
        ),
        attempts=row.attempts,
        created_at=row.created_at,
    )


def report_taken(connection: Connection, claimed: ClaimedReport) -> None:
    """The destination has it: it is forgotten."""
    connection.execute(sa.delete(performed_report).where(*_OURS), _claim(claimed))


def put_off_report(
    connection: Connection, claimed: ClaimedReport, reason: str, *, due_at: datetime
) -> None:
    """It failed, and is tried again."""
    statement = (
        sa.update(performed_report)
        .where(*_OURS)
        .values(due_at=due_at, claimed_until=None, attempts=claimed.attempts + 1, reason=reason)
    )
    connection.execute(statement, _claim(claimed))


def give_up_report(
    connection: Connection, claimed: ClaimedReport, reason: str, *, now: datetime
) -> None:
    """It is refused, or was tried for too long: it is kept, and not sent again by itself."""
    statement = (
        sa.update(performed_report)
        .where(*_OURS)
        .values(refused_at=now, claimed_until=None, attempts=claimed.attempts + 1, reason=reason)
    )
    connection.execute(statement, _claim(claimed))


def _claim(claimed: ClaimedReport) -> dict[str, object]:
    return {"report": claimed.pk, "claim": claimed.claimed_until}


@dataclass(frozen=True, slots=True)
class WaitingReports:
    """How many wait for a destination, how many were given up, and a reason of theirs."""

    waiting: int = 0
    given_up: int = 0
    reason: str | None = None


def count_reports(connection: Connection) -> dict[str, WaitingReports]:
    """By destination, of those that have any."""
    refused = performed_report.c.refused_at
    rows = connection.execute(
        sa.select(
            performed_report.c.destination,
            sa.func.count().filter(refused.is_(None)).label("waiting"),
            sa.func.count(refused).label("given_up"),
            sa.func.max(performed_report.c.reason).label("reason"),
        ).group_by(performed_report.c.destination)
    )
    return {row.destination: WaitingReports(row.waiting, row.given_up, row.reason) for row in rows}


def retry_reports(connection: Connection, destination: str | None, *, now: datetime) -> int:
    """Have what was given up sent again, or to one destination alone; how many."""
    statement = (
        sa.update(performed_report)
        .where(performed_report.c.refused_at.is_not(None))
        # It has as long as a new one.
        .values(refused_at=None, due_at=now, created_at=now, attempts=0)
    )
    if destination is not None:
        statement = statement.where(performed_report.c.destination == destination)
    return connection.execute(statement).rowcount

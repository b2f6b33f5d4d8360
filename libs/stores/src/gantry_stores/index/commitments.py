"""Requests of storage commitment: taken down, looked at when due, told.

    take_down ──▶ waiting ──claim_waiting──▶ write_checked ──▶ checked ──claim_report──▶ reported
                    ▲  │ not all is indexed                       ▲  │ nobody hears it
                    └──┘ look_again                               └──┘ write_unheard ──▶ dead

Whoever claims a row moves its `due_at` ahead: if he dies it is due again. Doing something twice
checks or tells twice, no more. All times are those of the database.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.commitment import CommitmentRequest, Reference
from gantry_domain.deliveries import RetryPolicy

# The clocks of two machines may differ by so much.
_CLOCKS = timedelta(seconds=5)

# The same again is answered again, by what is kept now; what is under way goes on.
_TAKE_DOWN = """
    INSERT INTO commitment AS c (partition, calling_ae, called_ae, transaction_uid, digest,
                                 conflicting, referenced, requested_at, due_at)
    VALUES (:partition, :calling_ae, :called_ae, :transaction_uid, :digest,
            false, CAST(:referenced AS jsonb), now(), now())
    ON CONFLICT (calling_ae, transaction_uid) WHERE NOT conflicting
    DO UPDATE SET called_ae = excluded.called_ae, attempts = 0, due_at = now(),
                  requested_at = now(), reason = NULL, caught_up = false,
                  held_until = NULL, failed = NULL, state = 'waiting', checked_at = NULL,
                  reported_at = NULL
    WHERE c.digest = excluded.digest
    RETURNING pk
"""

_CONFLICTING = """
    INSERT INTO commitment (partition, calling_ae, called_ae, transaction_uid, digest,
                            conflicting, referenced, requested_at, due_at)
    VALUES (:partition, :calling_ae, :called_ae, :transaction_uid, :digest,
            true, CAST(:referenced AS jsonb), now(), now())
    RETURNING pk
"""

_CLAIM_WAITING = """
    UPDATE commitment SET due_at = now() + :lease
    WHERE pk = (
        SELECT pk FROM commitment WHERE state = 'waiting' AND due_at <= now()
        ORDER BY due_at, pk FOR UPDATE SKIP LOCKED LIMIT 1
    )
    RETURNING *, now() - requested_at AS age
"""

# One at a time for each partner: who does not answer holds up none but himself.
_CLAIM_REPORT = """
    UPDATE commitment SET due_at = now() + :lease, attempts = attempts + 1
    WHERE pk = (
        SELECT pk FROM commitment WHERE state = 'checked' AND due_at <= now()
          AND (held_until IS NULL OR held_until <= now()) AND NOT calling_ae = ANY(:busy)
        ORDER BY due_at, pk FOR UPDATE SKIP LOCKED LIMIT 1
    )
    RETURNING *, now() - requested_at AS age
"""

_KEPT = """
    SELECT o.sop_instance_uid AS uid, o.id, o.state, o.sop_class_uid, o.size, o.dataset_offset,
           o.sha256, EXISTS (
               SELECT 1 FROM finding f WHERE f.object_id = o.id AND f.rule = ANY(:cut_off)
           ) AS cut_off
    FROM object o WHERE o.partition = :partition AND o.sop_instance_uid = ANY(:uids)
"""


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request that somebody made. `failed` has reasons by SOP Instance UID, once it is checked.

    `age`: since when it waits. `attempts`: to report it, the present one included.
    """

    pk: int
    partition: str
    calling_ae: str
    called_ae: str
    TransactionUID: str
    references: tuple[Reference, ...]
    conflicting: bool
    caught_up: bool
    failed: Mapping[str, int]
    attempts: int
    age: timedelta


@dataclass(frozen=True, slots=True)
class KeptObject:
    """An object under a SOP Instance UID, as the index has it; `cut_off`: its pixels end early."""

    object_id: Any
    state: str
    SOPClassUID: str | None
    size: int
    dataset_offset: int | None
    sha256: bytes | None
    cut_off: bool


def take_down(
    connection: Connection,
    request: CommitmentRequest,
    *,
    partition: str,
    calling_ae: str,
    called_ae: str,
) -> int:
    """Write a request down: the number of its row. What comes again is the same row.

    A Transaction UID that is in use for other instances makes a row that is answered so.
    """
    values = {
        "partition": partition,
        "calling_ae": calling_ae,
        "called_ae": called_ae,
        "transaction_uid": request.TransactionUID,
        "digest": request.digest,
        "referenced": json.dumps(
            [[each.SOPClassUID, each.SOPInstanceUID] for each in request.references]
        ),
    }
    pk = connection.scalar(sa.text(_TAKE_DOWN), values)
    if pk is None:
        pk = connection.scalar(sa.text(_CONFLICTING), values)
    return int(pk or 0)


def note_caught_up(connection: Connection, until: datetime) -> int:
    """Every object whose reception began before `until` has its row; how many requests that
    concerns."""
    return connection.execute(
        sa.text(
            "UPDATE commitment SET caught_up = true, due_at = least(due_at, now())"
            " WHERE state = 'waiting' AND NOT caught_up AND requested_at < :until"
        ),
        {"until": until - _CLOCKS},
    ).rowcount


def claim_waiting(connection: Connection, *, lease: timedelta) -> Commitment | None:
    """A request that is to be checked."""
    row = connection.execute(sa.text(_CLAIM_WAITING), {"lease": lease}).one_or_none()
    return None if row is None else _commitment(row)


def claim_report(
    connection: Connection, *, lease: timedelta, busy: Sequence[str] = ()
) -> Commitment | None:
    """A request whose answer is to be told, to none of the `busy` partners."""
    values = {"lease": lease, "busy": list(busy)}
    row = connection.execute(sa.text(_CLAIM_REPORT), values).one_or_none()
    return None if row is None else _commitment(row)


def hold(connection: Connection, pk: int, *, lease: timedelta) -> Commitment | None:
    """Whoever is connected to the requester keeps the report for himself, and gets it once it is
    there."""
    row = connection.execute(
        sa.text(
            "UPDATE commitment SET held_until = now() + :lease WHERE pk = :pk"
            " RETURNING *, now() - requested_at AS age"
        ),
        {"pk": pk, "lease": lease},
    ).one_or_none()
    return _commitment(row) if row is not None and row.state == "checked" else None


def renew(connection: Connection, pk: int, *, lease: timedelta) -> None:
    """Whoever claimed it is still at it."""
    connection.execute(
        sa.text("UPDATE commitment SET due_at = now() + :lease WHERE pk = :pk"),
        {"pk": pk, "lease": lease},
    )


def look_again(connection: Connection, pk: int, *, after: timedelta) -> None:
    """Not all of it is indexed: look again after this time, or once the index has caught up."""
    connection.execute(
        sa.text(
            "UPDATE commitment SET due_at = now()"
            " + CASE WHEN caught_up THEN interval '0' ELSE CAST(:after AS interval) END"
            " WHERE pk = :pk AND state = 'waiting'"
        ),
        {"pk": pk, "after": after},
    )


def write_checked(connection: Connection, pk: int, failed: Mapping[str, int]) -> None:
    """Everything was looked at: these are not kept, the others are."""
    connection.execute(
        sa.text(
            "UPDATE commitment SET state = 'checked', checked_at = now(), due_at = now(),"
            " failed = CAST(:failed AS jsonb) WHERE pk = :pk AND state = 'waiting'"
        ),
        {"pk": pk, "failed": json.dumps({uid: int(reason) for uid, reason in failed.items()})},
    )


def write_reported(connection: Connection, pk: int) -> None:
    """The requester has heard it."""
    connection.execute(
        sa.text(
            "UPDATE commitment SET state = 'reported', reason = NULL, reported_at = now(),"
            " held_until = NULL WHERE pk = :pk AND state = 'checked'"
        ),
        {"pk": pk},
    )


def write_unheard(
    connection: Connection, pk: int, *, reason: str, policy: RetryPolicy, fraction: float
) -> bool:
    """The requester could not be told: it is tried again, or given up; whether it is dead.

    `fraction`: drawn evenly from 0 to 1, for the jitter.
    """
    row = connection.execute(
        sa.text(
            "SELECT attempts, now() - checked_at AS age FROM commitment"
            " WHERE pk = :pk AND state = 'checked' FOR UPDATE"
        ),
        {"pk": pk},
    ).one_or_none()
    if row is None:
        return False
    dead = bool(row.age >= policy.give_up_after)
    connection.execute(
        sa.text(
            "UPDATE commitment SET state = :state, reason = :reason, held_until = NULL,"
            " due_at = now() + :delay WHERE pk = :pk"
        ),
        {
            "pk": pk,
            "state": "dead" if dead else "checked",
            "reason": reason,
            "delay": policy.delay(max(row.attempts, 1), fraction),
        },
    )
    return dead


def write_dead(connection: Connection, pk: int, *, reason: str) -> None:
    """The requester will not hear it, whenever it is told."""
    connection.execute(
        sa.text("UPDATE commitment SET state = 'dead', reason = :reason WHERE pk = :pk"),
        {"pk": pk, "reason": reason},
    )


def kept_objects(
    connection: Connection, partition: str, uids: Sequence[str], *, cut_off: Sequence[str]
) -> dict[str, list[KeptObject]]:
    """All objects by SOP Instance UID; `cut_off`: the findings that say that pixels are missing."""
    rows = connection.execute(
        sa.text(_KEPT), {"partition": partition, "uids": list(uids), "cut_off": list(cut_off)}
    )
    found: dict[str, list[KeptObject]] = {}
    for row in rows:
        found.setdefault(row.uid, []).append(
            KeptObject(
                row.id,
                row.state,
                row.sop_class_uid,
                row.size,
                row.dataset_offset,
                None if row.sha256 is None else bytes(row.sha256),
                row.cut_off,
            )
        )
    return found


def open_commitments(connection: Connection) -> dict[str, tuple[int, timedelta]]:
    """How many requests are in each state, and how old the oldest of them is."""
    rows = connection.execute(
        sa.text(
            "SELECT state, count(*) AS number, now() - min(requested_at) AS oldest"
            " FROM commitment WHERE state IN ('waiting', 'checked') GROUP BY state"
        )
    )
    return {row.state: (row.number, row.oldest) for row in rows}


def purge_commitments(connection: Connection, before: datetime, *, limit: int = 1000) -> int:
    """Remove what was over before then; how many were."""
    return connection.execute(
        sa.text(
            "DELETE FROM commitment WHERE pk IN (SELECT pk FROM commitment"
            " WHERE state IN ('reported', 'dead') AND requested_at < :before LIMIT :limit)"
        ),
        {"before": before, "limit": limit},
    ).rowcount


def _commitment(row: Any) -> Commitment:
    return Commitment(
        row.pk,
        row.partition,
        row.calling_ae,
        row.called_ae,
        row.transaction_uid,
        tuple(Reference(*each) for each in row.referenced),
        row.conflicting,
        row.caught_up,
        row.failed or {},
        row.attempts,
        row.age,
    )

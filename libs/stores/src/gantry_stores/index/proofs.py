"""Proof of deliveries: destinations are asked whether they keep what was sent, and answer.

    delivered ──▶ due ──claim──▶ asked ──hear──▶ proved
                   ▲              │  └─ some are not kept ──▶ resending ──▶ delivered ──▶ due
                   └── no answer ─┘                                └── too often ──▶ failed

Whoever claims a row moves its `due_at` ahead. All times are those of the database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_SENT = "p.state IN ('accepted', 'warned')"

_ANY_LEFT = f"""
    EXISTS (SELECT 1 FROM delivery_item p
            WHERE p.delivery_pk = :pk AND {_SENT} AND p.proved_at IS NULL)
"""  # noqa: S608 - constants

# What was sent again in vain leaves a proof as it was.
_WANT = f"""
    INSERT INTO proof AS f (delivery_pk, destination, kind, due_at, delivered_at)
    SELECT d.pk, d.destination, :kind, now(), now() FROM delivery d
    WHERE d.pk = :pk AND d.state = 'delivered'
      AND EXISTS (SELECT 1 FROM delivery_item p WHERE p.delivery_pk = d.pk AND {_SENT})
    ON CONFLICT (delivery_pk) DO UPDATE
    SET kind = excluded.kind, state = CASE WHEN {_ANY_LEFT} THEN 'due' ELSE 'proved' END,
        reason = NULL, attempts = 0, due_at = now(), delivered_at = now(),
        proved_at = CASE WHEN {_ANY_LEFT} THEN NULL ELSE coalesce(f.proved_at, now()) END
"""  # noqa: S608 - constants

# One at a time of each destination: who does not answer holds up none but himself.
_CLAIM = """
    UPDATE proof AS f SET due_at = now() + :lease
    FROM delivery d
    WHERE d.pk = f.delivery_pk AND f.delivery_pk = (
        SELECT delivery_pk FROM proof
        WHERE state IN ('due', 'asked') AND due_at <= now() AND NOT destination = ANY(:busy)
        ORDER BY due_at, delivery_pk FOR UPDATE SKIP LOCKED LIMIT 1
    )
    RETURNING f.delivery_pk, f.destination, f.kind, f.state, f.attempts, d.partition,
              d.study_instance_uid, now() - f.delivered_at AS age
"""

_UNPROVED = f"""
    SELECT p.sop_instance_uid, o.sop_class_uid, o.series_instance_uid
    FROM delivery_item p JOIN object o ON o.id = p.object_id
    WHERE p.delivery_pk = :pk AND {_SENT} AND p.proved_at IS NULL
    ORDER BY p.sop_instance_uid
"""  # noqa: S608 - constants

_ARRIVED = f"""
    SELECT p.sop_instance_uid FROM delivery_item p WHERE p.delivery_pk = :pk AND {_SENT}
"""  # noqa: S608 - constants

_KEPT = f"""
    UPDATE delivery_item AS p SET proved_at = now()
    WHERE p.delivery_pk = :pk AND p.sop_instance_uid = ANY(:uids) AND {_SENT}
      AND p.proved_at IS NULL
"""  # noqa: S608 - constants

_LEFT = f"""
    SELECT 1 FROM delivery_item p
    WHERE p.delivery_pk = :pk AND {_SENT} AND p.proved_at IS NULL LIMIT 1
"""  # noqa: S608 - constants

_NOT_KEPT = f"""
    UPDATE delivery_item AS p
    SET state = :state, settled_at = CASE WHEN :state = 'refused' THEN now() END,
        reason = n.reason, proved_at = NULL
    FROM unnest(CAST(:uids AS text[]), CAST(:reasons AS text[])) AS n(uid, reason)
    WHERE p.delivery_pk = :pk AND p.sop_instance_uid = n.uid AND {_SENT}
"""  # noqa: S608 - constants

# Of a push that is asked for anew meanwhile the newer one sends.
_REOPEN = """
    UPDATE delivery AS d
    SET state = 'waiting', reason = NULL, attempts = 0, next_attempt_at = now(),
        unsent_since = now(), delivered_at = NULL
    WHERE d.pk = :pk AND d.state = 'delivered'
      AND (d.origin = 'route' OR NOT EXISTS (
          SELECT 1 FROM delivery o
          WHERE o.origin = d.origin AND o.pk <> d.pk
            AND o.partition = d.partition AND o.destination = d.destination
            AND o.study_instance_uid = d.study_instance_uid
            AND coalesce(o.series_instance_uid, '') = coalesce(d.series_instance_uid, '')
            AND coalesce(o.sop_instance_uid, '') = coalesce(d.sop_instance_uid, '')
            AND o.state IN ('waiting', 'sending', 'failed')
      ))
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """A delivery whose destination is to be asked. `attempts`: how often that was in vain; `age`:
    since it was delivered."""

    delivery_pk: int
    destination: str
    kind: str
    partition: str
    StudyInstanceUID: str
    attempts: int
    age: timedelta


@dataclass(frozen=True, slots=True)
class Unproved:
    """An instance that has arrived and is not known to be kept."""

    SOPClassUID: str
    SOPInstanceUID: str
    SeriesInstanceUID: str


def want_proof(connection: Connection, delivery_pk: int, *, kind: str) -> None:
    """The delivery, if it is delivered, is to be proved from now on."""
    connection.execute(sa.text(_WANT), {"pk": delivery_pk, "kind": kind})


def claim_proof(
    connection: Connection, *, lease: timedelta, busy: Sequence[str] = ()
) -> Proof | None:
    """What is due: to be asked for the first time, or again because no answer came."""
    row = connection.execute(sa.text(_CLAIM), {"lease": lease, "busy": list(busy)}).one_or_none()
    if row is None:
        return None
    return Proof(
        row.delivery_pk,
        row.destination,
        row.kind,
        row.partition,
        row.study_instance_uid,
        row.attempts,
        row.age,
    )


def unproved(connection: Connection, delivery_pk: int) -> list[Unproved]:
    """What has arrived and is not proved."""
    rows = connection.execute(sa.text(_UNPROVED), {"pk": delivery_pk})
    return [
        Unproved(row.sop_class_uid, row.sop_instance_uid, row.series_instance_uid) for row in rows
    ]


def sent_instances(connection: Connection, delivery_pk: int) -> list[str]:
    """Those of a delivery that have arrived."""
    return list(connection.scalars(sa.text(_ARRIVED), {"pk": delivery_pk}))


def note_request(connection: Connection, delivery_pk: int, TransactionUID: str) -> None:
    """Before a destination is asked: its report may be faster than its answer."""
    connection.execute(
        sa.text(
            "INSERT INTO proof_request (transaction_uid, delivery_pk, asked_at)"
            " VALUES (:uid, :pk, now())"
        ),
        {"uid": TransactionUID, "pk": delivery_pk},
    )


def write_asked(connection: Connection, delivery_pk: int, *, answer_within: timedelta) -> None:
    """It was asked; without an answer it is due again after this time."""
    connection.execute(
        sa.text(
            "UPDATE proof SET state = 'asked', attempts = attempts + 1, due_at = now() + :within"
            " WHERE delivery_pk = :pk AND state IN ('due', 'asked')"
        ),
        {"pk": delivery_pk, "within": answer_within},
    )


def put_off(connection: Connection, delivery_pk: int, *, after: timedelta) -> None:
    """It could not be asked, or its answer is none yet: it is due again after this time."""
    connection.execute(
        sa.text(
            "UPDATE proof SET due_at = now() + :after"
            " WHERE delivery_pk = :pk AND state IN ('due', 'asked')"
        ),
        {"pk": delivery_pk, "after": after},
    )


def write_failed(connection: Connection, delivery_pk: int, *, reason: str) -> None:
    """Nobody will prove it."""
    connection.execute(
        sa.text(
            "UPDATE proof SET state = 'failed', reason = :reason"
            " WHERE delivery_pk = :pk AND state IN ('due', 'asked')"
        ),
        {"pk": delivery_pk, "reason": reason},
    )


def delivery_asked(connection: Connection, TransactionUID: str, destination: str) -> int | None:
    """The delivery of which a destination reports; None where it was never asked so."""
    found: int | None = connection.scalar(
        sa.text(
            "SELECT q.delivery_pk FROM proof_request q JOIN proof f USING (delivery_pk)"
            " WHERE q.transaction_uid = :uid AND lower(f.destination) = lower(:destination)"
        ),
        {"uid": TransactionUID, "destination": destination},
    )
    return found


def hear(
    connection: Connection,
    delivery_pk: int,
    *,
    kept: Sequence[str],
    not_kept: Mapping[str, str],
    resends: int,
) -> str:
    """A destination says what of a delivery it keeps: the state of the proof after that.

    What it does not keep, each with a reason, is sent again, at most `resends` times; then it
    counts as refused, and the delivery is dead.
    """
    row: Any = connection.execute(
        sa.text(
            "SELECT f.state, f.resent, d.state AS delivery FROM proof f"
            " JOIN delivery d ON d.pk = f.delivery_pk WHERE f.delivery_pk = :pk FOR UPDATE"
        ),
        {"pk": delivery_pk},
    ).one()
    connection.execute(sa.text(_KEPT), {"pk": delivery_pk, "uids": list(kept)})
    again = row.resent < resends
    lost = 0
    if not_kept:
        lost = connection.execute(
            sa.text(_NOT_KEPT),
            {
                "pk": delivery_pk,
                "state": "failed" if again else "refused",
                "uids": list(not_kept),
                "reasons": list(not_kept.values()),
            },
        ).rowcount
    if lost:
        return (
            _send_again(connection, delivery_pk, lost)
            if again
            else _give_up(connection, delivery_pk, lost)
        )
    left = connection.scalar(sa.text(_LEFT), {"pk": delivery_pk})
    if left or row.delivery != "delivered":
        return str(row.state)
    connection.execute(
        sa.text(
            "UPDATE proof SET state = 'proved', reason = NULL, proved_at = now()"
            " WHERE delivery_pk = :pk"
        ),
        {"pk": delivery_pk},
    )
    return "proved"


def _send_again(connection: Connection, delivery_pk: int, lost: int) -> str:
    connection.execute(sa.text(_REOPEN), {"pk": delivery_pk})
    connection.execute(
        sa.text(
            "UPDATE proof SET state = 'resending', resent = resent + 1, reason = :reason"
            " WHERE delivery_pk = :pk"
        ),
        {"pk": delivery_pk, "reason": f"{lost} were not kept and are sent again"},
    )
    return "resending"


def _give_up(connection: Connection, delivery_pk: int, lost: int) -> str:
    reason = f"{lost} were not kept, sent again or not"
    connection.execute(
        sa.text("UPDATE proof SET state = 'failed', reason = :reason WHERE delivery_pk = :pk"),
        {"pk": delivery_pk, "reason": reason},
    )
    connection.execute(
        sa.text(
            "UPDATE delivery SET state = 'dead', reason = :reason, delivered_at = NULL"
            " WHERE pk = :pk AND state = 'delivered'"
        ),
        {"pk": delivery_pk, "reason": reason},
    )
    return "failed"


def unproved_deliveries(connection: Connection) -> dict[tuple[str, str], int]:
    """How many deliveries are not proved, by destination and state of their proof."""
    rows = connection.execute(
        sa.text(
            "SELECT destination, state, count(*) AS number FROM proof"
            " WHERE state <> 'proved' GROUP BY destination, state"
        )
    )
    return {(row.destination, row.state): row.number for row in rows}

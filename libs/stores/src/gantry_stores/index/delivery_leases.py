"""Deliveries while they are sent: claimed by a lease with a fence, settled item by item.

    claim ──▶ pending ──▶ record, record, ... ──▶ finish
                  ▲ renew, every now and then │
                  └───────────────────────────┘

A lease that is not renewed runs out, and whoever claims the delivery next goes on with what is not
settled. Each claim increments the fence; what was sent under an older one is not written any more.
All times are those of the database.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.class_refusals import NOT_OF_IMAGES
from gantry_domain.deliveries import (
    DeliveryState,
    ItemState,
    RetryPolicy,
    Settlement,
    settle,
)
from gantry_domain.errors import TransientError
from gantry_domain.events import EventKind, Happening
from gantry_domain.statuses import SOP_CLASS_NOT_SUPPORTED
from gantry_stores.index.corrections import corrections_column, read_corrections
from gantry_stores.index.events import note
from gantry_stores.index.recordsets import rows_parameter
from gantry_stores.index.stored_object import StoredObject

# Held studies stay where they are; a study that has gone is claimed, to say so of its items. That
# one is refused is told all the same.
_MAY_LEAVE = """
    (d.origin = 'rejection' OR NOT EXISTS (
        SELECT 1 FROM study t
        WHERE t.partition = d.partition AND t.study_instance_uid = d.study_instance_uid
          AND t.verdict IS DISTINCT FROM 'accepted'
    ))
"""

# Neither paused by a person nor left alone because nobody answers.
_LANE_IS_FREE = """
    NOT EXISTS (
        SELECT 1 FROM lane l WHERE l.destination = d.destination
          AND (l.paused_at IS NOT NULL OR l.opened_at IS NOT NULL)
    )
"""

_DUE = f"""
    (d.state IN ('waiting', 'failed') AND d.next_attempt_at <= now()
     OR d.state = 'sending' AND d.lease_until <= now())
    AND {_MAY_LEAVE}
"""

_SENDABLE = f"""
    {_DUE} AND {_LANE_IS_FREE} AND (d.origin = 'push' OR NOT d.destination = ANY(:only_pushed))
"""

_DUE_FOR = f"""
    SELECT k.destination FROM unnest(CAST(:destinations AS text[])) AS k(destination)
    WHERE EXISTS (SELECT 1 FROM delivery d WHERE d.destination = k.destination AND {_SENDABLE})
"""  # noqa: S608 - constants

_POSTPONE = f"""
    UPDATE delivery AS d
    SET attempts = attempts + 1, fence = fence + 1, reason = :reason,
        lease_owner = NULL, lease_until = NULL, next_attempt_at = now() + :delay,
        state = CASE WHEN now() - unsent_since >= :give_up THEN 'dead' ELSE 'failed' END
    WHERE {_DUE} AND NOT d.destination = ANY(:known)
"""  # noqa: S608 - constants

_CLAIM = f"""
    UPDATE delivery
    SET state = 'sending', lease_owner = :owner, lease_until = now() + :lease, fence = fence + 1
    WHERE pk = (
        SELECT d.pk FROM delivery d WHERE d.destination = :destination AND {_SENDABLE}
        ORDER BY d.priority DESC, d.next_attempt_at, d.pk FOR UPDATE SKIP LOCKED LIMIT 1
    )
    RETURNING pk, fence, partition, destination, study_instance_uid, completed_at, attempts
"""  # noqa: S608 - constants

_PENDING = f"""
    SELECT p.sop_instance_uid, o.id, o.sop_class_uid, o.transfer_syntax_uid, o.dataset_offset,
           o.size, p.attempts, {corrections_column("t", "o.id")} AS corrections
    FROM delivery_item p
    LEFT JOIN instance i ON i.partition = :partition AND i.sop_instance_uid = p.sop_instance_uid
    LEFT JOIN object o ON o.id = i.object_id
    LEFT JOIN study t ON t.partition = o.partition AND t.study_instance_uid = o.study_instance_uid
    WHERE p.delivery_pk = :pk AND p.state IN ('waiting', 'failed')
    ORDER BY p.attempts, p.object_id LIMIT :limit
"""  # noqa: S608 - constants

# If the database itself dies in the next half second the item is sent again, no more.
_RECORD = """
    WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
    UPDATE delivery_item AS p
    SET state = r.state, status = r.status, reason = r.reason, attempts = p.attempts + 1,
        object_id = coalesce(r.object_id, p.object_id),
        settled_at = CASE WHEN r.settled THEN now() END
    FROM delivery d, quick, jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
        uid text, state text, status integer, reason text, object_id uuid, settled boolean)
    WHERE d.pk = :pk AND d.fence = :fence AND d.state = 'sending'
      AND p.delivery_pk = d.pk AND p.sop_instance_uid = r.uid
"""

# Of what is refused for its class, that class; a note is waited for whatever its class is.
_COUNTS = """
    SELECT state, refused_class, count(*) AS number FROM (
        SELECT p.state, CASE WHEN p.state = 'refused' AND p.status = :not_supported THEN (
                   SELECT o.sop_class_uid FROM object o WHERE o.id = p.object_id
               ) END AS refused_class
        FROM delivery_item p WHERE p.delivery_pk = :pk
        UNION ALL
        SELECT state, NULL FROM rejection_note WHERE delivery_pk = :pk
    ) AS sent
    GROUP BY state, refused_class
"""

_FINISH = """
    UPDATE delivery
    SET state = :state, reason = :reason, attempts = :attempts,
        next_attempt_at = now() + :retry_after, lease_owner = NULL, lease_until = NULL,
        delivered_at = CASE WHEN :delivered THEN now() END
    WHERE pk = :pk
"""


class LeaseLost(TransientError):
    """The delivery was cancelled, or another lane holds it: nothing more is written of it."""

    def __init__(self, pk: int) -> None:
        super().__init__(f"delivery {pk} is no longer held by this lane")


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process may send until its lease ends."""

    pk: int
    fence: int
    partition: str
    destination: str
    StudyInstanceUID: str
    completed_at: datetime | None
    attempts: int


@dataclass(frozen=True, slots=True)
class PendingItem:
    """An instance that is to be sent; `stored` is None if it is no longer in the archive."""

    SOPInstanceUID: str
    stored: StoredObject | None
    attempts: int


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of an item: its state, the status of the answer (None: there was none; 0122 also
    where the class was not accepted with the association), why."""

    state: ItemState
    status: int | None = None
    reason: str | None = None
    object_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What a delivery became, and how long after the completion of its study (delivered ones)."""

    settlement: Settlement
    lag: timedelta | None


def due_destinations(
    connection: Connection, destinations: Iterable[str], *, only_pushed: Iterable[str] = ()
) -> set[str]:
    """Those of the destinations that something is due for; for `only_pushed`, by a person."""
    values = {"destinations": sorted(destinations), "only_pushed": sorted(only_pushed)}
    return set(connection.scalars(sa.text(_DUE_FOR), values))


def claim(
    connection: Connection,
    *,
    destination: str,
    owner: str,
    lease: timedelta,
    concurrency: int,
    only_pushed: bool = False,
) -> Claim | None:
    """Claim the most urgent due delivery to a destination, if fewer than `concurrency` are on
    their way there from any process; with `only_pushed` one that a person asked for."""
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended('gantry.lane:' || :lane, 0))"),
        {"lane": destination},
    )
    sending = connection.scalar(
        sa.text(
            "SELECT count(*) FROM delivery WHERE destination = :destination"
            " AND state = 'sending' AND lease_until > now()"
        ),
        {"destination": destination},
    )
    if (sending or 0) >= concurrency:
        return None
    row = connection.execute(
        sa.text(_CLAIM),
        {
            "destination": destination,
            "owner": owner,
            "lease": lease,
            "only_pushed": [destination] if only_pushed else [],
        },
    ).one_or_none()
    if row is None:
        return None
    return Claim(
        row.pk,
        row.fence,
        row.partition,
        row.destination,
        row.study_instance_uid,
        row.completed_at,
        row.attempts,
    )


def pending_items(connection: Connection, claimed: Claim, *, limit: int) -> list[PendingItem]:
    """At most `limit` unsettled items: those tried least first, in the order of reception."""
    rows = connection.execute(
        sa.text(_PENDING),
        {"pk": claimed.pk, "partition": claimed.partition, "limit": limit},
    )
    return [
        PendingItem(
            row.sop_instance_uid,
            None
            if row.id is None
            else StoredObject(
                row.id,
                row.sop_class_uid,
                row.transfer_syntax_uid,
                row.dataset_offset,
                row.size,
                read_corrections(row.corrections),
            ),
            row.attempts,
        )
        for row in rows
    ]


def record(
    connection: Connection, claimed: Claim, SOPInstanceUID: str, outcome: ItemOutcome
) -> None:
    """Write what became of an item. Raises `LeaseLost`."""
    record_all(connection, claimed, [(SOPInstanceUID, outcome)])


def record_all(
    connection: Connection, claimed: Claim, outcomes: Sequence[tuple[str, ItemOutcome]]
) -> None:
    """Write what became of some items, in one statement. Raises `LeaseLost`."""
    rows = [
        {
            "uid": uid,
            "state": outcome.state.value,
            "status": outcome.status,
            "reason": outcome.reason,
            "object_id": outcome.object_id,
            "settled": outcome.state.settled,
        }
        for uid, outcome in outcomes
    ]
    written = connection.execute(
        sa.text(_RECORD),
        {"pk": claimed.pk, "fence": claimed.fence, "rows": rows_parameter(rows)},
    )
    if written.rowcount < len(rows):
        raise LeaseLost(claimed.pk)


def renew(connection: Connection, *, owner: str, lease: timedelta) -> dict[int, int]:
    """Extend all leases of a process, those that have run out but were not claimed included.

    :returns: the fence of each delivery that it still holds.
    """
    connection.execute(
        sa.text(
            "UPDATE delivery SET lease_until = now() + :lease WHERE lease_owner = :owner"
            " AND state = 'sending' AND lease_until < now() + CAST(:lease AS interval) * 0.7"
        ),
        {"owner": owner, "lease": lease},
    )
    rows = connection.execute(
        sa.text("SELECT pk, fence FROM delivery WHERE lease_owner = :owner AND state = 'sending'"),
        {"owner": owner},
    )
    return {row.pk: row.fence for row in rows}


def finish(
    connection: Connection,
    claimed: Claim,
    *,
    failure: str | None,
    progress: bool,
    policy: RetryPolicy,
    fraction: float,
) -> Finished:
    """End a round: what the delivery becomes follows from its items. Raises `LeaseLost`.

    :param failure: why items are left; None if we ended the round ourselves.
    :param progress: whether items were settled in it, which begins the back-off anew.
    :param fraction: drawn evenly from 0 to 1, for the jitter.
    """
    row = connection.execute(
        sa.text(
            "SELECT *, now() - unsent_since AS unsent_for, now() - completed_at AS lag"
            " FROM delivery WHERE pk = :pk AND fence = :fence AND state = 'sending' FOR UPDATE"
        ),
        {"pk": claimed.pk, "fence": claimed.fence},
    ).one_or_none()
    if row is None:
        raise LeaseLost(claimed.pk)
    counts = connection.execute(
        sa.text(_COUNTS), {"pk": claimed.pk, "not_supported": SOP_CLASS_NOT_SUPPORTED.code}
    ).all()
    items: Counter[ItemState] = Counter()
    not_taken = 0
    for count in counts:
        items[ItemState(count.state)] += count.number
        not_taken += count.number if count.refused_class in NOT_OF_IMAGES else 0
    attempts = (0 if progress else row.attempts) + (failure is not None)
    settlement = settle(
        items,
        not_taken=not_taken,
        failure=failure,
        attempt=max(attempts, 1),
        unsent_for=row.unsent_for,
        policy=policy,
        fraction=fraction,
    )
    delivered = settlement.state is DeliveryState.DELIVERED
    connection.execute(
        sa.text(_FINISH),
        {
            "pk": claimed.pk,
            "state": settlement.state.value,
            "reason": settlement.reason,
            "attempts": attempts,
            "retry_after": settlement.retry_after or timedelta(),
            "delivered": delivered,
        },
    )
    if delivered:
        happening = Happening(
            kind=EventKind.DELIVERED,
            partition=row.partition,
            StudyInstanceUID=row.study_instance_uid,
            SeriesInstanceUID=row.series_instance_uid,
            SOPInstanceUID=row.sop_instance_uid,
            destination=row.destination,
        )
        note(connection, [happening])
    return Finished(settlement, row.lag if delivered else None)


def postpone_unknown(
    connection: Connection, *, known: Iterable[str], policy: RetryPolicy, reason: str
) -> int:
    """Deliveries that are due for destinations that nobody knows: they fail, for now at first."""
    return connection.execute(
        sa.text(_POSTPONE),
        {
            "known": sorted(known),
            "reason": reason,
            "delay": policy.ceiling,
            "give_up": policy.give_up_after,
        },
    ).rowcount

"""Deliveries as people see and steer them: listed, counted, tried again, cancelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.deliveries import DeliveryLevel, DeliveryState, ItemState

_LIST = """
    SELECT d.*, f.state AS proof, f.reason AS proof_reason, counts.*
    FROM delivery d LEFT JOIN proof f ON f.delivery_pk = d.pk,
    LATERAL (
        SELECT count(*) AS items,
               count(*) FILTER (WHERE p.state IN ('accepted', 'warned')) AS sent,
               count(*) FILTER (WHERE p.state = 'warned') AS warned,
               count(*) FILTER (WHERE p.state = 'refused') AS refused,
               min(p.reason) FILTER (WHERE p.state = 'refused') AS refusal,
               count(*) FILTER (WHERE p.state = 'withheld') AS withheld
        FROM delivery_item p WHERE p.delivery_pk = d.pk
    ) AS counts
    WHERE {conditions}
    ORDER BY d.pk DESC LIMIT :limit
"""

# Delivered but for what is refused for its class.
_REFUSING = """
    d.state = 'delivered' AND EXISTS (
        SELECT 1 FROM delivery_item p WHERE p.delivery_pk = d.pk AND p.state = 'refused'
    )
"""

# Of several pushes of the same thing, or corrections, the newest alone is tried again, and only if
# none is open.
_RETRY = """
    UPDATE delivery AS d
    SET state = 'waiting', reason = NULL, attempts = 0, next_attempt_at = now(),
        unsent_since = now(), delivered_at = NULL
    WHERE {conditions} AND (d.state IN ('failed', 'dead', 'cancelled') OR :delivered AND {refusing})
      AND NOT (d.origin = 'rejection' AND d.state = 'cancelled')
      AND (d.origin = 'route' OR d.state = 'failed' OR NOT EXISTS (
          SELECT 1 FROM delivery o
          WHERE o.origin = d.origin
            AND o.partition = d.partition AND o.destination = d.destination
            AND o.study_instance_uid = d.study_instance_uid
            AND coalesce(o.series_instance_uid, '') = coalesce(d.series_instance_uid, '')
            AND coalesce(o.sop_instance_uid, '') = coalesce(d.sop_instance_uid, '')
            AND (o.state IN ('waiting', 'sending', 'failed') OR o.pk > d.pk)
      ))
    RETURNING d.pk
"""

_CANCEL = """
    UPDATE delivery AS d
    SET state = 'cancelled', reason = 'cancelled', fence = fence + 1,
        lease_owner = NULL, lease_until = NULL
    WHERE d.state IN ('waiting', 'sending', 'failed') AND {conditions}
    RETURNING d.pk
"""


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """One delivery with the counts of its items; `sent` have arrived, the warned ones included."""

    pk: int
    partition: str
    destination: str
    level: DeliveryLevel
    uid: str
    """Of what is sent: a study, a series or an instance."""
    origin: str
    state: DeliveryState
    reason: str | None
    attempts: int
    next_attempt_at: datetime
    created_at: datetime
    delivered_at: datetime | None
    items: int
    sent: int
    warned: int
    refused: int
    refusal: str | None
    """One reason of those for which items were refused."""
    withheld: int
    """So many may not go there (`deidentify`)."""
    proof: str | None = None
    """Whether its destination keeps it: `due`, `asked`, `resending`, `proved`, `failed`; None: it
    is not asked."""
    proof_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ItemLine:
    """One item of a delivery: its state, the status of the last answer, why."""

    SOPInstanceUID: str
    state: ItemState
    status: int | None
    reason: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deliveries to one destination in one state, since when the oldest waits, and how many of
    them are open for longer than they should be."""

    destination: str
    state: DeliveryState
    number: int
    oldest: datetime
    late: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries are meant; what is None does not matter."""

    pks: Sequence[int] | None = None
    states: Sequence[DeliveryState] | None = None
    destination: str | None = None
    partition: str | None = None

    def names(self, state: DeliveryState) -> bool:
        """Whether deliveries in this state are meant by number or by their state."""
        return self.pks is not None or (self.states is not None and state in self.states)

    def conditions(self) -> tuple[str, dict[str, object]]:
        """SQL over the alias `d`, and its parameters."""
        parts, parameters = ["TRUE"], dict[str, object]()
        if self.pks is not None:
            parts.append("d.pk = ANY(:pks)")
            parameters["pks"] = list(self.pks)
        if self.states is not None:
            parts.append("d.state = ANY(:states)")
            parameters["states"] = [state.value for state in self.states]
        if self.destination is not None:
            parts.append("d.destination = :destination")
            parameters["destination"] = self.destination
        if self.partition is not None:
            parts.append("d.partition = :partition")
            parameters["partition"] = self.partition
        return " AND ".join(parts), parameters


def list_deliveries(
    connection: Connection, selection: Selection, *, limit: int, before: int | None = None
) -> list[DeliveryLine]:
    """At most `limit` deliveries, the newest first; `before` continues below that number."""
    conditions, parameters = selection.conditions()
    if before is not None:
        conditions += " AND d.pk < :before"
        parameters["before"] = before
    rows = connection.execute(
        sa.text(_LIST.format(conditions=conditions)), {**parameters, "limit": limit}
    )
    return [
        DeliveryLine(
            pk=row.pk,
            partition=row.partition,
            destination=row.destination,
            level=DeliveryLevel(row.level),
            uid=row.sop_instance_uid or row.series_instance_uid or row.study_instance_uid,
            origin=row.origin,
            state=DeliveryState(row.state),
            reason=row.reason,
            attempts=row.attempts,
            next_attempt_at=row.next_attempt_at,
            created_at=row.created_at,
            delivered_at=row.delivered_at,
            items=row.items,
            sent=row.sent,
            warned=row.warned,
            refused=row.refused,
            refusal=row.refusal,
            withheld=row.withheld,
            proof=row.proof,
            proof_reason=row.proof_reason,
        )
        for row in rows
    ]


def list_items(
    connection: Connection, pk: int, *, states: Sequence[ItemState], limit: int
) -> list[ItemLine]:
    """At most `limit` items of a delivery that are in one of the states."""
    rows = connection.execute(
        sa.text(
            "SELECT sop_instance_uid, state, status, reason, attempts FROM delivery_item"
            " WHERE delivery_pk = :pk AND state = ANY(:states)"
            " ORDER BY sop_instance_uid LIMIT :limit"
        ),
        {"pk": pk, "states": [state.value for state in states], "limit": limit},
    )
    return [
        ItemLine(row.sop_instance_uid, ItemState(row.state), row.status, row.reason, row.attempts)
        for row in rows
    ]


def retry(connection: Connection, selection: Selection) -> list[int]:
    """Make failed, dead and cancelled deliveries due now, what was refused included; and, of those
    that are named by number or as delivered, what was refused for its class.

    :returns: the numbers of those that were; one that is pushed again meanwhile is left alone.
    """
    conditions, parameters = selection.conditions()
    parameters["delivered"] = selection.names(DeliveryState.DELIVERED)
    statement = _RETRY.format(conditions=conditions, refusing=_REFUSING)
    pks = connection.scalars(sa.text(statement), parameters).all()
    connection.execute(
        sa.text(
            "UPDATE delivery_item SET state = 'waiting', settled_at = NULL"
            " WHERE delivery_pk = ANY(:pks) AND state IN ('refused', 'withheld', 'failed')"
        ),
        {"pks": list(pks)},
    )
    connection.execute(
        sa.text(
            "UPDATE rejection_note SET state = 'waiting', settled_at = NULL"
            " WHERE delivery_pk = ANY(:pks) AND state IN ('refused', 'failed')"
        ),
        {"pks": list(pks)},
    )
    return sorted(pks)


def cancel(connection: Connection, selection: Selection) -> list[int]:
    """Cancel deliveries that are open: a lane that is sending one hears of it within a second.

    :returns: the numbers of those that were.
    """
    conditions, parameters = selection.conditions()
    pks = connection.scalars(sa.text(_CANCEL.format(conditions=conditions)), parameters)
    return sorted(pks)


def backlog(connection: Connection, *, late_after: timedelta) -> list[Backlog]:
    """What is not delivered, by destination and state; late is what is open for `late_after`."""
    rows = connection.execute(
        sa.text(
            "SELECT destination, state, count(*) AS number, min(unsent_since) AS oldest,"
            " count(*) FILTER (WHERE state IN ('waiting', 'sending', 'failed')"
            " AND unsent_since < now() - CAST(:late_after AS interval)) AS late"
            " FROM delivery WHERE state <> 'delivered' GROUP BY destination, state"
            " ORDER BY destination, state"
        ),
        {"late_after": late_after},
    )
    return [
        Backlog(row.destination, DeliveryState(row.state), row.number, row.oldest, row.late)
        for row in rows
    ]

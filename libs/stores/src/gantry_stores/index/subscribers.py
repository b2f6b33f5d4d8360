"""Those who are told of events: each has its place in the feed, and one process at a time tells it.

    feed ──claim──▶ told one after the other ──move_on──▶ ...
                       │ not taken                          ▲ taken, or refused for good
                       └──set_aside──▶ subscriber_event ────┘ due again, those of a study in order

A turn is held by a lease and a fence: whoever lost it cannot write any more. All times are those of
the database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.errors import TransientError
from gantry_domain.events import Event
from gantry_stores.index.event_rows import event_of

_ADD = """
    INSERT INTO subscriber (name, position, due_at)
    SELECT n.name, f.last_id, now() FROM unnest(CAST(:names AS text[])) AS n(name), event_feed f
    ON CONFLICT (name) DO NOTHING
"""

_WAITING = """
    FROM subscriber_event e WHERE e.subscriber = s.name AND e.refused_at IS NULL
"""

_CLAIM = f"""
    UPDATE subscriber s SET claimed_until = now() + :lease, fence = s.fence + 1
    FROM event_feed f
    WHERE s.name = :name AND s.paused_at IS NULL AND s.due_at <= now()
      AND coalesce(s.claimed_until, '-infinity') <= now()
      AND (s.position < f.last_id OR EXISTS (SELECT 1 {_WAITING} AND e.due_at <= now()))
    RETURNING s.position, s.fence, s.failures, f.last_id, f.removed_until,
              (SELECT count(*) {_WAITING}) AS aside
"""  # noqa: S608 - constants

# Of each study the first alone: the others wait for it.
_ASIDE = """
    SELECT e.*, a.attempts, now() - a.since AS age
    FROM subscriber_event a JOIN event e ON e.id = a.event_id
    WHERE a.subscriber = :name AND a.refused_at IS NULL AND a.due_at <= now()
      AND NOT EXISTS (
          SELECT 1 FROM subscriber_event b
          WHERE b.subscriber = a.subscriber AND b.refused_at IS NULL AND b.partition = a.partition
            AND b.study_instance_uid = a.study_instance_uid AND b.event_id < a.event_id)
    ORDER BY a.event_id LIMIT :limit
"""

# The feed keeps events for a while; without them there is nothing to tell.
_FORGET = """
    DELETE FROM subscriber_event a
    WHERE a.subscriber = :name AND NOT EXISTS (SELECT 1 FROM event e WHERE e.id = a.event_id)
    RETURNING a.refused_at IS NULL AS open
"""

_SET_ASIDE = """
    INSERT INTO subscriber_event
        (subscriber, event_id, partition, study_instance_uid, attempts, reason, since, due_at,
         refused_at)
    VALUES (:name, :event, :partition, :study, :attempts, :reason, now(), now() + :delay,
            CASE WHEN :refused THEN now() END)
    ON CONFLICT (subscriber, event_id) DO UPDATE
    SET attempts = excluded.attempts, reason = excluded.reason, due_at = excluded.due_at,
        refused_at = excluded.refused_at
"""

_RENEW = """
    UPDATE subscriber
    SET claimed_until = now() + :lease, position = greatest(position, :position),
        failures = CASE WHEN :told THEN 0 ELSE failures END,
        reason = CASE WHEN :told THEN NULL ELSE reason END,
        told_at = CASE WHEN :told THEN now() ELSE told_at END
    WHERE name = :name AND fence = :fence
"""

_REPLAY = """
    UPDATE subscriber
    SET position = :after, fence = fence + 1, claimed_until = NULL, due_at = now(), failures = 0,
        reason = NULL
    WHERE name = :name
"""

_LIST = f"""
    SELECT s.*, f.last_id,
           (SELECT count(*) {_WAITING}) AS aside,
           (SELECT count(*) FROM subscriber_event e
            WHERE e.subscriber = s.name AND e.refused_at IS NOT NULL) AS refused,
           (SELECT max(e.reason) FROM subscriber_event e
            WHERE e.subscriber = s.name AND e.reason IS NOT NULL) AS aside_reason,
           least((SELECT min(e.since) {_WAITING}),
                 (SELECT e.at FROM event e WHERE e.id > s.position ORDER BY e.id LIMIT 1)) AS behind
    FROM subscriber s, event_feed f WHERE s.name = ANY(:names) ORDER BY s.name
"""  # noqa: S608 - constants


class TurnLost(TransientError):
    """Somebody else tells this subscriber by now, or it was paused."""

    def __init__(self) -> None:
        super().__init__("somebody else tells this subscriber by now, or it was paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The right to tell a subscriber, for a while.

    `last`: up to which number there are events; `removed_until`: up to which some are gone;
    `aside`: how many stand aside; `failures`: attempts in a row that found nobody.
    """

    name: str
    fence: int
    lease: timedelta
    position: int
    last: int
    removed_until: int
    failures: int
    aside: int


@dataclass(frozen=True, slots=True)
class AsideEvent:
    """An event that was not taken so often, first so long ago."""

    event: Event
    attempts: int
    age: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberLine:
    """How a subscriber stands. `behind`: the moment of the oldest event that it may not have."""

    name: str
    position: int
    last: int
    paused_at: datetime | None
    failures: int
    due_at: datetime
    told_at: datetime | None
    behind: datetime | None
    aside: int
    refused: int
    reason: str | None


def add_subscribers(connection: Connection, names: Iterable[str]) -> None:
    """Those that are new are told of what happens from now on."""
    connection.execute(sa.text(_ADD), {"names": sorted(names)})


def claim_turn(connection: Connection, name: str, *, lease: timedelta) -> Turn | None:
    """The right to tell a subscriber, if there is something to tell and nobody else does."""
    row = connection.execute(sa.text(_CLAIM), {"name": name, "lease": lease}).one_or_none()
    if row is None:
        return None
    return Turn(
        name=name,
        fence=row.fence,
        lease=lease,
        position=row.position,
        last=row.last_id,
        removed_until=row.removed_until,
        failures=row.failures,
        aside=row.aside,
    )


def due_aside(connection: Connection, turn: Turn, *, limit: int) -> list[AsideEvent]:
    """What stands aside and is due, the first of each study alone."""
    found = connection.execute(sa.text(_ASIDE), {"name": turn.name, "limit": limit})
    return [AsideEvent(event_of(row), row.attempts, row.age) for row in found]


def forget_gone(connection: Connection, turn: Turn) -> int:
    """Forget what stands aside and is no longer in the feed; how much of it was not given up."""
    return sum(connection.scalars(sa.text(_FORGET), {"name": turn.name}))


def studies_aside(connection: Connection, turn: Turn, events: Sequence[Event]) -> set[str]:
    """The studies of these events, all of one partition, of which something stands aside."""
    return set(
        connection.scalars(
            sa.text(
                "SELECT study_instance_uid FROM subscriber_event"
                " WHERE subscriber = :name AND refused_at IS NULL AND partition = :partition"
                " AND study_instance_uid = ANY(:studies)"
            ),
            {
                "name": turn.name,
                "partition": events[0].happening.partition if events else "",
                "studies": sorted({event.happening.StudyInstanceUID for event in events}),
            },
        )
    )


def move_on(connection: Connection, turn: Turn, position: int, *, told: bool) -> None:
    """All up to this number is settled; `told`: somebody is there. Raises `TurnLost`."""
    values = {
        "name": turn.name,
        "fence": turn.fence,
        "lease": turn.lease,
        "position": position,
        "told": told,
    }
    if not connection.execute(sa.text(_RENEW), values).rowcount:
        raise TurnLost


def set_aside(
    connection: Connection,
    turn: Turn,
    event: Event,
    *,
    attempts: int,
    reason: str | None,
    delay: timedelta,
    refused: bool = False,
) -> None:
    """It is told again after `delay`, or, `refused`, when a person wants it. Raises `TurnLost`."""
    # It also keeps the row from those who would move the place back meanwhile.
    move_on(connection, turn, event.id, told=False)
    happening = event.happening
    values: dict[str, Any] = {
        "name": turn.name,
        "event": event.id,
        "partition": happening.partition,
        "study": happening.StudyInstanceUID,
        "attempts": attempts,
        "reason": reason,
        "delay": delay,
        "refused": refused,
    }
    connection.execute(sa.text(_SET_ASIDE), values)


def aside_taken(connection: Connection, turn: Turn, event: Event) -> None:
    """What stood aside was taken. Raises `TurnLost`."""
    move_on(connection, turn, turn.position, told=True)
    connection.execute(
        sa.text("DELETE FROM subscriber_event WHERE subscriber = :name AND event_id = :event"),
        {"name": turn.name, "event": event.id},
    )


def leave_alone(connection: Connection, turn: Turn, *, reason: str | None, wait: timedelta) -> None:
    """Nobody is there: the turn ends, and the next is due after `wait`."""
    connection.execute(
        sa.text(
            "UPDATE subscriber SET claimed_until = NULL, due_at = now() + :wait,"
            " failures = failures + 1, reason = :reason WHERE name = :name AND fence = :fence"
        ),
        {"name": turn.name, "fence": turn.fence, "wait": wait, "reason": reason},
    )


def end_turn(connection: Connection, turn: Turn) -> None:
    """Others may tell it."""
    connection.execute(
        sa.text("UPDATE subscriber SET claimed_until = NULL WHERE name = :name AND fence = :fence"),
        {"name": turn.name, "fence": turn.fence},
    )


def pause_subscriber(connection: Connection, name: str) -> None:
    """Tell it nothing any more; what is on its way may still arrive."""
    connection.execute(
        sa.text(
            "UPDATE subscriber SET paused_at = coalesce(paused_at, now()), fence = fence + 1,"
            " claimed_until = NULL WHERE name = :name"
        ),
        {"name": name},
    )


def resume_subscriber(connection: Connection, name: str) -> bool:
    """Tell it again, at once, from where it was; whether it was paused."""
    return bool(
        connection.execute(
            sa.text(
                "UPDATE subscriber SET paused_at = NULL, due_at = now()"
                " WHERE name = :name AND paused_at IS NOT NULL"
            ),
            {"name": name},
        ).rowcount
    )


def replay(connection: Connection, name: str, *, after: int) -> None:
    """Tell it all that came after this number, again."""
    connection.execute(sa.text(_REPLAY), {"name": name, "after": after})
    connection.execute(
        sa.text("DELETE FROM subscriber_event WHERE subscriber = :name AND event_id > :after"),
        {"name": name, "after": after},
    )


def retry_refused(connection: Connection, name: str) -> int:
    """Tell it again what it refused, or did not take for too long; how many events."""
    return connection.execute(
        sa.text(
            "UPDATE subscriber_event SET refused_at = NULL, attempts = 0, since = now(),"
            " due_at = now() WHERE subscriber = :name AND refused_at IS NOT NULL"
        ),
        {"name": name},
    ).rowcount


def list_subscribers(connection: Connection, names: Iterable[str]) -> list[SubscriberLine]:
    """How each of them stands; those that were never told are left out."""
    found = connection.execute(sa.text(_LIST), {"names": sorted(names)})
    return [
        SubscriberLine(
            name=row.name,
            position=row.position,
            last=row.last_id,
            paused_at=row.paused_at,
            failures=row.failures,
            due_at=row.due_at,
            told_at=row.told_at,
            behind=row.behind,
            aside=row.aside,
            refused=row.refused,
            reason=row.reason or row.aside_reason,
        )
        for row in found
    ]

"""Lanes as a whole: paused by people, left alone while nobody answers, tried now and then.

    closed ──so many rounds in a row found nobody──▶ open ──a probe is answered──▶ closed
                                                      └── probe: not yet ──┘

While a lane is open or paused nothing of it is claimed, by any process. All times are those of the
database.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.deliveries import RetryPolicy

_PAUSE = """
    INSERT INTO lane (destination, paused_at, drained) VALUES (:destination, now(), :drain)
    ON CONFLICT (destination) DO UPDATE
    SET paused_at = coalesce(lane.paused_at, now()), drained = excluded.drained
"""

_FAILED = """
    INSERT INTO lane AS l (destination, failures, reason) VALUES (:destination, 1, :reason)
    ON CONFLICT (destination) DO UPDATE
    SET failures = l.failures + 1, reason = excluded.reason
    RETURNING failures, opened_at
"""

_OPEN = """
    UPDATE lane SET opened_at = now(), probe_at = now() + :delay, probes = 0
    WHERE destination = :destination AND opened_at IS NULL
"""

_LEAVE_ALONE = """
    INSERT INTO lane AS l (destination, failures, reason, opened_at, probe_at)
    VALUES (:destination, 1, :reason, now(), now() + :wait)
    ON CONFLICT (destination) DO UPDATE
    SET reason = excluded.reason, opened_at = coalesce(l.opened_at, now()),
        probe_at = greatest(l.probe_at, excluded.probe_at)
"""

# It is tried at once; what failed for another reason is due earlier than it would be.
_CLOSE = """
    UPDATE lane
    SET failures = 0, probes = 0, opened_at = NULL, probe_at = NULL, reason = NULL
    WHERE destination = :destination AND (opened_at IS NOT NULL OR failures > 0)
    RETURNING probes
"""

_DUE = """
    UPDATE delivery SET next_attempt_at = now(), attempts = 0
    WHERE destination = :destination AND state IN ('waiting', 'failed') AND next_attempt_at > now()
"""

_CLAIM_PROBE = """
    UPDATE lane SET probe_at = now() + :delay, probes = probes + 1
    WHERE destination = :destination AND opened_at IS NOT NULL AND probe_at <= now()
    RETURNING probes
"""

_GIVE_UP = """
    UPDATE delivery AS d
    SET state = 'dead', fence = fence + 1,
        reason = 'gave up: ' || coalesce(l.reason, 'the destination does not answer')
    FROM lane l
    WHERE l.destination = d.destination AND l.opened_at IS NOT NULL
      AND d.state IN ('waiting', 'failed') AND d.unsent_since <= now() - CAST(:after AS interval)
"""


_DELIVERED = """
    SELECT EXISTS (
        SELECT 1 FROM delivery d JOIN delivery_item p ON p.delivery_pk = d.pk
        WHERE d.destination = :destination AND p.state IN ('accepted', 'warned')
    )
"""


@dataclass(frozen=True, slots=True)
class LaneLine:
    """A destination that is not as the others. `opened_at`: since when it is left alone."""

    destination: str
    paused_at: datetime | None
    drained: bool
    failures: int
    opened_at: datetime | None
    probe_at: datetime | None
    reason: str | None


def pause(connection: Connection, destination: str, *, drain: bool) -> None:
    """Send nothing there any more; with `drain` what is being sent comes to its end."""
    connection.execute(sa.text(_PAUSE), {"destination": destination, "drain": drain})


def resume(connection: Connection, destination: str) -> bool:
    """Send there again; whether it was paused."""
    return bool(
        connection.execute(
            sa.text(
                "UPDATE lane SET paused_at = NULL, drained = false"
                " WHERE destination = :destination AND paused_at IS NOT NULL"
            ),
            {"destination": destination},
        ).rowcount
    )


def stopped_lanes(connection: Connection) -> set[str]:
    """The destinations to which what is being sent stops, too."""
    return set(
        connection.scalars(
            sa.text("SELECT destination FROM lane WHERE paused_at IS NOT NULL AND NOT drained")
        )
    )


def lane_failed(
    connection: Connection, destination: str, *, reason: str, most: int, policy: RetryPolicy
) -> bool:
    """A round found nobody there; whether that was one too many, and the lane is open now."""
    row = connection.execute(sa.text(_FAILED), {"destination": destination, "reason": reason}).one()
    if row.failures < most or row.opened_at is not None:
        return False
    values = {"destination": destination, "delay": policy.longest_delay(1)}
    return bool(connection.execute(sa.text(_OPEN), values).rowcount)


def leave_alone(connection: Connection, destination: str, *, reason: str, wait: timedelta) -> None:
    """It asked to hear nothing for so long: the lane is open until then."""
    values = {"destination": destination, "reason": reason, "wait": wait}
    connection.execute(sa.text(_LEAVE_ALONE), values)


def lane_works(connection: Connection, destination: str) -> bool:
    """Somebody answers there: whether that is news. What waits there is due at once."""
    if connection.execute(sa.text(_CLOSE), {"destination": destination}).first() is None:
        return False
    connection.execute(sa.text(_DUE), {"destination": destination})
    return True


def claim_probe(connection: Connection, destination: str, *, policy: RetryPolicy) -> bool:
    """Whether this process is to try by a C-ECHO, now, whether somebody answers there again."""
    probes = connection.scalar(
        sa.text("SELECT probes FROM lane WHERE destination = :destination"),
        {"destination": destination},
    )
    delay = policy.longest_delay((probes or 0) + 1)
    claimed = connection.execute(
        sa.text(_CLAIM_PROBE), {"destination": destination, "delay": delay}
    )
    return claimed.rowcount > 0


def lanes_to_probe(connection: Connection, destinations: Iterable[str]) -> set[str]:
    """Those of the destinations that are to be tried now."""
    return set(
        connection.scalars(
            sa.text(
                "SELECT destination FROM lane WHERE opened_at IS NOT NULL AND probe_at <= now()"
                " AND destination = ANY(:destinations)"
            ),
            {"destinations": sorted(destinations)},
        )
    )


def give_up_old(connection: Connection, *, after: timedelta) -> int:
    """What waits for so long for somebody who does not answer is dead; how many were."""
    return connection.execute(sa.text(_GIVE_UP), {"after": after}).rowcount


def list_lanes(connection: Connection) -> list[LaneLine]:
    """The destinations that are paused, open, or failed the last time."""
    rows = connection.execute(
        sa.text(
            "SELECT destination, paused_at, drained, failures, opened_at, probe_at, reason"
            " FROM lane WHERE paused_at IS NOT NULL OR opened_at IS NOT NULL OR failures > 0"
            " ORDER BY destination"
        )
    )
    return [LaneLine(*row) for row in rows]


def nothing_delivered(connection: Connection, destination: str) -> bool:
    """Whether no instance ever arrived at a destination, as far as the index knows."""
    found = connection.execute(sa.text(_DELIVERED), {"destination": destination}).scalar_one()
    return not found

"""The feed of events: noted where things happen, numbered at one place, read by number.

    transactions ──note──▶ event_note ──publish, one at a time──▶ event ──read after N──▶ readers

Numbers that transactions take themselves become visible out of order: who read number 8 would
never see a 7 that is committed later. So only `publish` gives numbers, to what is committed, and
holds the one row of `event_feed` until its own commit. Numbers run ahead of milliseconds: those of
an index that was made anew, or restored from a dump, are beyond any that a reader has seen.

Of a study that is out of sight reviewers alone are told. So what happens to one that nobody has
judged yet waits for its verdict; nothing that a reader has passed by becomes visible later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from gantry_domain.events import OF_ORDERS, Event, EventKind, Happening
from gantry_domain.sight import Sight
from gantry_stores.index.database import one_statement, transaction
from gantry_stores.index.event_rows import event_of

_FIELDS = """partition, kind, study_instance_uid, series_instance_uid, sop_instance_uid, instances,
             destination, at"""

_NOTE = f"""
    INSERT INTO event_note ({_FIELDS}, visible)
    VALUES (:partition, :kind, :study, :series, :instance, :instances, :destination, now(),
            coalesce(:visible, (SELECT visible FROM study
                                WHERE partition = :partition AND study_instance_uid = :study),
                     :without_study))
"""  # noqa: S608 - constants

# The studies are locked, so no one else notes the same of them. One statement for a batch: this is
# on the way of every image.
_NOTE_INDEXED = """
    INSERT INTO event_note (partition, kind, study_instance_uid, instances, at)
    SELECT partition, k.kind, study_instance_uid, number_of_study_related_instances, now()
    FROM study, unnest(CAST(:kinds AS text[])) AS k(kind)
    WHERE pk = ANY(:pks) AND (k.kind = 'indexed' OR pk = ANY(:new))
    ORDER BY partition, study_instance_uid, k.kind DESC
    ON CONFLICT (partition, study_instance_uid) WHERE kind = 'indexed'
    DO UPDATE SET instances = excluded.instances
"""

# While a study is coming in, each batch of it would be an event. Whatever else happens to the study
# comes after. What is neither visible nor in the index any more is for reviewers.
_PUBLISH = f"""
    WITH due AS (
        SELECT n.pk, coalesce(n.visible, false) OR coalesce(s.visible, false) AS shown
        FROM event_note n LEFT JOIN study s
          ON s.partition = n.partition AND s.study_instance_uid = n.study_instance_uid
        WHERE (s.pk IS NULL OR s.visible OR s.verdict IS NOT NULL)
          AND (n.kind <> 'indexed' OR n.at <= now() - CAST(:calm AS interval)
               OR EXISTS (SELECT 1 FROM event_note o WHERE o.partition = n.partition
                          AND o.study_instance_uid = n.study_instance_uid
                          AND o.kind NOT IN ('received', 'indexed')))
        ORDER BY n.pk LIMIT :limit FOR UPDATE OF n SKIP LOCKED
    ), gone AS (
        DELETE FROM event_note n USING due WHERE n.pk = due.pk RETURNING n.*, due.shown
    )
    INSERT INTO event (id, {_FIELDS}, visible)
    SELECT :first + row_number() OVER (ORDER BY pk), {_FIELDS}, shown FROM gone
"""  # noqa: S608 - constants

# Those that an older Gantry has numbered go by what the study is now.
_AFTER = """
    SELECT e.* FROM event e
    WHERE e.partition = :partition AND e.id > :after AND e.id <= :until
      AND (:all OR coalesce(e.visible, EXISTS (
          SELECT 1 FROM study s WHERE s.partition = e.partition
            AND s.study_instance_uid = e.study_instance_uid AND s.visible)))
    ORDER BY e.id LIMIT :limit
"""

_REMOVE = """
    WITH old AS (
        SELECT id FROM (SELECT id, at FROM event ORDER BY id LIMIT :limit) AS first
        WHERE at < now() - CAST(:keep AS interval)
    ), gone AS (
        DELETE FROM event e USING old WHERE e.id = old.id RETURNING e.id
    )
    UPDATE event_feed SET removed_until = greatest(removed_until, (SELECT max(id) FROM gone))
    WHERE EXISTS (SELECT 1 FROM gone)
"""

_CALM = timedelta(seconds=5)
_AT_ONCE = 1000
_MOST_PAGES = 10
_REMOVED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Feed:
    """How far the feed is: its last number, and up to which number events are no longer kept."""

    last: int
    removed_until: int


def note(connection: Connection, happenings: Iterable[Happening]) -> None:
    """Write down what happens in this transaction; it is told if that is committed."""
    values = [
        {
            "partition": each.partition,
            "kind": each.kind.value,
            "study": each.StudyInstanceUID,
            "series": each.SeriesInstanceUID,
            "instance": each.SOPInstanceUID,
            "instances": each.instances,
            "destination": each.destination,
            "visible": each.visible,
            "without_study": True if each.kind in OF_ORDERS else None,
        }
        for each in happenings
    ]
    if values:
        connection.execute(sa.text(_NOTE), values)


def show_notes(connection: Connection, StudyInstanceUID: str, *, partition: str) -> None:
    """What is noted of a study that is visible, and not told yet, is for everybody: it is going."""
    connection.execute(
        sa.text(
            "UPDATE event_note SET visible = true"
            " WHERE partition = :partition AND study_instance_uid = :study"
        ),
        {"partition": partition, "study": StudyInstanceUID},
    )


def note_indexed(connection: Connection, pks: Sequence[int], *, new: Sequence[int]) -> None:
    """Write down that these studies, which are locked, have other instances than before."""
    if pks:
        kinds = [EventKind.INDEXED.value, *([EventKind.RECEIVED.value] if new else [])]
        connection.execute(
            sa.text(_NOTE_INDEXED), {"pks": list(pks), "new": list(new), "kinds": kinds}
        )


def publish(engine: Engine, *, calm: timedelta = _CALM) -> Feed:
    """Number what was noted, unless somebody else is just doing it.

    `calm`: so long `indexed` waits for more of its study. Raises `IndexUnavailable`.
    """
    for _ in range(_MOST_PAGES):
        with transaction(engine) as connection:
            if _publish(connection, calm) < _AT_ONCE:
                break
    return read_feed(engine)


def _publish(connection: Connection, calm: timedelta) -> int:
    """How many events got their numbers."""
    first = connection.scalar(
        sa.text(
            "SELECT greatest(last_id, CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint))"
            " FROM event_feed FOR UPDATE SKIP LOCKED"
        )
    )
    if first is None:
        return 0
    number = connection.execute(
        sa.text(_PUBLISH), {"first": first, "calm": calm, "limit": _AT_ONCE}
    ).rowcount
    if number:
        connection.execute(
            sa.text("UPDATE event_feed SET last_id = :last"), {"last": first + number}
        )
    return number


def remove_old(engine: Engine, *, keep: timedelta) -> None:
    """Remove events that are older than `keep`, some at a time. Raises `IndexUnavailable`."""
    with transaction(engine) as connection:
        connection.execute(sa.text("SELECT 1 FROM event_feed FOR UPDATE"))
        connection.execute(sa.text(_REMOVE), {"keep": keep, "limit": _REMOVED_AT_ONCE})


def read_feed(engine: Engine) -> Feed:
    """How far it is. Raises `IndexUnavailable`."""
    with one_statement(engine) as connection:
        row = connection.execute(sa.text("SELECT last_id, removed_until FROM event_feed")).one()
    return Feed(row.last_id, row.removed_until)


def events_after(
    engine: Engine, after: int, *, until: int, sight: Sight, limit: int
) -> list[Event]:
    """At most `limit` events with numbers from `after` (left out) to `until`, in their order.

    `sight`: of who asks. Reviewers are told of all that happens, refused studies included. Raises
    `IndexUnavailable`.
    """
    with one_statement(engine) as connection:
        rows = connection.execute(
            sa.text(_AFTER),
            {
                "partition": sight.partition,
                "all": sight.held,
                "after": after,
                "until": until,
                "limit": limit,
            },
        ).all()
    return [event_of(row) for row in rows]

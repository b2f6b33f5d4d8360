"""One transaction of indexing: a batch of objects into the tables, twice to the same effect.

Order of locks, the same in every transaction, so that none waits in a circle:

    patients (by identity), studies (by UID), series UIDs (advisory), objects (by identifier),
    instances (by UID)

A study's row lock covers its series and instances. What the batch cannot know beforehand (a
comparison of two objects, another study that must be locked) it asks for by an exception, to be
rolled back and run again with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.comparison import Relation
from gantry_domain.duplicates import PRIMARY, ObjectState, Outcome, Pair
from gantry_domain.entries import Entry, Unreadable
from gantry_stores.index.contested import Contest, settle
from gantry_stores.index.correcting import corrected_entries, keep_sent_headers
from gantry_stores.index.corrections import standing_corrections
from gantry_stores.index.database import IndexContended
from gantry_stores.index.deleting import add_to_deletions, follow_deletions
from gantry_stores.index.deletions import forget_deleted
from gantry_stores.index.events import note_indexed
from gantry_stores.index.findings import write_findings
from gantry_stores.index.frame_tables import write_due
from gantry_stores.index.headers import CODEC
from gantry_stores.index.level_rows import (
    Rows,
    StudyKey,
    instance_row,
    lock_patients,
    lock_series,
    lock_studies,
)
from gantry_stores.index.recordsets import insert_rows, rows_parameter
from gantry_stores.index.rollup import roll_up
from gantry_stores.index.schema import instance, object_
from gantry_stores.index.series_moves import at_their_places, standing_moves, write_moved
from gantry_stores.index.told_counts import note_told

_VANISHED = "40001"


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What one transaction is to do.

    `relations` are the comparisons known so far, `take_last` the calling AE titles (casefolded)
    whose newer demographics replace older ones, `also_lock` studies that an earlier attempt found
    concerned, `taken_back` objects that are deleted no longer, which have a row that says so.
    """

    entries: Sequence[Entry]
    unreadable: Sequence[Unreadable] = ()
    relations: Mapping[Pair, Relation] = field(default_factory=dict)
    take_last: frozenset[str] = frozenset()
    also_lock: frozenset[StudyKey] = frozenset()
    taken_back: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class BatchWritten:
    """What a transaction did: the outcome of each object that is new, and the studies it touched.

    Objects that had a row before are not in it.
    """

    outcomes: Mapping[UUID, Outcome]
    study_pks: tuple[int, ...]


def known_objects(connection: Connection, object_ids: Sequence[UUID]) -> set[UUID]:
    """Which of the objects have a row."""
    found = connection.execute(
        sa.text("SELECT id FROM object WHERE id = ANY(:ids)"), {"ids": list(object_ids)}
    )
    return set(found.scalars())


def write_batch(connection: Connection, request: BatchRequest) -> BatchWritten:
    """Run the batch in the transaction that is open on `connection`.

    Raises `ComparisonsNeeded` or `StudiesNeeded`, and the errors of the index.
    """
    now = datetime.now(UTC)
    wanted = [entry.object_id for entry in request.entries]
    wanted += [lost.object_id for lost in request.unreadable]
    if request.taken_back:
        forget_deleted(connection, request.taken_back)
    known = known_objects(connection, wanted)
    unreadable = [lost for lost in request.unreadable if lost.object_id not in known]
    outcomes = dict.fromkeys(
        _insert_unreadable(connection, unreadable, now), Outcome(ObjectState.UNREADABLE)
    )
    entries = sorted(
        (entry for entry in request.entries if entry.object_id not in known),
        key=lambda entry: entry.object_id,
    )
    if not entries:
        return BatchWritten(outcomes, ())

    sent = entries
    sent_keys = {entry.study_key for entry in sent}
    moves = standing_moves(connection, sent_keys)
    entries = at_their_places(entries, moves)
    keys = {entry.study_key for entry in entries}
    corrections = standing_corrections(connection, keys)
    entries = corrected_entries(entries, corrections)
    rows = Rows()
    lock_patients(connection, rows, entries)
    lock_studies(connection, rows, entries, request.also_lock, now)
    if (standing_moves(connection, sent_keys), standing_corrections(connection, keys)) != (
        moves,
        corrections,
    ):
        raise IndexContended(_VANISHED)  # somebody decided while this waited for the locks
    lock_series(connection, rows, entries)
    # Another worker may have indexed the same objects while this one waited for the locks.
    inserted = _insert_objects(connection, entries, now)
    entries = [entry for entry in entries if entry.object_id in inserted]
    following = follow_deletions(connection, entries)
    if following:
        add_to_deletions(connection, entries, following)
        outcomes |= dict.fromkeys(following, Outcome(ObjectState.DELETED))
        entries = [entry for entry in entries if entry.object_id not in following]
    write_moved(
        connection,
        (
            (entry.object_id, entry.sent_study, [move.id for move in entry.moved])
            for entry in entries
            if entry.moved
        ),
    )
    contested = _insert_instances(connection, rows, entries)
    contest = (
        settle(
            connection,
            rows,
            contested,
            entries={entry.object_id: entry for entry in entries},
            relations=request.relations,
            take_last=request.take_last,
        )
        if contested
        else Contest()
    )
    _insert_headers(connection, entries)
    changed = [entry for entry in entries if entry.moved or entry.study_key in corrections]
    if changed:
        kept = {entry.object_id for entry in changed}
        keep_sent_headers(
            connection,
            [entry for entry in sent if entry.object_id in kept],
            {rows.studies[entry.study_key].pk for entry in changed},
        )
    outcomes |= {
        entry.object_id: contest.outcomes.get(entry.object_id, PRIMARY) for entry in entries
    }
    primaries = [
        entry for entry in entries if outcomes[entry.object_id].state is ObjectState.PRIMARY
    ]
    rolled = roll_up(
        connection,
        rows,
        entries=entries,
        primaries=primaries,
        disturbed=contest.disturbed,
        now=now,
    )
    note_told(
        connection,
        (
            (pk, entry)
            for entry in primaries
            if (pk := rows.studies[entry.study_key].pk) in rolled.studies
        ),
    )
    write_findings(
        connection, rows, entries=entries, primaries=primaries, contest=contest, rolled=rolled
    )
    studies = sorted(rolled.studies)
    made = {row.pk for row in rows.studies.values() if row.new}
    note_indexed(connection, studies, new=sorted(rolled.studies & made))
    return BatchWritten(outcomes, tuple(studies))


def _insert_unreadable(
    connection: Connection, unreadable: Sequence[Unreadable], now: datetime
) -> list[UUID]:
    if not unreadable:
        return []
    rows = [
        {
            "id": lost.object_id,
            "partition": lost.partition,
            "state": ObjectState.UNREADABLE,
            "reason": lost.reason,
            "size": lost.size,
            "sha256": _bytea(lost.sha256),
            "indexed_at": now,
        }
        for lost in unreadable
    ]
    sql = insert_rows(object_, rows[0], order="id", conflict="(id)", returning="id")
    return list(connection.scalars(sql, {"rows": rows_parameter(rows)}))


def _insert_objects(connection: Connection, entries: Sequence[Entry], now: datetime) -> set[UUID]:
    rows = [
        {
            "id": entry.object_id,
            "partition": entry.partition,
            "state": ObjectState.PRIMARY,  # until the contest is settled
            "size": entry.size,
            "dataset_offset": entry.dataset_offset,
            "sha256": _bytea(entry.sha256),
            "transfer_syntax_uid": entry.TransferSyntaxUID,
            "sop_class_uid": entry.SOPClassUID,
            "sop_instance_uid": entry.SOPInstanceUID,
            "study_instance_uid": entry.StudyInstanceUID,
            "series_instance_uid": entry.SeriesInstanceUID,
            "calling_ae": entry.calling_ae,
            "called_ae": entry.called_ae,
            "indexed_at": now,
        }
        for entry in entries
    ]
    sql = insert_rows(object_, rows[0], order="id", conflict="(id)", returning="id")
    return set(connection.scalars(sql, {"rows": rows_parameter(rows)}))


def _bytea(value: bytes | None) -> str | None:
    return None if value is None else f"\\x{value.hex()}"


def _insert_instances(
    connection: Connection, rows: Rows, entries: Sequence[Entry]
) -> set[tuple[str, str]]:
    """Inserts an instance for each SOP Instance UID; returns those that more objects claim."""
    contested: set[tuple[str, str]] = set()
    lowest: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        if lowest.setdefault(entry.instance_key, entry) is not entry:
            contested.add(entry.instance_key)
    if not lowest:
        return contested
    new = [instance_row(rows, entry) for entry in lowest.values()]
    sql = insert_rows(
        instance,
        new[0],
        order="partition, sop_instance_uid",
        conflict="(partition, sop_instance_uid)",
        returning="partition, sop_instance_uid",
    )
    inserted = {
        (row.partition, row.sop_instance_uid)
        for row in connection.execute(sql, {"rows": rows_parameter(new)})
    }
    return contested | (lowest.keys() - inserted)


def _insert_headers(connection: Connection, entries: Sequence[Entry]) -> None:
    if entries:
        connection.execute(
            sa.text(
                "INSERT INTO header (object_id, codec, data, frames)"
                " SELECT id, :codec, data, frames FROM unnest("
                "CAST(:ids AS uuid[]), CAST(:data AS bytea[]), CAST(:frames AS bytea[]))"
                " AS r(id, data, frames)"
            ),
            {
                "codec": CODEC,
                "ids": [entry.object_id for entry in entries],
                "data": [entry.header for entry in entries],
                "frames": [entry.frames for entry in entries],
            },
        )
        write_due(connection, [entry.object_id for entry in entries if entry.frames is None])

"""Several objects with one SOP Instance UID: their rows locked, their states settled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.comparison import Relation
from gantry_domain.duplicates import ObjectState, Outcome, Pair, Reason, Rival, recorded_relations
from gantry_domain.duplicates import settle as settle_rivals
from gantry_domain.entries import Entry
from gantry_domain.levels import patient_identity
from gantry_stores.index.level_rows import (
    Rows,
    SeriesKey,
    StudyKey,
    find_series,
    headers_of,
    instance_source_values,
)
from gantry_stores.index.recordsets import rows_parameter, update_rows
from gantry_stores.index.schema import instance, object_

InstanceKey = tuple[str, str]
"""Partition and SOPInstanceUID."""


class ComparisonsNeeded(Exception):
    """The transaction must be rolled back and run again with the relations of these pairs."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.pairs = tuple(pairs)
        super().__init__(f"{len(self.pairs)} pairs of objects must be compared first")


class StudiesNeeded(Exception):
    """The transaction must be rolled back and run again with these studies locked."""

    def __init__(self, keys: Iterable[StudyKey]) -> None:
        self.keys = frozenset(keys)
        super().__init__(f"{len(self.keys)} more studies must be locked first")


@dataclass(frozen=True, slots=True)
class Contest:
    """What became of all objects of the contested UIDs.

    `changed` are those whose row said otherwise before; `disturbed` the series in which an
    instance was moved or got another object.
    """

    outcomes: Mapping[UUID, Outcome] = field(default_factory=dict)
    changed: frozenset[UUID] = frozenset()
    disturbed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Object:
    """A readable object as its row has it: `study` is where it is, `sent_study` where it was
    sent."""

    id: UUID
    key: InstanceKey
    study: StudyKey
    sent_study: str
    SeriesInstanceUID: str
    SOPClassUID: str
    sha256: bytes
    calling_ae: str
    outcome: Outcome

    def rival(self, take_last: frozenset[str]) -> Rival:
        return Rival(
            self.id,
            self.sha256,
            (self.sent_study, self.SeriesInstanceUID, self.SOPClassUID),
            self.calling_ae.casefold() in take_last,
        )


@dataclass(frozen=True, slots=True)
class _Move:
    """An instance that gets another object."""

    instance_pk: int
    former: _Object
    primary: _Object


def settle(
    connection: Connection,
    rows: Rows,
    contested: set[InstanceKey],
    *,
    entries: Mapping[UUID, Entry],
    relations: Mapping[Pair, Relation],
    take_last: frozenset[str],
) -> Contest:
    """Settles the UIDs, whose instances and new objects are inserted already."""
    instances = _lock_instances(connection, contested)
    objects = _objects(connection, contested)
    outcomes: dict[UUID, Outcome] = {}
    missing: list[Pair] = []
    moves: list[_Move] = []
    for key, rivals in objects.items():
        known = recorded_relations({rival.id: rival.outcome for rival in rivals})
        settled = settle_rivals((rival.rival(take_last) for rival in rivals), known | {**relations})
        missing += settled.missing
        outcomes |= settled.outcomes
        if not settled.missing and instances[key].object_id != settled.primary:
            by_id = {rival.id: rival for rival in rivals}
            row = instances[key]
            moves.append(_Move(row.pk, by_id[row.object_id], by_id[settled.primary]))
    if missing:
        raise ComparisonsNeeded(missing)
    _require_locks(rows, moves)

    before = {rival.id: rival.outcome for rivals in objects.values() for rival in rivals}
    changed = frozenset(each for each, outcome in outcomes.items() if outcome != before[each])
    if changed:
        states = [
            {
                "id": each,
                "state": outcomes[each].state,
                "reason": outcomes[each].reason,
                "relates_to": outcomes[each].relates_to,
            }
            for each in sorted(changed)
        ]
        connection.execute(
            update_rows(object_, states[0], key="id"), {"rows": rows_parameter(states)}
        )
    return Contest(outcomes, changed, _move(connection, rows, moves, entries))


def _wanted(contested: Iterable[InstanceKey]) -> dict[str, list[str]]:
    ordered = sorted(contested)
    return {"partitions": [key[0] for key in ordered], "uids": [key[1] for key in ordered]}


_INSTANCES = sa.text(
    "SELECT t.pk, t.partition, t.sop_instance_uid, t.object_id, t.series_pk FROM instance t"
    " JOIN unnest(CAST(:partitions AS text[]), CAST(:uids AS text[])) AS w(partition, uid)"
    " ON t.partition = w.partition AND t.sop_instance_uid = w.uid"
    " ORDER BY t.partition, t.sop_instance_uid FOR UPDATE OF t"
)

_OBJECTS = sa.text(
    "SELECT t.id, t.partition, t.sop_instance_uid, t.study_instance_uid, t.series_instance_uid,"
    " t.sop_class_uid, t.sha256, t.calling_ae, t.state, t.reason, t.relates_to,"
    " coalesce(m.sent_study_instance_uid, t.study_instance_uid) AS sent_study"
    " FROM object t LEFT JOIN moved_object m ON m.object_id = t.id"
    " JOIN unnest(CAST(:partitions AS text[]), CAST(:uids AS text[])) AS w(partition, uid)"
    " ON t.partition = w.partition AND t.sop_instance_uid = w.uid"
    " WHERE t.state NOT IN ('unreadable', 'deleted') ORDER BY t.id"
)


def _lock_instances(connection: Connection, contested: set[InstanceKey]) -> dict[InstanceKey, Any]:
    found = connection.execute(_INSTANCES, _wanted(contested))
    return {(row.partition, row.sop_instance_uid): row for row in found}


def _objects(
    connection: Connection, contested: set[InstanceKey]
) -> dict[InstanceKey, list[_Object]]:
    found = connection.execute(_OBJECTS, _wanted(contested))
    objects: dict[InstanceKey, list[_Object]] = {}
    for row in found:
        key = (row.partition, row.sop_instance_uid)
        outcome = Outcome(
            ObjectState(row.state), Reason(row.reason) if row.reason else None, row.relates_to
        )
        objects.setdefault(key, []).append(
            _Object(
                row.id,
                key,
                (row.partition, row.study_instance_uid),
                row.sent_study,
                row.series_instance_uid,
                row.sop_class_uid,
                row.sha256,
                row.calling_ae or "",
                outcome,
            )
        )
    return objects


def _require_locks(rows: Rows, moves: Sequence[_Move]) -> None:
    concerned = {each.study for move in moves for each in (move.former, move.primary)}
    if concerned - rows.studies.keys():
        raise StudiesNeeded(concerned)


def _move(
    connection: Connection, rows: Rows, moves: Sequence[_Move], entries: Mapping[UUID, Entry]
) -> frozenset[int]:
    """Gives instances their new object; returns the series that this concerns."""
    if not moves:
        return frozenset()
    headers = headers_of(connection, (move.primary.id for move in moves), entries)

    def place(each: _Object) -> SeriesKey:
        return rows.studies[each.study].pk, each.SeriesInstanceUID

    places = {place(each) for move in moves for each in (move.former, move.primary)}
    if places - rows.series.keys():
        find_series(connection, rows, places - rows.series.keys(), set())
    updates = [
        {
            "pk": move.instance_pk,
            "series_pk": rows.series[place(move.primary)].pk,
            **instance_source_values(
                move.primary.id,
                move.primary.SOPClassUID,
                patient_identity(headers[move.primary.id], move.primary.study[1]),
                headers[move.primary.id],
            ),
        }
        for move in moves
    ]
    connection.execute(
        update_rows(instance, updates[0], key="pk"), {"rows": rows_parameter(updates)}
    )
    return frozenset(rows.series[each].pk for each in places)

"""The moves of series that stand, read: for those who index objects and those who move them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.corrections import Correction
from gantry_domain.entries import Entry
from gantry_domain.series_moves import SeriesMove, path_of
from gantry_stores.index.recordsets import rows_parameter

Moves = Mapping[str, tuple[SeriesMove, ...]]
"""By partition, in order; a partition without any is absent."""

# On from each study that a move leads to.
_STANDING = """
    WITH RECURSIVE reached(partition, uid) AS (
        SELECT w.partition, w.uid
        FROM unnest(CAST(:partitions AS text[]), CAST(:uids AS text[])) AS w(partition, uid)
        UNION
        SELECT d.partition, d.study_instance_uid FROM reached r JOIN decision d
          ON d.partition = r.partition AND d.from_uid = r.uid AND d.undoing_id IS NULL
    )
    SELECT d.id, d.partition, d.from_uid, d.study_instance_uid, d.content
    FROM reached r JOIN decision d
      ON d.partition = r.partition AND d.from_uid = r.uid AND d.undoing_id IS NULL
    ORDER BY d.id
"""

_OF_DECISIONS = """
    SELECT d.id, d.content->'corrected' AS attributes FROM decision d WHERE d.id = ANY(:ids)
"""


def standing_moves(connection: Connection, studies: Collection[tuple[str, str]]) -> Moves:
    """The moves that objects sent in these studies (partition and UID) may follow."""
    ordered = sorted(studies)
    rows = connection.execute(
        sa.text(_STANDING),
        {"partitions": [each[0] for each in ordered], "uids": [each[1] for each in ordered]},
    )
    found: dict[str, tuple[SeriesMove, ...]] = {}
    for row in rows:
        found[row.partition] = (*found.get(row.partition, ()), _move(row))
    return found


def _move(row: sa.Row[Any]) -> SeriesMove:
    return SeriesMove(
        id=row.id,
        moved_from=row.from_uid,
        moved_to=row.study_instance_uid,
        series=frozenset(row.content["series"]),
        attributes=row.content["corrected"],
    )


def at_their_places(entries: Sequence[Entry], moves: Moves) -> list[Entry]:
    """New objects where they are to be: those of moved series follow the moves."""
    return [_placed(entry, moves.get(entry.partition, ())) for entry in entries]


def _placed(entry: Entry, moves: Sequence[SeriesMove]) -> Entry:
    path = path_of(entry.StudyInstanceUID, entry.SeriesInstanceUID, moves)
    if not path:
        return entry
    return replace(
        entry,
        StudyInstanceUID=path[-1].moved_to,
        moved=path,
        sent_study=entry.StudyInstanceUID,
    )


def write_moved(connection: Connection, moved: Iterable[tuple[UUID, str, Sequence[UUID]]]) -> None:
    """Write down where objects were sent that are elsewhere: identifier, study and what moved
    them."""
    rows = [
        {"object_id": object_id, "sent_study_instance_uid": study, "moved_by": list(moved_by)}
        for object_id, study, moved_by in moved
    ]
    if rows:
        connection.execute(
            sa.text(
                "INSERT INTO moved_object (object_id, sent_study_instance_uid, moved_by)"
                " SELECT object_id, sent_study_instance_uid, moved_by"
                " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(object_id uuid,"
                " sent_study_instance_uid text, moved_by uuid[])"
                " ON CONFLICT (object_id) DO UPDATE SET moved_by = excluded.moved_by"
            ),
            {"rows": rows_parameter(rows)},
        )


def corrections_of(connection: Connection, decisions: Collection[UUID]) -> dict[UUID, Correction]:
    """What these decisions change of an object, by their identifiers."""
    if not decisions:
        return {}
    rows = connection.execute(sa.text(_OF_DECISIONS), {"ids": list(decisions)})
    return {row.id: Correction(row.id, row.attributes) for row in rows}

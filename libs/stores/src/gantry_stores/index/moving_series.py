"""Moves series between studies in the index: the rows of both are made anew from what was sent.

    out of a study ──objects whose place is another now──▶ into the other one
         └── emptied series and study go                      └── made where they are not there

Which objects those are follows from the moves that stand, so that a move and its undoing are the
same. Locks in the order of `gantry_stores.index.batch`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.corrections import Correction
from gantry_domain.decisions import StudyDecision, Undoing
from gantry_domain.entries import Entry
from gantry_domain.events import EventKind, Happening
from gantry_domain.series_moves import SeriesMove, path_of, values_kept, values_of_study
from gantry_stores.index.contested import Contest
from gantry_stores.index.correcting import (
    corrected_entries,
    keep_complete,
    mark_corrected,
    rewrite_headers,
)
from gantry_stores.index.corrections import standing_corrections
from gantry_stores.index.decisions import judge_anew, seen_before, write_move, write_undoing
from gantry_stores.index.events import note, show_notes
from gantry_stores.index.findings import write_findings
from gantry_stores.index.headers import decode_header
from gantry_stores.index.level_rows import (
    Rows,
    StudyKey,
    find_series,
    lock_patients,
    lock_series,
    lock_studies,
)
from gantry_stores.index.rollup import roll_up
from gantry_stores.index.series_moves import standing_moves, write_moved

# Copies and contradictions of its instances too: each may come to count.
_OBJECTS = """
    SELECT o.*, i.object_id = o.id AS counts, m.object_id IS NOT NULL AS moved,
           coalesce(m.sent_study_instance_uid, o.study_instance_uid) AS sent_study
    FROM study t JOIN series s ON s.study_pk = t.pk JOIN instance i ON i.series_pk = s.pk
    JOIN object o ON o.partition = i.partition AND o.sop_instance_uid = i.sop_instance_uid
      AND o.study_instance_uid = t.study_instance_uid
      AND o.series_instance_uid = s.series_instance_uid
    LEFT JOIN moved_object m ON m.object_id = o.id
    WHERE t.partition = :partition AND t.study_instance_uid = :study
      AND s.series_instance_uid = ANY(:series) AND o.state IN ('primary', 'duplicate', 'conflict')
    ORDER BY o.id
"""

_SENT_HEADERS = """
    SELECT h.object_id, coalesce(s.codec, h.codec) AS codec, coalesce(s.data, h.data) AS data
    FROM header h LEFT JOIN sent_header s ON s.object_id = h.object_id
    WHERE h.object_id = ANY(:ids)
"""

_STUDIES = """
    SELECT t.pk, t.study_instance_uid, t.visible FROM study t
    WHERE t.partition = :partition AND t.study_instance_uid = ANY(:studies)
"""

_SOURCE = """
    SELECT h.codec, h.data FROM study t JOIN header h ON h.object_id = t.source
    WHERE t.partition = :partition AND t.study_instance_uid = :study
"""

_TO_SERIES = """
    UPDATE instance i SET series_pk = s.pk FROM object o, series s
    WHERE i.object_id = o.id AND o.id = ANY(:ids)
      AND s.study_pk = :study_pk AND s.series_instance_uid = o.series_instance_uid
"""

Studies = dict[str, sa.Row[Any]]
"""Number and visibility, by Study Instance UID."""


def series_of_study(connection: Connection, study: StudyKey) -> set[str]:
    """The UIDs of the series of a study."""
    return set(
        connection.scalars(
            sa.text(
                "SELECT s.series_instance_uid FROM series s JOIN study t ON t.pk = s.study_pk"
                " WHERE t.partition = :partition AND t.study_instance_uid = :study"
            ),
            {"partition": study[0], "study": study[1]},
        )
    )


def values_to_move(
    connection: Connection, *, partition: str, out_of: str, into: str
) -> dict[str, str]:
    """What series say from then on that are moved from one study to the other."""
    row = connection.execute(
        sa.text(_SOURCE), {"partition": partition, "study": into}
    ).one_or_none()
    if row is not None:
        return values_of_study(decode_header(row.codec, row.data), into)
    key = (partition, out_of)
    return values_kept(standing_corrections(connection, [key]).get(key, ()), into)


def move_series(connection: Connection, made: StudyDecision) -> list[int]:
    """Write a move and do it; the pks of the studies that it concerns and that are there now.

    `lock_studies_to_change` was called for both. Raises `IndexContended`.
    """
    before = _studies(connection, made)
    write_move(
        connection,
        made,
        visible_before=_is_visible(before, made.StudyInstanceUID),
        from_visible=_is_visible(before, made.moved_from),
    )
    _shift(connection, made, out_of=made.moved_from, into=made.StudyInstanceUID)
    after = _studies(connection, made)
    if made.moved_from in after:
        keep_complete(connection, after[made.moved_from].pk, routed=True)
    return _end(connection, made, before, after)


def move_back(connection: Connection, made: StudyDecision, undoing: Undoing) -> list[int]:
    """Take a move back; the pks of the studies that it concerned and that are there now.

    Both are seen as they were before it. Locks and errors as for `move_series`.
    """
    before = _studies(connection, made)
    write_undoing(connection, undoing)
    _shift(connection, made, out_of=made.StudyInstanceUID, into=made.moved_from)
    after = _studies(connection, made)
    seen = dict(
        zip((made.StudyInstanceUID, made.moved_from), seen_before(connection, made), strict=True)
    )
    for uid, study in after.items():
        connection.execute(
            sa.text("UPDATE study SET visible = :visible WHERE pk = :pk"),
            {"visible": seen[uid], "pk": study.pk},
        )
        # What was not sent while its series were elsewhere the routes have to name again.
        keep_complete(connection, study.pk, routed=uid == made.StudyInstanceUID)
    return _end(connection, made, before, after)


def _studies(connection: Connection, made: StudyDecision) -> Studies:
    rows = connection.execute(
        sa.text(_STUDIES),
        {"partition": made.partition, "studies": [made.StudyInstanceUID, made.moved_from]},
    )
    return {row.study_instance_uid: row for row in rows}


def _is_visible(studies: Studies, uid: str) -> bool:
    return uid in studies and bool(studies[uid].visible)


def _end(connection: Connection, made: StudyDecision, before: Studies, after: Studies) -> list[int]:
    happenings = []
    for uid in sorted(before.keys() | after.keys()):
        gone = uid not in after and _is_visible(before, uid)
        if gone:
            show_notes(connection, uid, partition=made.partition)
        happenings.append(
            Happening(
                kind=EventKind.MOVED,
                partition=made.partition,
                StudyInstanceUID=uid,
                visible=True if gone else None,
            )
        )
    note(connection, happenings)
    pks = sorted(row.pk for row in after.values())
    judge_anew(connection, pks)
    return pks


@dataclass(frozen=True, slots=True)
class _Going:
    """An object on its way, and the moves that it has made when it is there."""

    row: sa.Row[Any]
    path: tuple[SeriesMove, ...]


def _shift(connection: Connection, made: StudyDecision, *, out_of: str, into: str) -> None:
    """Bring all objects of the series that are in one study and belong into the other there."""
    partition = made.partition
    going = _going(connection, made, out_of=out_of, into=into)
    if not going:
        return
    key = (partition, into)
    corrections = standing_corrections(connection, [key]).get(key, ())
    first = _first_of_series(connection, going, into, corrections)
    rows = Rows()
    now = datetime.now(UTC)
    if first:
        lock_patients(connection, rows, first)
        lock_studies(connection, rows, first, [(partition, out_of)], now)
        lock_series(connection, rows, first)
        former = rows.studies[partition, out_of].pk
        uids = {entry.SeriesInstanceUID for entry in first}
        find_series(connection, rows, {(former, uid) for uid in uids}, set())
    _replace(connection, going, into)
    ids = [each.row.id for each in going]
    rewrite_headers(connection, key, ids, corrections)
    if not first:
        return
    study = rows.studies[key].pk
    connection.execute(sa.text(_TO_SERIES), {"ids": ids, "study_pk": study})
    disturbed = frozenset(row.pk for row in rows.series.values())
    rolled = roll_up(connection, rows, entries=(), primaries=(), disturbed=disturbed, now=now)
    contest = Contest(disturbed=disturbed)
    write_findings(connection, rows, entries=first, primaries=(), contest=contest, rolled=rolled)
    mark_corrected(connection, study, corrected=bool(corrections))
    corrected = bool(standing_corrections(connection, [(partition, out_of)]))
    mark_corrected(connection, former, corrected=corrected)


def _going(connection: Connection, made: StudyDecision, *, out_of: str, into: str) -> list[_Going]:
    found = connection.execute(
        sa.text(_OBJECTS),
        {"partition": made.partition, "study": out_of, "series": sorted(made.series)},
    ).all()
    sent = {(made.partition, row.sent_study) for row in found}
    moves = standing_moves(connection, sent).get(made.partition, ())
    going = []
    for row in found:
        path = path_of(row.sent_study, row.series_instance_uid, moves)
        if (path[-1].moved_to if path else row.sent_study) == into:
            going.append(_Going(row, path))
    return going


def _first_of_series(
    connection: Connection, going: Sequence[_Going], into: str, corrections: Sequence[Correction]
) -> list[Entry]:
    """Of each series the first object that counts, as it is where it goes: rows are made of it."""
    chosen: dict[str, _Going] = {}
    for each in going:
        if each.row.counts:
            chosen.setdefault(each.row.series_instance_uid, each)
    headers = _sent_headers(connection, [each.row.id for each in chosen.values()])
    entries = [_entry(each, into, headers[each.row.id]) for each in chosen.values()]
    entries.sort(key=lambda entry: entry.object_id)
    return corrected_entries(entries, {entry.study_key: corrections for entry in entries})


def _sent_headers(connection: Connection, ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    rows = connection.execute(sa.text(_SENT_HEADERS), {"ids": list(ids)})
    return {row.object_id: decode_header(row.codec, row.data) for row in rows}


def _entry(going: _Going, into: str, header: dict[str, Any]) -> Entry:
    row = going.row
    return Entry(
        object_id=row.id,
        partition=row.partition,
        size=row.size,
        dataset_offset=row.dataset_offset,
        sha256=row.sha256,
        TransferSyntaxUID=row.transfer_syntax_uid,
        SOPClassUID=row.sop_class_uid,
        SOPInstanceUID=row.sop_instance_uid,
        StudyInstanceUID=into,
        SeriesInstanceUID=row.series_instance_uid,
        calling_ae=row.calling_ae or "",
        called_ae=row.called_ae or "",
        attributes=header,
        header=b"",
        moved=going.path,
        sent_study=row.sent_study,
    )


def _replace(connection: Connection, going: Sequence[_Going], into: str) -> None:
    """Write down where the objects are now."""
    connection.execute(
        sa.text("UPDATE object SET study_instance_uid = :into WHERE id = ANY(:ids)"),
        {"into": into, "ids": [each.row.id for each in going]},
    )
    write_moved(
        connection,
        [
            (each.row.id, each.row.sent_study, [move.id for move in each.path])
            for each in going
            if each.path
        ],
    )
    home = [each.row.id for each in going if not each.path]
    if home:
        connection.execute(
            sa.text("DELETE FROM moved_object WHERE object_id = ANY(:ids)"), {"ids": home}
        )

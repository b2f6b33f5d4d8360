"""Corrects studies in the index: from here on all rows say what people corrected.

    header as sent ──kept──▶ sent_header
          └──corrections──▶ header ──▶ instances, study, patient

So searches, metadata and rules see corrected values and need not know of corrections. All rows are
made anew from what was sent: what is undone is as if it had never been. Locks in the order of
`gantry_stores.index.batch`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.corrections import Correction, corrected
from gantry_domain.entries import Entry
from gantry_domain.events import EventKind, Happening
from gantry_domain.levels import patient_identity
from gantry_domain.series_moves import changes_of
from gantry_stores.index.contested import Contest
from gantry_stores.index.corrections import standing_corrections
from gantry_stores.index.database import IndexContended
from gantry_stores.index.events import note
from gantry_stores.index.findings import write_findings
from gantry_stores.index.headers import CODEC, compress_header, decode_header
from gantry_stores.index.level_rows import StudyKey
from gantry_stores.index.rollup import roll_up_anew
from gantry_stores.index.series_moves import corrections_of

_AT_ONCE = 200
_VANISHED = "40001"

_STUDY = """
    SELECT t.pk, t.patient_pk, p.identity FROM study t JOIN patient p ON p.pk = t.patient_pk
    WHERE t.partition = :partition AND t.study_instance_uid = :study
"""

# Copies and contradictions of its instances too: each may come to count.
_OBJECTS = """
    SELECT o.id FROM series s JOIN instance i ON i.series_pk = s.pk
    JOIN object o ON o.partition = i.partition AND o.sop_instance_uid = i.sop_instance_uid
      AND o.study_instance_uid = :study
    JOIN header h ON h.object_id = o.id
    WHERE s.study_pk = :pk ORDER BY o.id
"""

_SENT = """
    SELECT h.object_id, coalesce(s.codec, h.codec) AS codec, coalesce(s.data, h.data) AS data,
           m.moved_by
    FROM header h LEFT JOIN sent_header s ON s.object_id = h.object_id
    LEFT JOIN moved_object m ON m.object_id = h.object_id
    WHERE h.object_id = ANY(:ids)
"""

_KEEP = """
    INSERT INTO sent_header (object_id, codec, data)
    SELECT object_id, codec, data FROM header WHERE object_id = ANY(:ids) ON CONFLICT DO NOTHING
"""

_WRITE = """
    WITH r AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:codecs AS smallint[]),
                             CAST(:data AS bytea[]), CAST(:identities AS text[]))
               AS r(id, codec, data, identity)
    ), named AS (
        UPDATE instance i SET patient_identity = r.identity FROM r WHERE i.object_id = r.id
    )
    UPDATE header h SET codec = r.codec, data = r.data FROM r WHERE h.object_id = r.id
"""

_CORRECTED = """
    UPDATE study SET corrected = :corrected OR EXISTS (
        SELECT 1 FROM series s JOIN instance i ON i.series_pk = s.pk
        JOIN moved_object m ON m.object_id = i.object_id WHERE s.study_pk = :pk)
    WHERE pk = :pk
"""

_COMPLETE = """
    UPDATE study SET completed_revision = revision
    WHERE pk = :pk AND completed_revision = revision - 1
"""

_ROUTED = """
    UPDATE study SET routed_revision = revision WHERE pk = :pk AND routed_revision = revision - 1
"""


_LOCK = """
    FROM study t JOIN patient p ON p.pk = t.patient_pk
    WHERE t.partition = :partition AND t.study_instance_uid = ANY(:studies)
"""
_LOCK_PATIENTS = f"SELECT t.pk, p.pk AS patient_pk {_LOCK} ORDER BY p.identity FOR UPDATE OF p"
_LOCK_STUDIES = f"""
    SELECT t.pk, p.pk AS patient_pk {_LOCK} ORDER BY t.study_instance_uid FOR UPDATE OF t
"""


def lock_to_correct(connection: Connection, *, partition: str, StudyInstanceUID: str) -> None:
    """Hold a study and its patient for the rest of the transaction, if it is there.

    Raises `IndexContended`.
    """
    lock_studies_to_change(connection, [StudyInstanceUID], partition=partition)


def lock_studies_to_change(
    connection: Connection, studies: Collection[str], *, partition: str
) -> None:
    """Hold those of the studies that are there, and their patients, for the rest of the
    transaction.

    Raises `IndexContended`.
    """
    named = {"partition": partition, "studies": list(studies)}
    seen = connection.execute(sa.text(_LOCK_PATIENTS), named).all()
    locked = connection.execute(sa.text(_LOCK_STUDIES), named).all()
    if set(map(tuple, seen)) != set(map(tuple, locked)):
        raise IndexContended(_VANISHED)


def correct_study(connection: Connection, *, partition: str, StudyInstanceUID: str) -> None:
    """Bring all rows of a study that is locked to what its standing corrections say."""
    key = (partition, StudyInstanceUID)
    study = connection.execute(
        sa.text(_STUDY), {"partition": partition, "study": StudyInstanceUID}
    ).one()
    corrections = standing_corrections(connection, [key]).get(key, ())
    ids = list(connection.scalars(sa.text(_OBJECTS), {"pk": study.pk, "study": StudyInstanceUID}))
    rewrite_headers(connection, key, ids, corrections)
    rows, rolled = roll_up_anew(
        connection,
        key,
        pk=study.pk,
        patient_pk=study.patient_pk,
        identity=study.identity,
        now=datetime.now(UTC),
    )
    write_findings(connection, rows, entries=(), primaries=(), contest=Contest(), rolled=rolled)
    mark_corrected(connection, study.pk, corrected=bool(corrections))
    # What was complete is so still, and has gone where the routes say: no image of it is new.
    keep_complete(connection, study.pk, routed=True)
    happening = Happening(
        kind=EventKind.CORRECTED, partition=partition, StudyInstanceUID=StudyInstanceUID
    )
    note(connection, [happening])


def mark_corrected(connection: Connection, study: int, *, corrected: bool) -> None:
    """Write down whether anything of a study is changed that goes out: `corrected`, or moved."""
    connection.execute(sa.text(_CORRECTED), {"pk": study, "corrected": corrected})


def keep_complete(connection: Connection, study: int, *, routed: bool) -> None:
    """A study whose last revision brought no image is as complete as before, and `routed` says
    whether the routes need not be asked either."""
    connection.execute(sa.text(_COMPLETE), {"pk": study})
    if routed:
        connection.execute(sa.text(_ROUTED), {"pk": study})


def rewrite_headers(
    connection: Connection,
    key: StudyKey,
    ids: Sequence[UUID],
    corrections: Sequence[Correction],
) -> None:
    """Make the headers of objects anew that are in this study now, from what was sent."""
    for first in range(0, len(ids), _AT_ONCE):
        _rewrite(connection, key, ids[first : first + _AT_ONCE], corrections)


def _rewrite(
    connection: Connection,
    key: StudyKey,
    ids: Sequence[UUID],
    corrections: Sequence[Correction],
) -> None:
    rows = connection.execute(sa.text(_SENT), {"ids": list(ids)}).all()
    moves = corrections_of(connection, {each for row in rows for each in row.moved_by or ()})
    changes = {}
    for row in rows:
        path = [moves[each] for each in row.moved_by or ()]
        changes[row.object_id] = changes_of(path, corrections)
    changed = [object_id for object_id, made in changes.items() if made]
    if changed:
        connection.execute(sa.text(_KEEP), {"ids": changed})
    codecs, data, identities = [], [], []
    for row in rows:
        header: Mapping[str, Any] = decode_header(row.codec, row.data)
        made = changes[row.object_id]
        if made:
            header = corrected(header, made)
        codecs.append(CODEC if made else row.codec)
        data.append(compress_header(orjson.dumps(header)) if made else row.data)
        identities.append(patient_identity(header, key[1]))
    connection.execute(
        sa.text(_WRITE),
        {
            "ids": [row.object_id for row in rows],
            "codecs": codecs,
            "data": data,
            "identities": identities,
        },
    )
    as_sent = [object_id for object_id, made in changes.items() if not made]
    if as_sent:
        connection.execute(
            sa.text("DELETE FROM sent_header WHERE object_id = ANY(:ids)"), {"ids": as_sent}
        )


def corrected_entries(
    entries: Sequence[Entry], corrections: Mapping[StudyKey, Sequence[Correction]]
) -> list[Entry]:
    """New objects, at their places, as the index takes them in: moved ones say what they say there,
    and those of corrected studies follow the corrections."""
    return [_corrected(entry, corrections.get(entry.study_key, ())) for entry in entries]


def _corrected(entry: Entry, corrections: Sequence[Correction]) -> Entry:
    changes = changes_of([move.correction for move in entry.moved], corrections)
    if not changes:
        return entry
    attributes = corrected(entry.attributes, changes)
    return replace(entry, attributes=attributes, header=compress_header(orjson.dumps(attributes)))


def keep_sent_headers(
    connection: Connection, entries: Collection[Entry], studies: Collection[int]
) -> None:
    """Write down the headers of new objects that are changed as they were sent.

    `studies` are the pks of the studies that they are in.
    """
    connection.execute(
        sa.text(
            "INSERT INTO sent_header (object_id, codec, data)"
            " SELECT id, :codec, data FROM unnest(CAST(:ids AS uuid[]), CAST(:data AS bytea[]))"
            " AS r(id, data) ON CONFLICT DO NOTHING"
        ),
        {
            "codec": CODEC,
            "ids": [entry.object_id for entry in entries],
            "data": [entry.header for entry in entries],
        },
    )
    connection.execute(
        sa.text("UPDATE study SET corrected = true WHERE pk = ANY(:pks) AND NOT corrected"),
        {"pks": sorted(studies)},
    )

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
from gantry_stores.index.contested import Contest
from gantry_stores.index.corrections import standing_corrections
from gantry_stores.index.database import IndexContended
from gantry_stores.index.events import note
from gantry_stores.index.findings import write_findings
from gantry_stores.index.headers import CODEC, compress_header, decode_header
from gantry_stores.index.level_rows import StudyKey
from gantry_stores.index.rollup import roll_up_anew

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
    SELECT h.object_id, coalesce(s.codec, h.codec) AS codec, coalesce(s.data, h.data) AS data
    FROM header h LEFT JOIN sent_header s ON s.object_id = h.object_id
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

# What was complete is so still, and has gone where the routes say: no image of it is new.
_SETTLED = """
    UPDATE study SET corrected = :corrected,
        completed_revision = completed_revision
            + (CASE WHEN completed_revision = revision - 1 THEN 1 ELSE 0 END),
        routed_revision = routed_revision
            + (CASE WHEN routed_revision = revision - 1 THEN 1 ELSE 0 END)
    WHERE pk = :pk
"""


def lock_to_correct(connection: Connection, *, partition: str, StudyInstanceUID: str) -> None:
    """Hold a study and its patient for the rest of the transaction, if it is there.

    Raises `IndexContended`.
    """
    named = {"partition": partition, "study": StudyInstanceUID}
    seen = connection.execute(sa.text(_STUDY), named).one_or_none()
    if seen is None:
        return
    connection.execute(
        sa.text("SELECT pk FROM patient WHERE pk = :pk FOR UPDATE"), {"pk": seen.patient_pk}
    )
    locked = connection.execute(sa.text(f"{_STUDY} FOR UPDATE OF t"), named).one_or_none()
    if locked is None or locked.patient_pk != seen.patient_pk:
        raise IndexContended(_VANISHED)


def correct_study(connection: Connection, *, partition: str, StudyInstanceUID: str) -> None:
    """Bring all rows of a study that is locked to what its standing corrections say."""
    key = (partition, StudyInstanceUID)
    study = connection.execute(
        sa.text(_STUDY), {"partition": partition, "study": StudyInstanceUID}
    ).one()
    corrections = standing_corrections(connection, [key]).get(key, ())
    ids = list(connection.scalars(sa.text(_OBJECTS), {"pk": study.pk, "study": StudyInstanceUID}))
    for first in range(0, len(ids), _AT_ONCE):
        _correct_headers(connection, key, ids[first : first + _AT_ONCE], corrections)
    rows, rolled = roll_up_anew(
        connection,
        key,
        pk=study.pk,
        patient_pk=study.patient_pk,
        identity=study.identity,
        now=datetime.now(UTC),
    )
    write_findings(connection, rows, entries=(), primaries=(), contest=Contest(), rolled=rolled)
    connection.execute(sa.text(_SETTLED), {"pk": study.pk, "corrected": bool(corrections)})
    happening = Happening(
        kind=EventKind.CORRECTED, partition=partition, StudyInstanceUID=StudyInstanceUID
    )
    note(connection, [happening])


def _correct_headers(
    connection: Connection,
    key: StudyKey,
    ids: Sequence[UUID],
    corrections: Sequence[Correction],
) -> None:
    rows = connection.execute(sa.text(_SENT), {"ids": list(ids)}).all()
    if corrections:
        connection.execute(sa.text(_KEEP), {"ids": list(ids)})
    codecs, data, identities = [], [], []
    for row in rows:
        header: Mapping[str, Any] = decode_header(row.codec, row.data)
        if corrections:
            header = corrected(header, corrections)
        codecs.append(CODEC if corrections else row.codec)
        data.append(compress_header(orjson.dumps(header)) if corrections else row.data)
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
    if not corrections:
        connection.execute(
            sa.text("DELETE FROM sent_header WHERE object_id = ANY(:ids)"), {"ids": list(ids)}
        )


def corrected_entries(
    entries: Sequence[Entry], corrections: Mapping[StudyKey, Sequence[Correction]]
) -> Sequence[Entry]:
    """New objects as the index takes them in: those of corrected studies follow the corrections."""
    if not corrections:
        return entries
    return [
        _corrected(entry, corrections[entry.study_key]) if entry.study_key in corrections else entry
        for entry in entries
    ]


def _corrected(entry: Entry, corrections: Sequence[Correction]) -> Entry:
    attributes = corrected(entry.attributes, corrections)
    return replace(entry, attributes=attributes, header=compress_header(orjson.dumps(attributes)))


def keep_sent_headers(
    connection: Connection, entries: Collection[Entry], studies: Collection[int]
) -> None:
    """Write down the headers of new objects of corrected studies as they were sent.

    `studies` are the pks of these studies.
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

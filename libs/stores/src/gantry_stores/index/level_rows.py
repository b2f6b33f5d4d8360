"""The rows above and beside an object in a batch: found or made, locked, and made anew.

A row that is new in a transaction holds, until the roll-up, what the lowest object of the batch
says, primary or not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.attributes import Level
from gantry_domain.entries import Entry, study_values
from gantry_domain.keys import received_at
from gantry_domain.levels import (
    LevelValues,
    level_values,
    name_beginnings,
    name_grams,
    patient_identity,
)
from gantry_stores.index.database import IndexContended
from gantry_stores.index.headers import decode_header
from gantry_stores.index.recordsets import insert_rows, rows_parameter
from gantry_stores.index.schema import patient, series, study

PatientKey = tuple[str, str]
"""Partition and identity."""
StudyKey = tuple[str, str]
"""Partition and StudyInstanceUID."""
SeriesKey = tuple[int, str]
"""The study's pk and SeriesInstanceUID."""

# Series UIDs are locked by their hash: a lock for each would fill PostgreSQL's table of locks.
_SERIES_LOCK = 0x53455249
_SERIES_BUCKETS = 1024

_VANISHED = "40001"

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a level: `source` as it stands in the table, `new` if this transaction made it."""

    pk: int
    source: UUID
    new: bool


@dataclass(frozen=True, slots=True)
class StudyRow(Row):
    """A study that is locked."""

    key: StudyKey
    patient_pk: int


@dataclass(slots=True)
class Rows:
    """What a transaction has locked or made, by key, and what it knows of the batch's objects."""

    patients: dict[PatientKey, Row] = field(default_factory=dict)
    studies: dict[StudyKey, StudyRow] = field(default_factory=dict)
    series: dict[SeriesKey, Row] = field(default_factory=dict)
    identities: dict[UUID, str] = field(default_factory=dict)

    def series_of(self, entry: Entry) -> Row:
        """The row of an entry's series."""
        return self.series[self.studies[entry.study_key].pk, entry.SeriesInstanceUID]


def lowest(entries: Iterable[Entry], key: Callable[[Entry], _Key]) -> dict[_Key, Entry]:
    """The first entry for each key."""
    found: dict[_Key, Entry] = {}
    for entry in entries:
        found.setdefault(key(entry), entry)
    return found


def patient_row(identity: PatientKey, source: UUID, values: LevelValues) -> dict[str, Any]:
    """A patient's row but for its pk."""
    return {
        "partition": identity[0],
        "identity": identity[1],
        "source": source,
        **values.columns,
        "attributes": values.attributes,
    }


def study_source_values(source: UUID, attributes: dict[str, Any]) -> dict[str, Any]:
    """What a study's row takes from its source."""
    values = study_values(attributes)
    return {
        "source": source,
        **values.columns,
        "attributes": values.attributes,
        "patient_name_grams": name_grams(values.columns),
        "patient_name_beginnings": name_beginnings(values.columns),
    }


def series_source_values(source: UUID, attributes: dict[str, Any]) -> dict[str, Any]:
    """What a series' row takes from its source."""
    values = level_values(attributes, Level.SERIES)
    return {"source": source, **values.columns, "attributes": values.attributes}


def instance_row(rows: Rows, entry: Entry) -> dict[str, Any]:
    """An instance's row but for its pk, with the entry as its object."""
    return {
        "series_pk": rows.series_of(entry).pk,
        "partition": entry.partition,
        "sop_instance_uid": entry.SOPInstanceUID,
        **instance_source_values(
            entry.object_id,
            entry.SOPClassUID,
            rows.identities[entry.object_id],
            entry.attributes,
        ),
    }


def instance_source_values(
    object_id: UUID, SOPClassUID: str, identity: str, attributes: dict[str, Any]
) -> dict[str, Any]:
    """What an instance's row takes from its object."""
    values = level_values(attributes, Level.INSTANCE)
    return {
        "sop_class_uid": SOPClassUID,
        "object_id": object_id,
        "patient_identity": identity,
        **values.columns,
        "attributes": values.attributes,
    }


def lock_patients(connection: Connection, rows: Rows, entries: Sequence[Entry]) -> None:
    """Finds or makes the patients of the entries and locks them."""
    for entry in entries:
        rows.identities[entry.object_id] = patient_identity(
            entry.attributes, entry.StudyInstanceUID
        )
    sources = lowest(entries, lambda entry: (entry.partition, rows.identities[entry.object_id]))
    ensure_patients(
        connection,
        rows,
        {key: (entry.object_id, entry.attributes) for key, entry in sources.items()},
    )


def ensure_patients(
    connection: Connection,
    rows: Rows,
    wanted: Mapping[PatientKey, tuple[UUID, dict[str, Any]]],
) -> None:
    """Finds or makes patients, from the object and header given for each, and locks them."""
    made = [
        patient_row(key, source, level_values(attributes, Level.PATIENT))
        for key, (source, attributes) in wanted.items()
    ]
    new = set(
        connection.scalars(
            insert_rows(
                patient,
                made[0],
                order="partition, identity",
                conflict="(partition, identity)",
                returning="pk",
            ),
            {"rows": rows_parameter(made)},
        )
    )
    found = connection.execute(
        sa.text(
            "SELECT t.pk, t.partition, t.identity, t.source FROM patient t"
            " JOIN unnest(CAST(:partitions AS text[]), CAST(:identities AS text[]))"
            " AS w(partition, identity)"
            " ON t.partition = w.partition AND t.identity = w.identity"
            " ORDER BY t.partition, t.identity FOR UPDATE OF t"
        ),
        {"partitions": [key[0] for key in wanted], "identities": [key[1] for key in wanted]},
    )
    for row in found:
        rows.patients[row.partition, row.identity] = Row(row.pk, row.source, row.pk in new)
    if wanted.keys() - rows.patients.keys():
        raise IndexContended(_VANISHED)


def lock_studies(
    connection: Connection,
    rows: Rows,
    entries: Sequence[Entry],
    also: Iterable[StudyKey],
    now: datetime,
) -> None:
    """Finds or makes the studies of the entries and locks them, and `also` those that exist."""
    sources = lowest(entries, lambda entry: entry.study_key)
    made = [
        {
            "patient_pk": rows.patients[entry.partition, rows.identities[entry.object_id]].pk,
            "partition": entry.partition,
            "study_instance_uid": entry.StudyInstanceUID,
            **study_source_values(entry.object_id, entry.attributes),
            "first_received_at": received_at(entry.object_id),
            "last_received_at": received_at(entry.object_id),
            "indexed_at": now,
        }
        for entry in sources.values()
    ]
    new = set(
        connection.scalars(
            insert_rows(
                study,
                made[0],
                order="partition, study_instance_uid",
                conflict="(partition, study_instance_uid)",
                returning="pk",
            ),
            {"rows": rows_parameter(made)},
        )
    )
    wanted = sources.keys() | set(also)
    found = connection.execute(
        sa.text(
            "SELECT t.pk, t.partition, t.study_instance_uid, t.source, t.patient_pk FROM study t"
            " JOIN unnest(CAST(:partitions AS text[]), CAST(:uids AS text[]))"
            " AS w(partition, uid) ON t.partition = w.partition AND t.study_instance_uid = w.uid"
            " ORDER BY t.partition, t.study_instance_uid FOR UPDATE OF t"
        ),
        {"partitions": [key[0] for key in wanted], "uids": [key[1] for key in wanted]},
    )
    for row in found:
        key = (row.partition, row.study_instance_uid)
        rows.studies[key] = StudyRow(row.pk, row.source, row.pk in new, key, row.patient_pk)
    if sources.keys() - rows.studies.keys():
        raise IndexContended(_VANISHED)


def lock_series_uids(connection: Connection, uids: Iterable[tuple[str, str]]) -> None:
    """Locks series UIDs, each with its partition.

    So that of two studies that get a series of the same UID at once, one sees the other.
    """
    buckets = {crc32(f"{partition}\n{uid}".encode()) % _SERIES_BUCKETS for partition, uid in uids}
    connection.execute(
        sa.text(
            "SELECT pg_advisory_xact_lock(:lock, bucket)"
            " FROM unnest(CAST(:buckets AS integer[])) AS b(bucket)"
        ),
        {"lock": _SERIES_LOCK, "buckets": sorted(buckets)},
    )


def lock_series(connection: Connection, rows: Rows, entries: Sequence[Entry]) -> None:
    """Finds or makes the series of the entries.

    The locks of their studies cover them.
    """
    lock_series_uids(connection, ((entry.partition, entry.SeriesInstanceUID) for entry in entries))
    sources = lowest(
        entries, lambda entry: (rows.studies[entry.study_key].pk, entry.SeriesInstanceUID)
    )
    made = [
        {
            "study_pk": study_pk,
            "series_instance_uid": SeriesInstanceUID,
            **series_source_values(entry.object_id, entry.attributes),
        }
        for (study_pk, SeriesInstanceUID), entry in sources.items()
    ]
    new = set(
        connection.scalars(
            insert_rows(
                series,
                made[0],
                order="study_pk, series_instance_uid",
                conflict="(study_pk, series_instance_uid)",
                returning="pk",
            ),
            {"rows": rows_parameter(made)},
        )
    )
    find_series(connection, rows, sources, new)


def find_series(
    connection: Connection, rows: Rows, wanted: Iterable[SeriesKey], new: set[int]
) -> None:
    """Looks up series of locked studies. All of them must exist."""
    wanted = set(wanted)
    found = connection.execute(
        sa.text(
            "SELECT t.pk, t.study_pk, t.series_instance_uid, t.source FROM series t"
            " JOIN unnest(CAST(:studies AS bigint[]), CAST(:uids AS text[])) AS w(study_pk, uid)"
            " ON t.study_pk = w.study_pk AND t.series_instance_uid = w.uid"
        ),
        {"studies": [key[0] for key in wanted], "uids": [key[1] for key in wanted]},
    )
    for row in found:
        rows.series[row.study_pk, row.series_instance_uid] = Row(row.pk, row.source, row.pk in new)
    if wanted - rows.series.keys():
        raise IndexContended(_VANISHED)


def headers_of(
    connection: Connection, object_ids: Iterable[UUID], entries: Mapping[UUID, Entry]
) -> dict[UUID, dict[str, Any]]:
    """The headers of objects: those of the batch from memory, the others from their rows."""
    wanted = set(object_ids)
    found = {
        object_id: entries[object_id].attributes for object_id in wanted if object_id in entries
    }
    stored = wanted - found.keys()
    if stored:
        answer = connection.execute(
            sa.text("SELECT object_id, codec, data FROM header WHERE object_id = ANY(:ids)"),
            {"ids": list(stored)},
        )
        found |= {row.object_id: decode_header(row.codec, row.data) for row in answer}
    return found

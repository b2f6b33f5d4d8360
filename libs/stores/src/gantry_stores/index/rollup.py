"""What series, studies and patients say after a batch: sources, counts and sets, recomputed.

The source of a level is the lowest object among its primaries; whatever the order of indexing,
the rows end up the same. Rows without any primary are removed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.attributes import Level
from gantry_domain.entries import Entry
from gantry_domain.keys import received_at
from gantry_domain.levels import level_values, patient_identity
from gantry_stores.index.level_rows import (
    PatientKey,
    Row,
    Rows,
    StudyKey,
    StudyRow,
    ensure_patients,
    headers_of,
    series_source_values,
    study_source_values,
)
from gantry_stores.index.recordsets import rows_parameter, update_rows
from gantry_stores.index.schema import patient, series, study

_NO_SOURCE = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Rolled:
    """What changed above the instances.

    `studies` are those whose primaries changed and that still exist, `removed_series` the UIDs of
    series that were removed, `moved_studies` those that went to another patient.
    """

    studies: frozenset[int] = frozenset()
    removed_series: frozenset[str] = frozenset()
    moved_studies: frozenset[int] = frozenset()


def roll_up(
    connection: Connection,
    rows: Rows,
    *,
    entries: Sequence[Entry],
    primaries: Sequence[Entry],
    disturbed: frozenset[int],
    now: datetime,
) -> Rolled:
    """Bring the rows of all levels to what the instances say, as the module describes.

    `primaries` are those of the new `entries` that count, `disturbed` the series in which an
    instance was moved or got another object.
    """
    batch = {entry.object_id: entry for entry in entries}
    candidates: dict[int, UUID] = {}
    for entry in primaries:
        candidates.setdefault(rows.series_of(entry).pk, entry.object_id)
    new = {row.pk for row in rows.series.values() if row.new}
    touched = candidates.keys() | disturbed | new
    removed = _series(
        connection,
        rows,
        touched=touched,
        candidates=candidates,
        disturbed=disturbed,
        batch=batch,
    )
    return _Studies(connection, rows, batch, primaries, now=now).run(
        {key[0] for key, row in rows.series.items() if row.pk in touched}
        | {row.pk for row in rows.studies.values() if row.new},
        removed,
    )


def roll_up_anew(
    connection: Connection,
    key: StudyKey,
    *,
    pk: int,
    patient_pk: int,
    identity: str,
    now: datetime,
) -> tuple[Rows, Rolled]:
    """Make a study's row and that of its patient anew from their headers, which have changed.

    Both are locked, and its instances say already whose they are. What there is now, and what
    changed.
    """
    rows = Rows()
    # As of rows that have just been made nothing of them is believed.
    rows.patients[key[0], identity] = Row(patient_pk, _NO_SOURCE, True)
    rows.studies[key] = StudyRow(pk, _NO_SOURCE, True, key, patient_pk)
    return rows, _Studies(connection, rows, {}, (), now=now).run({pk}, frozenset())


def _lowest_by(connection: Connection, sql: str, pks: Iterable[int]) -> dict[int, UUID]:
    wanted = sorted(pks)
    if not wanted:
        return {}
    return {row.pk: row.source for row in connection.execute(sa.text(sql), {"pks": wanted})}


def _series(
    connection: Connection,
    rows: Rows,
    *,
    touched: Iterable[int],
    candidates: Mapping[int, UUID],
    disturbed: frozenset[int],
    batch: Mapping[UUID, Entry],
) -> frozenset[str]:
    """Updates or removes the touched series; returns the UIDs of those removed."""
    by_pk = {row.pk: row for row in rows.series.values()}
    touched = sorted(touched)
    counts: dict[int, int] = {}
    classes: dict[int, list[str]] = {}
    for row in connection.execute(
        sa.text(
            "SELECT series_pk, sop_class_uid, count(*) AS number FROM instance"
            " WHERE series_pk = ANY(:pks) GROUP BY series_pk, sop_class_uid"
            " ORDER BY series_pk, sop_class_uid"
        ),
        {"pks": touched},
    ):
        counts[row.series_pk] = counts.get(row.series_pk, 0) + row.number
        classes.setdefault(row.series_pk, []).append(row.sop_class_uid)
    scanned = _lowest_by(
        connection,
        "SELECT DISTINCT ON (series_pk) series_pk AS pk, object_id AS source FROM instance"
        " WHERE series_pk = ANY(:pks) ORDER BY series_pk, object_id",
        disturbed,
    )

    empty = [pk for pk in touched if pk not in counts]
    updates = []
    sources: dict[int, UUID] = {}
    for pk in touched:
        if pk not in counts:
            continue
        updates.append(
            {
                "pk": pk,
                "number_of_series_related_instances": counts[pk],
                "sop_classes_in_series": classes[pk],
            }
        )
        source = scanned.get(pk) or _lower(by_pk[pk], candidates.get(pk))
        if source != by_pk[pk].source:
            sources[pk] = source
    if updates:
        connection.execute(
            update_rows(series, updates[0], key="pk"), {"rows": rows_parameter(updates)}
        )
    if sources:
        headers = headers_of(connection, sources.values(), batch)
        values = [
            {"pk": pk, **series_source_values(source, headers[source])}
            for pk, source in sources.items()
        ]
        connection.execute(
            update_rows(series, values[0], key="pk"), {"rows": rows_parameter(values)}
        )
    if not empty:
        return frozenset()
    uids = connection.scalars(
        sa.text("DELETE FROM series WHERE pk = ANY(:pks) RETURNING series_instance_uid"),
        {"pks": empty},
    )
    return frozenset(uids)


def _lower(row: Row, candidate: UUID | None) -> UUID:
    """The source of a row whose earlier primaries all remain; a new row has a candidate."""
    kept = None if row.new else row.source
    return min(source for source in (kept, candidate) if source is not None)


@dataclass(frozen=True, slots=True)
class _Summary:
    """What the series of a study add up to."""

    source: UUID
    modalities: list[str]
    sop_classes: list[str]
    series: int
    instances: int


class _Studies:
    """The studies and patients of one batch."""

    def __init__(
        self,
        connection: Connection,
        rows: Rows,
        batch: Mapping[UUID, Entry],
        primaries: Sequence[Entry],
        *,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._rows = rows
        self._batch = batch
        self._now = now
        self._studies = {row.pk: row for row in rows.studies.values()}
        self._received: dict[int, list[datetime]] = {}
        for entry in primaries:
            moments = self._received.setdefault(rows.studies[entry.study_key].pk, [])
            moments.append(received_at(entry.object_id))

    def run(self, touched: set[int], removed_series: frozenset[str]) -> Rolled:
        summaries = self._summaries(touched)
        empty = touched - summaries.keys()
        changed = {
            pk: summary.source
            for pk, summary in summaries.items()
            if summary.source != self._studies[pk].source
        }
        headers = headers_of(self._connection, changed.values(), self._batch)
        patients = self._patients_of(changed, headers)
        moved = {pk: new for pk, new in patients.items() if new != self._studies[pk].patient_pk}
        self._update_summaries(summaries)
        self._update_sources(changed, headers, patients)
        if empty:
            self._connection.execute(
                sa.text("DELETE FROM study WHERE pk = ANY(:pks)"), {"pks": sorted(empty)}
            )
        self._patients(summaries, moved, empty)
        return Rolled(frozenset(summaries), removed_series, frozenset(moved))

    def _summaries(self, touched: Iterable[int]) -> dict[int, _Summary]:
        found: dict[int, list[Any]] = {}
        for row in self._connection.execute(
            sa.text(
                "SELECT study_pk, source, modality, sop_classes_in_series AS sop_classes,"
                " number_of_series_related_instances AS instances"
                " FROM series WHERE study_pk = ANY(:pks)"
            ),
            {"pks": sorted(touched)},
        ):
            found.setdefault(row.study_pk, []).append(row)
        return {
            pk: _Summary(
                source=min(row.source for row in members),
                modalities=sorted({row.modality for row in members if row.modality}),
                sop_classes=sorted({uid for row in members for uid in row.sop_classes}),
                series=len(members),
                instances=sum(row.instances for row in members),
            )
            for pk, members in found.items()
        }

    def _patients_of(
        self, changed: Mapping[int, UUID], headers: Mapping[UUID, dict[str, Any]]
    ) -> dict[int, int]:
        """The patient of each study whose source changed; missing ones are made."""
        keys: dict[int, PatientKey] = {}
        wanted: dict[PatientKey, tuple[UUID, dict[str, Any]]] = {}
        for pk, source in changed.items():
            partition, uid = self._studies[pk].key
            keys[pk] = (partition, patient_identity(headers[source], uid))
            if keys[pk] not in self._rows.patients:
                wanted[keys[pk]] = (source, headers[source])
        if wanted:
            ensure_patients(self._connection, self._rows, wanted)
        return {pk: self._rows.patients[key].pk for pk, key in keys.items()}

    def _update_summaries(self, summaries: Mapping[int, _Summary]) -> None:
        if not summaries:
            return
        rows = [
            {
                "pk": pk,
                "modalities_in_study": summary.modalities,
                "sop_classes_in_study": summary.sop_classes,
                "number_of_study_related_series": summary.series,
                "number_of_study_related_instances": summary.instances,
                "first": min(self._received.get(pk, [received_at(summary.source)])),
                "last": max(self._received.get(pk, [received_at(summary.source)])),
            }
            for pk, summary in sorted(summaries.items())
        ]
        self._connection.execute(
            sa.text(
                "UPDATE study AS t SET modalities_in_study = r.modalities_in_study,"
                " sop_classes_in_study = r.sop_classes_in_study,"
                " number_of_study_related_series = r.number_of_study_related_series,"
                " number_of_study_related_instances = r.number_of_study_related_instances,"
                " first_received_at = least(t.first_received_at, r.first),"
                " last_received_at = greatest(t.last_received_at, r.last),"
                " revision = t.revision + 1, indexed_at = :now"
                " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(pk bigint,"
                " modalities_in_study text[], sop_classes_in_study text[],"
                " number_of_study_related_series integer,"
                " number_of_study_related_instances integer,"
                " first timestamptz, last timestamptz) WHERE t.pk = r.pk"
            ),
            {"rows": rows_parameter(rows), "now": self._now},
        )

    def _update_sources(
        self,
        changed: Mapping[int, UUID],
        headers: Mapping[UUID, dict[str, Any]],
        patients: Mapping[int, int],
    ) -> None:
        if not changed:
            return
        rows = [
            {
                "pk": pk,
                "patient_pk": patients[pk],
                **study_source_values(source, headers[source]),
            }
            for pk, source in changed.items()
        ]
        self._connection.execute(
            update_rows(study, rows[0], key="pk"), {"rows": rows_parameter(rows)}
        )

    def _patients(
        self, summaries: Mapping[int, _Summary], moved: Mapping[int, int], empty: Iterable[int]
    ) -> None:
        """Updates the patients of the touched studies; removes those left without any."""
        known = {row.pk: row for row in self._rows.patients.values()}
        candidates: dict[int, UUID] = {}
        rescan = {row.pk for row in known.values() if row.new}
        for pk, summary in summaries.items():
            before = self._studies[pk]
            owner = moved.get(pk, before.patient_pk)
            candidates[owner] = min(summary.source, candidates.get(owner, summary.source))
            if not before.new and (owner != before.patient_pk or summary.source > before.source):
                rescan.add(before.patient_pk)
        rescan |= {self._studies[pk].patient_pk for pk in (*empty, *moved)}
        self._lock(rescan - known.keys(), known)
        found = self._sources_of(rescan)
        orphans = sorted(rescan - found.keys())
        changed = {
            pk: source
            for pk, source in {
                **{
                    pk: min(source, known[pk].source)
                    for pk, source in candidates.items()
                    if pk not in rescan and pk in known
                },
                **found,
            }.items()
            if source != known[pk].source
        }
        if changed:
            headers = headers_of(self._connection, changed.values(), self._batch)
            rows = []
            for pk, source in sorted(changed.items()):
                values = level_values(headers[source], Level.PATIENT)
                rows.append(
                    {"pk": pk, "source": source, **values.columns, "attributes": values.attributes}
                )
            self._connection.execute(
                update_rows(patient, rows[0], key="pk"), {"rows": rows_parameter(rows)}
            )
        if orphans:
            self._connection.execute(
                sa.text("DELETE FROM patient WHERE pk = ANY(:pks)"), {"pks": orphans}
            )

    def _lock(self, pks: set[int], known: dict[int, Row]) -> None:
        """Locks patients whose studies went elsewhere. Rarely needed, and out of order: a
        deadlock is retried."""
        if pks:
            for row in self._connection.execute(
                sa.text(
                    "SELECT pk, source FROM patient WHERE pk = ANY(:pks) ORDER BY pk FOR UPDATE"
                ),
                {"pks": sorted(pks)},
            ):
                known[row.pk] = Row(row.pk, row.source, False)

    def _sources_of(self, pks: set[int]) -> dict[int, UUID]:
        return _lowest_by(
            self._connection,
            "SELECT DISTINCT ON (patient_pk) patient_pk AS pk, source FROM study"
            " WHERE patient_pk = ANY(:pks) ORDER BY patient_pk, source",
            pks,
        )

"""Findings of a batch: what the headers told, and what objects of a study say of each other."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.duplicates import ObjectState
from gantry_domain.entries import Entry
from gantry_domain.policies.findings import Severity
from gantry_stores.index.contested import Contest
from gantry_stores.index.level_rows import Rows
from gantry_stores.index.recordsets import rows_parameter
from gantry_stores.index.rollup import Rolled

# An object in conflict with the primary of its SOP Instance UID; `detail` is the reason.
CONFLICTING_INSTANCE = "conflicting_instance"
# An instance whose patient is not that of its study's source.
SEVERAL_PATIENT_IDS = "several_patient_ids"
# The source of each of several series that have one UID in different studies.
SERIES_IN_SEVERAL_STUDIES = "series_in_several_studies"

_COMPUTED = [CONFLICTING_INSTANCE, SEVERAL_PATIENT_IDS, SERIES_IN_SEVERAL_STUDIES]


def write_findings(
    connection: Connection,
    rows: Rows,
    *,
    entries: Sequence[Entry],
    primaries: Sequence[Entry],
    contest: Contest,
    rolled: Rolled,
) -> None:
    """Write the findings of new entries, and bring those up to date that others cause."""
    found: list[dict[str, Any]] = [
        {
            "object_id": entry.object_id,
            "rule": finding.rule,
            "severity": finding.severity,
            "tag": finding.tag,
            "detail": finding.detail,
        }
        for entry in entries
        for finding in entry.findings
    ]
    if contest.changed:
        connection.execute(
            sa.text("DELETE FROM finding WHERE object_id = ANY(:ids) AND rule = ANY(:rules)"),
            {"ids": sorted(contest.changed), "rules": _COMPUTED},
        )
        found += [
            {
                "object_id": object_id,
                "rule": CONFLICTING_INSTANCE,
                "severity": Severity.ERROR,
                "tag": None,
                "detail": contest.outcomes[object_id].reason,
            }
            for object_id in sorted(contest.changed)
            if contest.outcomes[object_id].state is ObjectState.CONFLICT
        ]
    if found:
        connection.execute(
            sa.text(
                "INSERT INTO finding (object_id, rule, severity, tag, detail)"
                " SELECT object_id, rule, severity, tag, detail"
                " FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
                " AS r(object_id uuid, rule text, severity text, tag text, detail text)"
            ),
            {"rows": rows_parameter(found)},
        )
    _several_patients(connection, rows, primaries=primaries, contest=contest, rolled=rolled)
    _several_studies(
        connection,
        {(entry.partition, entry.SeriesInstanceUID) for entry in entries},
        rolled,
    )


def _several_patients(
    connection: Connection,
    rows: Rows,
    *,
    primaries: Sequence[Entry],
    contest: Contest,
    rolled: Rolled,
) -> None:
    owners = {
        rows.studies[entry.study_key].pk: rows.patients.get(
            (entry.partition, rows.identities[entry.object_id])
        )
        for entry in primaries
    }
    identities: dict[int, set[str]] = {}
    for entry in primaries:
        pk = rows.studies[entry.study_key].pk
        identities.setdefault(pk, set()).add(rows.identities[entry.object_id])
    doubtful = set(rolled.moved_studies)
    for row in rows.studies.values():
        if row.pk not in rolled.studies:
            continue
        told = identities.get(row.pk, set())
        owner = owners.get(row.pk)
        # Its patient is the one that all of the batch name: nothing new to find.
        if len(told) > 1 or owner is None or owner.pk != row.patient_pk or contest.disturbed:
            doubtful.add(row.pk)
    if not doubtful:
        return
    parameters = {"pks": sorted(doubtful), "rule": SEVERAL_PATIENT_IDS, "severity": Severity.ERROR}
    connection.execute(
        sa.text(
            "DELETE FROM finding f USING instance i, series s WHERE f.rule = :rule"
            " AND f.object_id = i.object_id AND i.series_pk = s.pk AND s.study_pk = ANY(:pks)"
        ),
        parameters,
    )
    connection.execute(
        sa.text(
            "INSERT INTO finding (object_id, rule, severity)"
            " SELECT i.object_id, :rule, :severity FROM study t JOIN patient p"
            " ON p.pk = t.patient_pk JOIN series s ON s.study_pk = t.pk"
            " JOIN instance i ON i.series_pk = s.pk"
            " WHERE t.pk = ANY(:pks) AND i.patient_identity <> p.identity"
        ),
        parameters,
    )


def _several_studies(
    connection: Connection, keys: Iterable[tuple[str, str]], rolled: Rolled
) -> None:
    keys = set(keys)
    uids = {uid for _partition, uid in keys} | rolled.removed_series
    found: dict[tuple[str, str], list[Any]] = {}
    for row in connection.execute(
        sa.text(
            "SELECT s.pk, s.source, s.series_instance_uid, t.partition FROM series s"
            " JOIN study t ON t.pk = s.study_pk WHERE s.series_instance_uid = ANY(:uids)"
        ),
        {"uids": sorted(uids)},
    ):
        found.setdefault((row.partition, row.series_instance_uid), []).append(row)
    several = [row for members in found.values() if len(members) > 1 for row in members]
    single = [
        row
        for (_partition, uid), members in found.items()
        if len(members) == 1 and uid in rolled.removed_series
        for row in members
    ]
    if not several and not single:
        return
    connection.execute(
        sa.text(
            "DELETE FROM finding f USING instance i WHERE f.rule = :rule"
            " AND f.object_id = i.object_id AND i.series_pk = ANY(:pks)"
        ),
        {
            "rule": SERIES_IN_SEVERAL_STUDIES,
            "pks": sorted(row.pk for row in (*several, *single)),
        },
    )
    if several:
        connection.execute(
            sa.text(
                "INSERT INTO finding (object_id, rule, severity)"
                " SELECT id, :rule, :severity FROM unnest(CAST(:ids AS uuid[])) AS r(id)"
            ),
            {
                "rule": SERIES_IN_SEVERAL_STUDIES,
                "severity": Severity.WARNING,
                "ids": sorted(row.source for row in several),
            },
        )

"""Studies that wait for their verdict, and verdicts written for the revision they are about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.events import EventKind, Happening
from gantry_domain.policies.accession_number import NOT_UNIQUE
from gantry_domain.policies.evidence import Evidence, Look
from gantry_domain.policies.findings import Verdict, VerdictKind
from gantry_stores.index.events import note
from gantry_stores.index.evidence import COLUMNS, OrderFeed, gather
from gantry_stores.index.recordsets import rows_parameter
from gantry_stores.index.study_locks import lock_in_order

_NEWS = {
    VerdictKind.HELD: EventKind.HELD,
    VerdictKind.REFUSED: EventKind.REFUSED,
    VerdictKind.ACCEPTED: EventKind.RELEASED,
}

_NOT_JUDGED = "(judged_revision IS NULL OR judged_revision < revision)"
_JUDGED_BY_OTHERS = "judged_by IS DISTINCT FROM :policies"
# The same as ranges of an index, for of ten million studies none may be sorted or read in vain.
_RANGES_OF_OTHERS = ("judged_by IS NULL", "judged_by < :policies", "judged_by > :policies")


@dataclass(frozen=True, slots=True)
class WaitingStudy:
    """A study whose newest revision was not judged by the policies in force."""

    pk: int
    revision: int
    evidence_revision: int
    visible: bool
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """What is to be written of a study, if both its revisions are still the same."""

    pk: int
    revision: int
    evidence_revision: int
    verdict: Verdict


def waiting_studies(
    connection: Connection,
    *,
    policies: str,
    pks: Sequence[int] | None = None,
    limit: int,
    looks: frozenset[Look] = frozenset(),
    feed: OrderFeed | None = None,
) -> list[WaitingStudy]:
    """At most `limit` studies that wait, of `pks` or of all.

    `policies` is the fingerprint of those in force, `looks` what they ask for. Of all studies those
    that nobody judged at their revision come first.
    """
    parameters: dict[str, Any] = {"policies": policies, "limit": limit}
    rows: Sequence[sa.Row[Any]]
    if pks is not None:
        condition = f"pk = ANY(:pks) AND ({_NOT_JUDGED} OR {_JUDGED_BY_OTHERS})"
        rows = _select(connection, [condition], {**parameters, "pks": list(pks)})
    else:
        rows = _select(connection, [_NOT_JUDGED], parameters)
        if not rows:
            rows = _select(connection, _RANGES_OF_OTHERS, parameters)
    evidence = gather(connection, rows, looks=looks, feed=feed)
    return [
        WaitingStudy(row.pk, row.revision, row.evidence_revision, row.visible, evidence[row.pk])
        for row in rows
    ]


def _select(
    connection: Connection, conditions: Sequence[str], parameters: dict[str, Any]
) -> Sequence[sa.Row[Any]]:
    parts = [
        f"SELECT * FROM (SELECT {COLUMNS} FROM study WHERE {condition} LIMIT :limit) AS w"  # noqa: S608 - constants
        for condition in conditions
    ]
    return connection.execute(
        sa.text(" UNION ALL ".join(parts) + " LIMIT :limit"), parameters
    ).all()


def count_waiting(connection: Connection, *, limit: int) -> int:
    """How many studies wait for a verdict on their revision, counted up to `limit`."""
    return int(
        connection.scalar(
            sa.text(
                f"SELECT count(*) FROM (SELECT 1 FROM study WHERE {_NOT_JUDGED} LIMIT :limit) AS w"  # noqa: S608 - constants
            ),
            {"limit": limit},
        )
        or 0
    )


def write_verdicts(
    connection: Connection, verdicts: Sequence[StudyVerdict], *, policies: str
) -> set[int]:
    """Write the verdicts and findings of studies that are unchanged; returns their pks.

    A study that is visible by now stays so, whatever was known when it was judged, unless a person
    refused it.
    """
    if not verdicts:
        return set()
    lock_in_order(connection, [each.pk for each in verdicts])
    before = _verdicts(connection, [each.pk for each in verdicts])
    written = set(
        connection.scalars(
            sa.text(
                "UPDATE study AS t SET judged_revision = r.revision, judged_by = :policies,"
                " verdict = r.kind,"
                " visible = r.visible OR (t.visible AND r.kind <> 'refused')"
                " FROM unnest(CAST(:pks AS bigint[]), CAST(:revisions AS bigint[]),"
                " CAST(:seen AS bigint[]), CAST(:kinds AS text[]), CAST(:visible AS boolean[]))"
                " AS r(pk, revision, seen, kind, visible)"
                " WHERE t.pk = r.pk AND t.revision = r.revision"
                " AND t.evidence_revision = r.seen RETURNING t.pk"
            ),
            {
                "policies": policies,
                "pks": [each.pk for each in verdicts],
                "revisions": [each.revision for each in verdicts],
                "seen": [each.evidence_revision for each in verdicts],
                "kinds": [each.verdict.kind.value for each in verdicts],
                "visible": [each.verdict.visible for each in verdicts],
            },
        )
    )
    new = [each for each in verdicts if each.pk in written]
    _write_findings(connection, new)
    _tell_namesakes(connection, new)
    note(connection, filter(None, (_happening(before[each.pk], each) for each in new)))
    return written


def _verdicts(connection: Connection, pks: Sequence[int]) -> dict[int, sa.Row[Any]]:
    rows = connection.execute(
        sa.text(
            "SELECT pk, partition, study_instance_uid, verdict FROM study WHERE pk = ANY(:pks)"
        ),
        {"pks": list(pks)},
    )
    return {row.pk: row for row in rows}


def _happening(before: sa.Row[Any], given: StudyVerdict) -> Happening | None:
    """What others are told of a verdict: that a study is accepted from the first is no news."""
    kind = given.verdict.kind
    if kind is (VerdictKind(before.verdict) if before.verdict else VerdictKind.ACCEPTED):
        return None
    return Happening(
        kind=_NEWS[kind], partition=before.partition, StudyInstanceUID=before.study_instance_uid
    )


def _write_findings(connection: Connection, verdicts: Sequence[StudyVerdict]) -> None:
    connection.execute(
        sa.text("DELETE FROM study_finding WHERE study_pk = ANY(:pks)"),
        {"pks": [each.pk for each in verdicts]},
    )
    found = [
        {
            "study_pk": each.pk,
            "place": place,
            "rule": finding.rule,
            "code": finding.code,
            "severity": finding.severity,
            "detail": finding.detail,
        }
        for each in verdicts
        for place, finding in enumerate(each.verdict.findings)
    ]
    if found:
        connection.execute(
            sa.text(
                "INSERT INTO study_finding (study_pk, place, rule, code, severity, detail)"
                " SELECT study_pk, place, rule, code, severity, detail"
                " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(study_pk bigint,"
                " place smallint, rule text, code text, severity text, detail text)"
            ),
            {"rows": rows_parameter(found)},
        )


def _tell_namesakes(connection: Connection, verdicts: Sequence[StudyVerdict]) -> None:
    """Studies that had their accession number for themselves, until now, are to be judged anew."""
    shared = [
        each.pk
        for each in verdicts
        if any(finding.code == NOT_UNIQUE for finding in each.verdict.findings)
    ]
    if not shared:
        return
    connection.execute(
        sa.text(
            "INSERT INTO evidence_change (partition, accession_number)"
            " SELECT DISTINCT t.partition, t.accession_number FROM study t WHERE t.pk = ANY(:pks)"
            # Where thousands have one number, as devices that number nothing, the first few tell.
            " AND EXISTS (SELECT 1 FROM (SELECT o.pk FROM study o WHERE o.partition = t.partition"
            " AND o.accession_number = t.accession_number AND o.pk <> t.pk LIMIT 5) AS o"
            " WHERE NOT EXISTS (SELECT 1 FROM study_finding f WHERE f.study_pk = o.pk"
            " AND f.code = :code))"
        ),
        {"pks": shared, "code": NOT_UNIQUE},
    )

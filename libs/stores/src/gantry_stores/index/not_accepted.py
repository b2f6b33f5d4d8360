"""Studies that are held or refused, with the findings that say why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.policies.findings import Severity, StudyFinding, VerdictKind

_STUDIES = """
    SELECT pk, partition, study_instance_uid, verdict, visible, last_received_at,
           modalities_in_study AS modalities, number_of_study_related_instances AS instances
    FROM study WHERE verdict = ANY(:verdicts) AND verdict <> 'accepted'
      AND (CAST(:partition AS text) IS NULL OR partition = :partition)
      AND (CAST(:before AS bigint) IS NULL OR pk < :before)
    ORDER BY pk DESC LIMIT :limit
"""

_FINDINGS = """
    SELECT study_pk, rule, code, severity, detail FROM study_finding
    WHERE study_pk = ANY(:pks) AND severity <> 'info' ORDER BY study_pk, place
"""


@dataclass(frozen=True, slots=True)
class StudyNotAccepted:
    """A study that is not forwarded; `visible` where it is shown all the same.

    `findings` are those that weigh; moments are aware. `number`: older ones have a lower one.
    """

    number: int
    partition: str
    StudyInstanceUID: str
    verdict: VerdictKind
    visible: bool
    ModalitiesInStudy: tuple[str, ...]
    instances: int
    last_received_at: datetime
    findings: tuple[StudyFinding, ...]


def studies_not_accepted(
    connection: Connection,
    verdicts: Sequence[VerdictKind],
    *,
    limit: int,
    partition: str | None = None,
    before: int | None = None,
) -> list[StudyNotAccepted]:
    """At most `limit` studies with one of these verdicts, of one partition or of all, the newest
    first: those `before` the one of this number."""
    studies = connection.execute(
        sa.text(_STUDIES),
        {
            "verdicts": [each.value for each in verdicts],
            "limit": limit,
            "partition": partition,
            "before": before,
        },
    ).all()
    findings: dict[int, list[StudyFinding]] = {}
    for row in connection.execute(sa.text(_FINDINGS), {"pks": [study.pk for study in studies]}):
        findings.setdefault(row.study_pk, []).append(
            StudyFinding(row.rule, row.code, Severity(row.severity), row.detail)
        )
    return [
        StudyNotAccepted(
            study.pk,
            study.partition,
            study.study_instance_uid,
            VerdictKind(study.verdict),
            study.visible,
            tuple(study.modalities),
            study.instances,
            study.last_received_at,
            tuple(findings.get(study.pk, ())),
        )
        for study in studies
    ]

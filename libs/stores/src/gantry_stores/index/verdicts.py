"""Studies that wait for their verdict, and verdicts written for the revision they are about."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.policies.findings import VerdictKind

_COLUMNS = "pk, revision, visible"


@dataclass(frozen=True, slots=True)
class WaitingStudy:
    """A study whose newest revision nobody judged."""

    pk: int
    revision: int
    visible: bool


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """What is to be written of a study, if its revision is still the same."""

    pk: int
    revision: int
    kind: VerdictKind
    visible: bool


def waiting_studies(
    connection: Connection, *, pks: Sequence[int] | None = None, limit: int
) -> list[WaitingStudy]:
    """At most `limit` studies that wait, of `pks` or of all."""
    condition = "" if pks is None else " AND pk = ANY(:pks)"
    rows = connection.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM study"  # noqa: S608 - constants
            f" WHERE (judged_revision IS NULL OR judged_revision < revision){condition}"
            " ORDER BY pk LIMIT :limit"
        ),
        {"limit": limit} if pks is None else {"limit": limit, "pks": list(pks)},
    )
    return [WaitingStudy(row.pk, row.revision, row.visible) for row in rows]


def count_waiting(connection: Connection, *, limit: int) -> int:
    """How many studies wait for a verdict, counted up to `limit`."""
    return int(
        connection.scalar(
            sa.text(
                "SELECT count(*) FROM (SELECT 1 FROM study"
                " WHERE judged_revision IS NULL OR judged_revision < revision LIMIT :limit) AS w"
            ),
            {"limit": limit},
        )
        or 0
    )


def write_verdicts(connection: Connection, verdicts: Sequence[StudyVerdict]) -> set[int]:
    """Writes the verdicts of studies that are unchanged; returns their pks."""
    if not verdicts:
        return set()
    # In the order in which indexing locks studies.
    connection.execute(
        sa.text(
            "SELECT pk FROM study WHERE pk = ANY(:pks)"
            " ORDER BY partition, study_instance_uid FOR UPDATE"
        ),
        {"pks": [verdict.pk for verdict in verdicts]},
    )
    written = connection.scalars(
        sa.text(
            "UPDATE study AS t SET judged_revision = r.revision, verdict = r.kind,"
            " visible = r.visible FROM unnest(CAST(:pks AS bigint[]),"
            " CAST(:revisions AS bigint[]), CAST(:kinds AS text[]), CAST(:visible AS boolean[]))"
            " AS r(pk, revision, kind, visible)"
            " WHERE t.pk = r.pk AND t.revision = r.revision RETURNING t.pk"
        ),
        {
            "pks": [verdict.pk for verdict in verdicts],
            "revisions": [verdict.revision for verdict in verdicts],
            "kinds": [verdict.kind.value for verdict in verdicts],
            "visible": [verdict.visible for verdict in verdicts],
        },
    )
    return set(written)

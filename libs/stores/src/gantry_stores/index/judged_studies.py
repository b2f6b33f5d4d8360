"""Studies with what the rules look at, for people who ask why: read, and nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.policies.evidence import Evidence, Look
from gantry_domain.policies.findings import VerdictKind
from gantry_domain.policies.matching import Order
from gantry_stores.index.evidence import COLUMNS, OrderFeed, gather, order_of

_SUGGESTED = """
    SELECT o.accession_number, o.study_instance_uid, p.identity, p.attributes
    FROM order_patient p JOIN order_ o ON o.patient_pk = p.pk
    WHERE p.partition = :partition AND p.patient_id = ANY(:identifiers)
      AND EXISTS (SELECT 1 FROM order_step s WHERE s.order_pk = o.pk
                  AND s.scheduled_procedure_step_start_date BETWEEN :first AND :last)
    ORDER BY o.pk DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class JudgedStudy:
    """A study as it stands; `verdict` is None where nobody judged it yet."""

    pk: int
    partition: str
    StudyInstanceUID: str
    verdict: VerdictKind | None
    visible: bool
    evidence: Evidence


def page_of_studies(
    connection: Connection,
    *,
    after: int,
    since: datetime | None,
    limit: int,
    looks: frozenset[Look],
    feed: OrderFeed | None,
) -> list[JudgedStudy]:
    """At most `limit` studies, by pk, that come after this one and got an image since then.

    The transaction is read-only from here on.
    """
    connection.execute(sa.text("SET TRANSACTION READ ONLY"))
    rows = connection.execute(
        sa.text(
            f"SELECT {COLUMNS} FROM study WHERE pk > :after"  # noqa: S608 - constants
            " AND (CAST(:since AS timestamptz) IS NULL OR last_received_at >= :since)"
            " ORDER BY pk LIMIT :limit"
        ),
        {"after": after, "since": since, "limit": limit},
    ).all()
    return _studies(connection, rows, looks, feed)


def find_judged(
    connection: Connection,
    StudyInstanceUID: str,
    *,
    partition: str | None = None,
    feed: OrderFeed | None = None,
) -> list[JudgedStudy]:
    """The study of this UID in each partition that has it, with all that rules may look at."""
    rows = connection.execute(
        sa.text(
            f"SELECT {COLUMNS} FROM study WHERE study_instance_uid = :uid"  # noqa: S608 - constants
            " AND (CAST(:partition AS text) IS NULL OR partition = :partition) ORDER BY partition"
        ),
        {"uid": StudyInstanceUID, "partition": partition},
    ).all()
    return _studies(connection, rows, frozenset(Look), feed)


def suggested_orders(
    connection: Connection,
    *,
    partition: str,
    identifiers: Sequence[str],
    first: str,
    last: str,
    limit: int = 10,
) -> list[Order]:
    """Orders of a patient with one of these identifiers, from one date to another (YYYYMMDD).

    They only suggest: nothing is matched by them.
    """
    rows = connection.execute(
        sa.text(_SUGGESTED),
        {
            "partition": partition,
            "identifiers": list(identifiers),
            "first": first,
            "last": last,
            "limit": limit,
        },
    )
    return [
        order_of(row.study_instance_uid, row.accession_number, row.identity, row.attributes)
        for row in rows
    ]


def _studies(
    connection: Connection,
    rows: Sequence[sa.Row[Any]],
    looks: frozenset[Look],
    feed: OrderFeed | None,
) -> list[JudgedStudy]:
    evidence = gather(connection, rows, looks=looks, feed=feed)
    return [
        JudgedStudy(
            row.pk,
            row.partition,
            row.study_instance_uid,
            VerdictKind(row.verdict) if row.verdict else None,
            row.visible,
            evidence[row.pk],
        )
        for row in rows
    ]

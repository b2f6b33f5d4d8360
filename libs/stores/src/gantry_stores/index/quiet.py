"""Studies whose quiet time may be over, and completeness written for the revision that was seen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from gantry_domain.events import EventKind, Happening
from gantry_stores.index.asked_to_keep import asked_by, forget_asked
from gantry_stores.index.database import transaction
from gantry_stores.index.events import note
from gantry_stores.index.orders.expecting import awaited_since
from gantry_stores.index.study_locks import lock_in_order
from gantry_stores.index.told_counts import told_counts

_PAGE = 500

_NOT_COMPLETE = "(completed_revision IS NULL OR completed_revision < revision)"

_CANDIDATES = f"""
    SELECT pk, revision, last_received_at, indexed_at, modalities_in_study AS modalities,
           number_of_study_related_instances AS instances
    FROM study
    WHERE {_NOT_COMPLETE} AND indexed_at <= :indexed_before AND last_received_at <= :received_before
      AND (indexed_at, pk) > (:after, :after_pk)
    ORDER BY indexed_at, pk LIMIT :limit
"""  # noqa: S608 - constants

_SENDERS = """
    SELECT s.study_pk, array_agg(DISTINCT o.calling_ae) AS calling_aes
    FROM series s JOIN instance i ON i.series_pk = s.pk JOIN object o ON o.id = i.object_id
    WHERE s.study_pk = ANY(:pks) AND o.calling_ae <> '' GROUP BY s.study_pk
"""


@dataclass(frozen=True, slots=True)
class QuietStudy:
    """A study that nothing was added to for a while; moments are aware."""

    pk: int
    revision: int
    last_received_at: datetime
    indexed_at: datetime
    ModalitiesInStudy: tuple[str, ...]
    calling_aes: tuple[str, ...] = ()
    awaited_since: datetime | None = None
    """When its modality last told what it performs; None: nothing more is expected."""
    asked_by: str | None = None
    """Who asked to keep all that it has now, by AE title."""
    instances: int = 0
    told: Mapping[str, int] = field(default_factory=dict)
    """How many it has, as its senders say, by AE title."""


def quiet_studies(
    engine: Engine,
    *,
    indexed_before: datetime,
    received_before: datetime,
    with_senders: bool,
) -> Iterator[list[QuietStudy]]:
    """Pages of the studies that are not complete and were last received and indexed before these.

    `with_senders`: look up who sent them, which costs a walk over their instances. Each page is
    a transaction of its own. Raises `IndexUnavailable`.
    """
    after, after_pk = datetime.min.replace(tzinfo=indexed_before.tzinfo) + timedelta(days=1), 0
    while True:
        with transaction(engine) as connection:
            rows = connection.execute(
                sa.text(_CANDIDATES),
                {
                    "indexed_before": indexed_before,
                    "received_before": received_before,
                    "after": after,
                    "after_pk": after_pk,
                    "limit": _PAGE,
                },
            ).all()
            pks = [row.pk for row in rows]
            awaited = awaited_since(connection, pks) if pks else {}
            asked = asked_by(connection, pks) if pks else {}
            told = told_counts(connection, pks) if pks else {}
            senders: dict[int, list[str]] = {}
            if with_senders and rows:
                found = connection.execute(sa.text(_SENDERS), {"pks": pks})
                senders = {row.study_pk: row.calling_aes for row in found}
        if rows:
            after, after_pk = rows[-1].indexed_at, rows[-1].pk
            yield [
                QuietStudy(
                    row.pk,
                    row.revision,
                    row.last_received_at,
                    row.indexed_at,
                    tuple(row.modalities),
                    tuple(senders.get(row.pk, ())),
                    awaited.get(row.pk),
                    asked.get(row.pk),
                    row.instances,
                    told.get(row.pk, {}),
                )
                for row in rows
            ]
        if len(rows) < _PAGE:
            return


def write_complete(engine: Engine, studies: Sequence[QuietStudy]) -> int:
    """Mark those complete that have not changed; how many were. Raises `IndexUnavailable`."""
    if not studies:
        return 0
    with transaction(engine) as connection:
        lock_in_order(connection, [study.pk for study in studies])
        return _mark(connection, {study.pk: study.revision for study in studies})


def complete_now(connection: Connection, study_pks: Sequence[int]) -> int:
    """Mark studies complete as they are now; how many were not."""
    lock_in_order(connection, study_pks)
    rows = connection.execute(
        sa.text(f"SELECT pk, revision FROM study WHERE pk = ANY(:pks) AND {_NOT_COMPLETE}"),  # noqa: S608 - constants
        {"pks": list(study_pks)},
    ).all()
    return _mark(connection, {row.pk: row.revision for row in rows})


def note_all_indexed(connection: Connection, until: datetime) -> None:
    """Every object whose reception began before `until` has its row."""
    connection.execute(sa.text("UPDATE beginning SET all_indexed_until = :until"), {"until": until})


def all_indexed_until(connection: Connection) -> datetime | None:
    """Up to which moment that was so when the sweep last looked; None: it has not looked yet."""
    found: datetime | None = connection.scalar(
        sa.text("SELECT max(all_indexed_until) FROM beginning")
    )
    return found


def _mark(connection: Connection, revisions: Mapping[int, int]) -> int:
    """Of studies that are locked, those that still have this revision are complete."""
    complete = connection.execute(
        sa.text(
            "UPDATE study AS t SET completed_revision = r.revision, completed_at = now()"
            " FROM unnest(CAST(:pks AS bigint[]), CAST(:revisions AS bigint[]))"
            " AS r(pk, revision) WHERE t.pk = r.pk AND t.revision = r.revision"
            " RETURNING t.pk, t.partition, t.study_instance_uid AS uid,"
            " t.number_of_study_related_instances AS instances"
        ),
        {"pks": list(revisions), "revisions": list(revisions.values())},
    ).all()
    forget_asked(connection, [row.pk for row in complete])
    note(
        connection,
        [
            Happening(
                kind=EventKind.COMPLETE,
                partition=row.partition,
                StudyInstanceUID=row.uid,
                instances=row.instances,
            )
            for row in complete
        ],
    )
    return len(complete)

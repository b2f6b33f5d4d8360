"""Studies whose routes are to be asked, complete or before that, with what routes look at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.keys import received_at
from gantry_domain.route_parts import Part
from gantry_domain.routes import StudyFacts
from gantry_stores.index.recordsets import rows_parameter

_STUDY_DESCRIPTION = "00081030"
_SERIES_DESCRIPTION = "0008103E"

_STUDY = f"""
    SELECT pk, partition, study_instance_uid, revision, completed_at, modalities_in_study,
           sop_classes_in_study, attributes->'{_STUDY_DESCRIPTION}'->'Value'->>0 AS description,
           last_received_at >= (SELECT min(began_at) FROM beginning) AS received_since
    FROM study
"""  # noqa: S608 - constants

# Studies that are complete and accepted as they are now, and whose routes were not asked since.
_TO_ROUTE = f"""
    {_STUDY}
    WHERE (routed_revision IS NULL OR routed_revision < revision)
      AND completed_revision = revision AND judged_revision = revision AND verdict = 'accepted'
    ORDER BY pk LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
"""

# Studies that are not complete, of which something changed or a series may be quiet by now. What
# was stored before the index was made waits for its completeness, and then goes nowhere.
_TO_ASK_EARLY = f"""
    {_STUDY}
    WHERE (completed_revision IS NULL OR completed_revision < revision)
      AND judged_revision = revision AND verdict = 'accepted'
      AND (asked_revision IS DISTINCT FROM revision OR series_due_at <= :now)
      AND last_received_at >= (SELECT min(began_at) FROM beginning)
    ORDER BY pk LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
"""  # noqa: S608 - constants

_TO_REPLAY = f"""
    {_STUDY}
    WHERE partition = :partition AND study_instance_uid = :study AND verdict = 'accepted'
      AND judged_revision = revision AND completed_revision = revision
"""

_PARTS = f"""
    SELECT s.series_instance_uid, s.modality, i.sop_class_uid, o.calling_ae, o.called_ae,
           s.attributes->'{_SERIES_DESCRIPTION}'->'Value'->>0 AS description,
           max(o.indexed_at) AS indexed_at, CAST(max(CAST(o.id AS text)) AS uuid) AS last_id
    FROM series s JOIN instance i ON i.series_pk = s.pk JOIN object o ON o.id = i.object_id
    WHERE s.study_pk = :study_pk GROUP BY s.pk, i.sop_class_uid, o.calling_ae, o.called_ae
"""  # noqa: S608 - constants

_FINDINGS = """
    SELECT array_agg(DISTINCT rule) || array_agg(DISTINCT code)
    FROM study_finding WHERE study_pk = :study_pk AND severity <> 'info'
"""

_BEGUN = """
    SELECT destination FROM delivery
    WHERE origin = 'route' AND partition = :partition AND study_instance_uid = :study
      AND destination = ANY(:destinations)
"""


@dataclass(frozen=True, slots=True)
class StudyToRoute:
    """An accepted study at the revision that its facts describe.

    `completed_at` is None while it is not complete. `older_than_index`: all of it was stored before
    the index was made, by which it was found again.
    """

    pk: int
    StudyInstanceUID: str
    revision: int
    completed_at: datetime | None
    facts: StudyFacts
    older_than_index: bool
    parts: tuple[Part, ...] = ()


def studies_to_route(connection: Connection, *, limit: int, with_parts: bool) -> list[StudyToRoute]:
    """Lock at most `limit` studies that wait for their routes, for the rest of the transaction.

    `with_parts`: look up what they have and who sent it, which costs a walk over their instances,
    and what was found of them.
    """
    rows = connection.execute(sa.text(_TO_ROUTE), {"limit": limit}).all()
    return [_study(connection, row, with_parts=with_parts) for row in rows]


def studies_to_ask_early(
    connection: Connection, *, limit: int, now: datetime
) -> list[StudyToRoute]:
    """Lock at most `limit` studies of which something may leave before they are complete."""
    rows = connection.execute(sa.text(_TO_ASK_EARLY), {"limit": limit, "now": now}).all()
    return [replace(_study(connection, row, with_parts=True), completed_at=None) for row in rows]


def study_to_replay(
    connection: Connection, *, partition: str, StudyInstanceUID: str, with_parts: bool
) -> StudyToRoute | None:
    """A study that is complete and accepted as it is now; None: it is held, or still comes.

    What still comes goes by itself, and what is held does not leave. `with_parts`: see
    `studies_to_route`.
    """
    named = {"partition": partition, "study": StudyInstanceUID}
    row = connection.execute(sa.text(_TO_REPLAY), named).one_or_none()
    return None if row is None else _study(connection, row, with_parts=with_parts)


def _study(connection: Connection, row: sa.Row[Any], *, with_parts: bool) -> StudyToRoute:
    found = {"study_pk": row.pk}
    facts = StudyFacts(
        partition=row.partition,
        ModalitiesInStudy=tuple(row.modalities_in_study),
        SOPClassesInStudy=tuple(row.sop_classes_in_study),
        StudyDescription=row.description,
        findings=(tuple(connection.scalar(sa.text(_FINDINGS), found) or ()) if with_parts else ()),
    )
    parts = connection.execute(sa.text(_PARTS), found) if with_parts else ()
    return StudyToRoute(
        row.pk,
        row.study_instance_uid,
        row.revision,
        row.completed_at,
        facts,
        older_than_index=not row.received_since,
        parts=tuple(map(_part, parts)),
    )


def _part(row: sa.Row[Any]) -> Part:
    return Part(
        SeriesInstanceUID=row.series_instance_uid,
        SOPClassUID=row.sop_class_uid,
        Modality=row.modality,
        SeriesDescription=row.description,
        calling_ae=row.calling_ae,
        called_ae=row.called_ae,
        received_at=received_at(row.last_id),
        indexed_at=row.indexed_at,
    )


def part_rows(parts: Iterable[Part]) -> str:
    """Parts as a parameter, by which their instances are found."""
    return rows_parameter(
        {
            "series": part.SeriesInstanceUID,
            "sop_class": part.SOPClassUID,
            "calling_ae": part.calling_ae,
            "called_ae": part.called_ae,
        }
        for part in parts
    )


def begun_destinations(
    connection: Connection, study: StudyToRoute, destinations: Iterable[str]
) -> set[str]:
    """To which of them routes sent something of the study, or are about to."""
    values = {
        "partition": study.facts.partition,
        "study": study.StudyInstanceUID,
        "destinations": sorted(destinations),
    }
    return set(connection.scalars(sa.text(_BEGUN), values))


def mark_routed(connection: Connection, studies: Sequence[StudyToRoute]) -> None:
    """The routes of these studies were asked."""
    connection.execute(
        sa.text(
            "UPDATE study AS t SET routed_revision = r.revision"
            " FROM unnest(CAST(:pks AS bigint[]), CAST(:revisions AS bigint[]))"
            " AS r(pk, revision) WHERE t.pk = r.pk"
        ),
        {
            "pks": [study.pk for study in studies],
            "revisions": [study.revision for study in studies],
        },
    )


def mark_asked_early(
    connection: Connection, study: StudyToRoute, *, series_due_at: datetime | None
) -> None:
    """What may leave early of this study was planned; when its series are to be looked at again."""
    connection.execute(
        sa.text("UPDATE study SET asked_revision = :revision, series_due_at = :due WHERE pk = :pk"),
        {"pk": study.pk, "revision": study.revision, "due": series_due_at},
    )


def mark_all_routed(connection: Connection) -> None:
    """Nothing that is in the index now is routed anywhere: for an index built anew."""
    connection.execute(
        sa.text(
            "UPDATE study SET routed_revision = revision"
            " WHERE routed_revision IS NULL OR routed_revision < revision"
        )
    )

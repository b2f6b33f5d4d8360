"""Performed procedure steps: noted as modalities tell them, and what they make of orders."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from gantry_domain.events import EventKind
from gantry_domain.json_model import Element
from gantry_domain.orders.attributes import tag_of
from gantry_domain.orders.changes import merged
from gantry_domain.orders.refusals import PerformedExists, PerformedOver, PerformedUnknown
from gantry_domain.orders.states import Performed, StepState, state_after, wrong_entry
from gantry_stores.index.order_tables import order_, order_step, performed_for, performed_step
from gantry_stores.index.orders.news import tell

Attributes = Mapping[str, Element]

_SCHEDULED = tag_of("ScheduledStepAttributesSequence")
_SERIES = tag_of("PerformedSeriesSequence")
_REFERENCES = (
    tag_of("ReferencedImageSequence"),
    tag_of("ReferencedNonImageCompositeSOPInstanceSequence"),
)
_ENDS = {
    Performed.COMPLETED: EventKind.STEP_COMPLETED,
    Performed.DISCONTINUED: EventKind.STEP_DISCONTINUED,
}


def create_performed(
    connection: Connection,
    SOPInstanceUID: str,
    attributes: Attributes,
    *,
    partition: str,
    calling_ae: str,
    now: datetime,
) -> int:
    """Note a step that has begun; how many scheduled steps it is for.

    Raises `PerformedExists`.
    """
    statement = (
        insert(performed_step)
        .values(
            partition=partition,
            sop_instance_uid=SOPInstanceUID,
            state=Performed.IN_PROGRESS.value,
            calling_ae=calling_ae,
            study_instance_uids=list(_studies(attributes)),
            attributes=dict(attributes),
            instances=_instances(attributes),
            created_at=now,
            updated_at=now,
        )
        .on_conflict_do_nothing()
        .returning(performed_step.c.pk)
    )
    pk = connection.scalar(statement)
    if pk is None:
        raise PerformedExists
    tell(connection, EventKind.STEP_STARTED, partition, _studies(attributes))
    steps = sorted(set(_steps_meant(connection, attributes, partition)))
    if steps:
        connection.execute(
            sa.insert(performed_for), [{"step_pk": step, "performed_pk": pk} for step in steps]
        )
        _bring_to(connection, steps, now)
    return len(steps)


def set_performed(
    connection: Connection,
    SOPInstanceUID: str,
    attributes: Attributes,
    state: Performed | None,
    *,
    partition: str,
    now: datetime,
) -> int:
    """Change a step, or end it; how many scheduled steps it is for.

    Raises `PerformedUnknown` and `PerformedOver`.
    """
    columns = performed_step.c
    row = connection.execute(
        sa.select(columns.pk, columns.state, columns.attributes, columns.study_instance_uids)
        .where(columns.partition == partition, columns.sop_instance_uid == SOPInstanceUID)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise PerformedUnknown
    if row.state != Performed.IN_PROGRESS:
        raise PerformedOver
    everything = merged(row.attributes, attributes)
    instances = _instances(everything)
    end = None if state is None else _ENDS.get(state)
    connection.execute(
        sa.update(performed_step)
        .where(columns.pk == row.pk)
        .values(
            state=(state or Performed.IN_PROGRESS).value,
            attributes=everything,
            instances=instances,
            settled_at=now if end is not None and not instances else None,
            updated_at=now,
        )
    )
    if end is not None:
        tell(connection, end, partition, row.study_instance_uids)
    steps = sorted(
        connection.scalars(
            sa.select(performed_for.c.step_pk).where(performed_for.c.performed_pk == row.pk)
        )
    )
    if steps and state is not None:
        _bring_to(connection, steps, now)
    return len(steps)


def _bring_to(connection: Connection, step_pks: Sequence[int], now: datetime) -> None:
    """Bring scheduled steps to the state that all that is performed for them makes."""
    steps = connection.execute(
        sa.select(order_step.c.pk, order_step.c.state)
        .where(order_step.c.pk.in_(step_pks))
        .order_by(order_step.c.pk)
        .with_for_update()
    ).all()
    performed: dict[int, list[tuple[Performed, bool]]] = {}
    for row in connection.execute(
        sa.select(performed_for.c.step_pk, performed_step.c.state, performed_step.c.attributes)
        .join(performed_step, performed_step.c.pk == performed_for.c.performed_pk)
        .where(performed_for.c.step_pk.in_(step_pks))
    ):
        state = Performed(row.state)
        mistaken = state is Performed.DISCONTINUED and wrong_entry(row.attributes)
        performed.setdefault(row.step_pk, []).append((state, mistaken))
    for step in steps:
        after = state_after(StepState(step.state), performed.get(step.pk, ()))
        if after.value != step.state:
            connection.execute(
                sa.update(order_step)
                .where(order_step.c.pk == step.pk)
                .values(state=after.value, updated_at=now)
            )


def _steps_meant(connection: Connection, attributes: Attributes, partition: str) -> Iterator[int]:
    """By study and step ID; where no step has that, all steps of the study or accession number."""
    for item in _items(attributes, _SCHEDULED):
        study, accession, number = (
            _text(item, keyword)
            for keyword in ("StudyInstanceUID", "AccessionNumber", "ScheduledProcedureStepID")
        )
        named = [
            column == value
            for column, value in (
                (order_.c.study_instance_uid, study),
                (order_.c.accession_number, accession),
            )
            if value
        ]
        for condition in named:
            steps = connection.execute(
                sa.select(order_step.c.pk, order_step.c.scheduled_procedure_step_id)
                .join(order_, order_.c.pk == order_step.c.order_pk)
                .where(order_.c.partition == partition, condition)
            ).all()
            numbered = [s.pk for s in steps if s.scheduled_procedure_step_id == number]
            if numbered or steps:
                yield from numbered or [step.pk for step in steps]
                break


def _studies(attributes: Attributes) -> list[str]:
    uids = (_text(item, "StudyInstanceUID") for item in _items(attributes, _SCHEDULED))
    return list(dict.fromkeys(uid for uid in uids if uid))


def _instances(attributes: Attributes) -> int:
    """How many instances the series of the step refer to."""
    references = (
        _text(item, "ReferencedSOPInstanceUID")
        for series in _items(attributes, _SERIES)
        for tag in _REFERENCES
        for item in _items(series, tag)
    )
    return len({uid for uid in references if uid})


def _items(attributes: Attributes, tag: str) -> Iterator[dict[str, Any]]:
    return (item or {} for item in attributes.get(tag, {}).get("Value", ()))


def _text(item: Attributes, keyword: str) -> str:
    values = item.get(tag_of(keyword), {}).get("Value", ())
    return str(next(iter(values), None) or "").strip()

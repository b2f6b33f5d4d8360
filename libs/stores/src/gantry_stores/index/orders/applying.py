"""Makes the changes of a message, all in one transaction or none.

Whoever is about the same patients or order numbers waits: locks are taken in one order, before
anything is read.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.events import EventKind
from gantry_domain.json_model import Element
from gantry_domain.orders import completing
from gantry_domain.orders.attributes import Place, tag_of
from gantry_domain.orders.changes import (
    Change,
    ChangeState,
    ChangeVisit,
    MergePatients,
    OrderNumbers,
    PatientKey,
    PlaceOrder,
    RegisterPatient,
    Step,
    merged,
)
from gantry_domain.orders.refusals import StateNotAllowed, UnknownOrder, WrongPatient
from gantry_domain.orders.states import OPEN, StepState, may_become
from gantry_stores.index.order_tables import order_, order_step, performed_for
from gantry_stores.index.orders.locks import lock_all_of
from gantry_stores.index.orders.news import tell
from gantry_stores.index.orders.patients import (
    columns_of,
    find_patient,
    merge_patients,
    register_patient,
)

_UID = tag_of("StudyInstanceUID")
_PROCEDURE = tag_of("RequestedProcedureID")
_STATIONS = tag_of("ScheduledStationAETitle")
_STEP_ID = tag_of("ScheduledProcedureStepID")
_REOPENED = (StepState.CANCELLED.value, StepState.DISCONTINUED.value)
_OPEN = sorted(state.value for state in OPEN)


def apply_changes(
    connection: Connection, changes: Sequence[Change], *, partition: str, now: datetime
) -> None:
    """Make the changes in their order. `now` is aware, in the zone of the department.

    Raises `ChangeRefused`; the transaction is then to be rolled back.
    """
    lock_all_of(connection, changes, partition)
    for change in changes:
        match change:
            case RegisterPatient(patient):
                register_patient(connection, patient, partition=partition, now=now)
            case MergePatients():
                merge_patients(connection, change, partition=partition, now=now)
            case ChangeVisit():
                _change_visit(connection, change, partition, now)
            case PlaceOrder():
                _place(connection, change, partition, now)
            case ChangeState():
                _change_state(connection, change, partition, now)


def _orders(
    connection: Connection,
    numbers: OrderNumbers,
    *,
    partition: str,
    patient_pk: int | None,
    new: bool,
) -> list[sa.Row[*tuple[Any, ...]]]:
    """The orders that these numbers mean: accession number first, then filler's and placer's.

    Filler and placer count for themselves, so theirs mean an order of the same patient alone.
    """
    columns = order_.c
    for column, value in (
        (columns.accession_number, numbers.accession),
        (columns.filler_order_number_imaging_service_request, numbers.filler),
        (columns.placer_order_number_imaging_service_request, numbers.placer),
    ):
        if not value:
            continue
        by_accession = column is columns.accession_number
        conditions = [columns.partition == partition, column == value]
        if patient_pk is not None and not by_accession:
            conditions.append(columns.patient_pk == patient_pk)
        rows = connection.execute(
            sa.select(
                columns.pk,
                columns.patient_pk,
                columns.attributes,
                columns.accession_number,
                columns.requested_procedure_id,
                columns.procedure_told,
                columns.study_instance_uid,
            )
            .where(*conditions)
            .order_by(columns.pk)
            .with_for_update()
        ).all()
        found = [row for row in rows if _meant(row, numbers, new=new)]
        if found:
            if patient_pk is not None and any(row.patient_pk != patient_pk for row in found):
                raise WrongPatient
            return found
    return []


def _meant(row: sa.Row[*tuple[Any, ...]], numbers: OrderNumbers, *, new: bool) -> bool:
    told = row.procedure_told and numbers.procedure
    if told and row.requested_procedure_id != numbers.procedure:
        return False
    # A new order with an accession number of its own is not the one that has another.
    other = row.accession_number and numbers.accession != row.accession_number
    return not (new and numbers.accession and other)


def _place(connection: Connection, change: PlaceOrder, partition: str, now: datetime) -> None:
    patient_pk = register_patient(connection, change.patient, partition=partition, now=now)
    rows = _orders(
        connection, change.numbers, partition=partition, patient_pk=patient_pk, new=change.new
    )
    if not rows:
        _insert(connection, change, patient_pk, partition, now)
        return
    for row in rows:
        _update(connection, row, change, partition, now, steps=len(rows) == 1)


def _insert(
    connection: Connection, change: PlaceOrder, patient_pk: int, partition: str, now: datetime
) -> None:
    numbers = change.numbers
    seed = completing.seed_of(numbers, partition=partition)
    attributes = merged(
        {
            _UID: {"vr": "UI", "Value": [completing.study_uid(seed)]},
            _PROCEDURE: {"vr": "SH", "Value": [completing.procedure_id(numbers, seed)]},
        },
        change.attributes,
    )
    order_pk = connection.execute(
        sa.insert(order_)
        .values(
            partition=partition,
            patient_pk=patient_pk,
            study_instance_uid=attributes[_UID]["Value"][0],
            procedure_told=bool(numbers.procedure),
            attributes=attributes,
            created_at=now,
            updated_at=now,
            **columns_of(Place.ORDER, attributes),
        )
        .returning(order_.c.pk)
    ).scalar_one()
    tell(connection, EventKind.ORDERED, partition, [attributes[_UID]["Value"][0]])
    for position, step in enumerate(change.steps):
        _insert_step(
            connection,
            order_pk,
            step,
            position=position,
            seed=seed,
            partition=partition,
            now=now,
        )


def _insert_step(
    connection: Connection,
    order_pk: int,
    step: Step,
    *,
    position: int,
    seed: str,
    partition: str,
    now: datetime,
) -> None:
    attributes = merged({}, completing.completed_step(step, seed=seed, position=position, now=now))
    connection.execute(
        sa.insert(order_step).values(
            order_pk=order_pk,
            partition=partition,
            position=position,
            number_told=bool(step.number),
            updated_at=now,
            **_step_columns(attributes),
        )
    )


def _step_columns(attributes: dict[str, Element]) -> dict[str, Any]:
    return {
        "attributes": attributes,
        "scheduled_station_ae_title": attributes.get(_STATIONS, {}).get("Value", []),
        **columns_of(Place.STEP, attributes),
    }


def _update(
    connection: Connection,
    row: sa.Row[*tuple[Any, ...]],
    change: PlaceOrder,
    partition: str,
    now: datetime,
    *,
    steps: bool,
) -> None:
    told = dict(change.attributes)
    uid = told.get(_UID, {}).get("Value", [row.study_instance_uid])[0]
    if uid != row.study_instance_uid and _begun(connection, row.pk):
        # Images with the first one may be on their way.
        del told[_UID]
        uid = row.study_instance_uid
    attributes = merged(row.attributes, told)
    connection.execute(
        sa.update(order_)
        .where(order_.c.pk == row.pk)
        .values(
            attributes=attributes,
            study_instance_uid=uid,
            procedure_told=row.procedure_told or bool(change.numbers.procedure),
            updated_at=now,
            **columns_of(Place.ORDER, attributes),
        )
    )
    tell(connection, EventKind.ORDER_CHANGED, partition, [uid])
    if change.new:
        connection.execute(
            sa.update(order_step)
            .where(order_step.c.order_pk == row.pk, order_step.c.state.in_(_REOPENED))
            .values(state=StepState.SCHEDULED.value, updated_at=now)
        )
    if steps:
        seed = completing.seed_of(change.numbers, partition=partition)
        _update_steps(connection, row.pk, change.steps, seed=seed, partition=partition, now=now)


def _begun(connection: Connection, order_pk: int) -> bool:
    found = (
        sa.select(performed_for.c.step_pk)
        .join(order_step, order_step.c.pk == performed_for.c.step_pk)
        .where(order_step.c.order_pk == order_pk)
    )
    return bool(connection.scalar(sa.select(sa.exists(found))))


def _steps_of(connection: Connection, order_pks: Iterable[int]) -> list[sa.Row[*tuple[Any, ...]]]:
    return list(
        connection.execute(
            sa.select(order_step)
            .where(order_step.c.order_pk.in_(list(order_pks)))
            .order_by(order_step.c.pk)
            .with_for_update()
        )
    )


def _update_steps(
    connection: Connection,
    order_pk: int,
    told: Sequence[Step],
    *,
    seed: str,
    partition: str,
    now: datetime,
) -> None:
    """A step is known by its number, or, as long as it has none, by its place."""
    present = {row.position: row for row in _steps_of(connection, [order_pk])}
    numbers = {row.scheduled_procedure_step_id: row for row in present.values() if row.number_told}
    for place, step in enumerate(told):
        row = numbers.get(step.number) if step.number else present.get(place)
        if row is None and place in present and not present[place].number_told:
            row = present[place]
        if row is None:
            position = max(present, default=-1) + 1
            _insert_step(
                connection,
                order_pk,
                step,
                position=position,
                seed=seed,
                partition=partition,
                now=now,
            )
            present |= {r.position: r for r in _steps_of(connection, [order_pk])}
            continue
        changed = dict(step.attributes)
        if step.number:
            changed[_STEP_ID] = {"vr": "SH", "Value": [step.number]}
        connection.execute(
            sa.update(order_step)
            .where(order_step.c.pk == row.pk)
            .values(
                number_told=row.number_told or bool(step.number),
                updated_at=now,
                **_step_columns(merged(row.attributes, changed)),
            )
        )


def _change_visit(
    connection: Connection, change: ChangeVisit, partition: str, now: datetime
) -> None:
    patient_pk = find_patient(connection, change.key, partition=partition)
    if patient_pk is None:
        return
    still_open = sa.exists().where(
        order_step.c.order_pk == order_.c.pk, order_step.c.state.in_(_OPEN)
    )
    rows = connection.execute(
        sa.select(order_.c.pk, order_.c.attributes, order_.c.study_instance_uid)
        .where(order_.c.patient_pk == patient_pk, still_open)
        .order_by(order_.c.pk)
        .with_for_update()
    ).all()
    for row in rows:
        attributes = merged(row.attributes, change.attributes)
        connection.execute(
            sa.update(order_)
            .where(order_.c.pk == row.pk)
            .values(attributes=attributes, updated_at=now, **columns_of(Place.ORDER, attributes))
        )
    tell(connection, EventKind.ORDER_CHANGED, partition, [row.study_instance_uid for row in rows])


def _change_state(
    connection: Connection, change: ChangeState, partition: str, now: datetime
) -> None:
    patient_pk = _patient_of(connection, change.key, partition)
    rows = _orders(
        connection, change.numbers, partition=partition, patient_pk=patient_pk, new=False
    )
    if not rows:
        raise UnknownOrder
    if len({row.patient_pk for row in rows}) > 1:
        raise WrongPatient
    steps = _steps_of(connection, [row.pk for row in rows])
    wanted = change.state
    allowed = [step.pk for step in steps if may_become(StepState(step.state), wanted)]
    if not allowed and steps:
        raise StateNotAllowed(StepState(steps[0].state), wanted)
    connection.execute(
        sa.update(order_step)
        .where(order_step.c.pk.in_(allowed))
        .values(state=wanted.value, updated_at=now)
    )
    over = wanted in (StepState.CANCELLED, StepState.DISCONTINUED)
    kind = EventKind.ORDER_CANCELLED if over else EventKind.ORDER_CHANGED
    tell(connection, kind, partition, [row.study_instance_uid for row in rows])


def _patient_of(connection: Connection, key: PatientKey | None, partition: str) -> int | None:
    """None where the message names no patient. Raises `UnknownOrder` for one who is not known."""
    if key is None:
        return None
    found = find_patient(connection, key, partition=partition)
    if found is None:
        raise UnknownOrder
    return found

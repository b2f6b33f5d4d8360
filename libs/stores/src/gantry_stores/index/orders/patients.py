"""The patients of orders: registered, changed, merged."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.events import EventKind
from gantry_domain.json_model import Element
from gantry_domain.levels import searchable
from gantry_domain.orders.attributes import Place, searchable_attributes
from gantry_domain.orders.changes import MergePatients, Patient, PatientKey, merged
from gantry_stores.index.order_tables import order_, order_patient
from gantry_stores.index.orders.news import tell

_LONGEST_CHAIN = 32


def identity(key: PatientKey) -> str:
    """What a patient's row is found by."""
    return orjson.dumps([key.PatientID, key.issuer]).decode()


def columns_of(place: Place, attributes: Mapping[str, Element]) -> dict[str, Any]:
    """The searchable text of a place's attributes, by column."""
    return {
        attribute.column: searchable(attribute, attributes.get(attribute.tag))
        for attribute in searchable_attributes(place)
    }


def find_patient(connection: Connection, key: PatientKey, *, partition: str) -> int | None:
    """The patient who has this identifier now; None: there is none."""
    row = _row(connection, key, partition)
    return None if row is None else _survivor(connection, row)


def register_patient(
    connection: Connection, patient: Patient, *, partition: str, now: datetime
) -> int:
    """The patient's row, new or changed. Of one who was merged nothing is changed any more."""
    row = _row(connection, patient.key, partition)
    if row is not None and row.merged_into is not None:
        return _survivor(connection, row)
    if row is None:
        return _insert(connection, patient.key, patient.attributes, partition, now)
    attributes = merged(row.attributes, patient.attributes)
    if attributes != row.attributes:
        connection.execute(
            sa.update(order_patient)
            .where(order_patient.c.pk == row.pk)
            .values(attributes=attributes, updated_at=now, **columns_of(Place.PATIENT, attributes))
        )
    return int(row.pk)


def merge_patients(
    connection: Connection, change: MergePatients, *, partition: str, now: datetime
) -> None:
    """Give the survivor the orders of the other, and what still comes for the other."""
    survivor = _row(connection, change.survivor.key, partition)
    if survivor is not None and survivor.merged_into is not None:
        connection.execute(  # who survives is nobody else any more
            sa.update(order_patient)
            .where(order_patient.c.pk == survivor.pk)
            .values(merged_into=None)
        )
    pk = register_patient(connection, change.survivor, partition=partition, now=now)
    old = _row(connection, change.old, partition)
    old_pk = _insert(connection, change.old, {}, partition, now) if old is None else old.pk
    connection.execute(
        sa.update(order_patient)
        .where(order_patient.c.pk == old_pk)
        .values(merged_into=pk, updated_at=now)
    )
    moved = connection.scalars(
        sa.update(order_)
        .where(order_.c.patient_pk == old_pk)
        .values(patient_pk=pk)
        .returning(order_.c.study_instance_uid)
    ).all()
    tell(connection, EventKind.ORDER_CHANGED, partition, moved)


def _row(
    connection: Connection, key: PatientKey, partition: str
) -> sa.Row[*tuple[Any, ...]] | None:
    return connection.execute(
        sa.select(order_patient.c.pk, order_patient.c.merged_into, order_patient.c.attributes)
        .where(order_patient.c.partition == partition, order_patient.c.identity == identity(key))
        .with_for_update()
    ).one_or_none()


def _survivor(connection: Connection, row: sa.Row[*tuple[Any, ...]]) -> int:
    pk, into = row.pk, row.merged_into
    for _ in range(_LONGEST_CHAIN):
        if into is None:
            break
        pk = into
        into = connection.scalar(
            sa.select(order_patient.c.merged_into).where(order_patient.c.pk == pk)
        )
    return int(pk)


def _insert(
    connection: Connection,
    key: PatientKey,
    told: Mapping[str, Element],
    partition: str,
    now: datetime,
) -> int:
    attributes = merged({}, told)
    values = {
        "partition": partition,
        "identity": identity(key),
        "attributes": attributes,
        "updated_at": now,
        **columns_of(Place.PATIENT, attributes),
    }
    statement = sa.insert(order_patient).values(values).returning(order_patient.c.pk)
    return int(connection.execute(statement).scalar_one())


def patient_locks(keys: Iterable[PatientKey]) -> set[tuple[str, str]]:
    """What a transaction locks that is about these patients."""
    return {("patient", identity(key)) for key in keys}

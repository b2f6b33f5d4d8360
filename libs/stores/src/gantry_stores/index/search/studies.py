"""The instances and headers of a study, a series, one instance or what keys name, for retrieval.

Both stream: batch after batch by keyset, each in its own short transaction, so that a slow reader
holds no connection. Only what belongs to a study that the caller may see is found.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Text, any_, bindparam, func, select, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, psycopg
from sqlalchemy.engine import Engine
from sqlalchemy.types import Uuid

from gantry_domain.attributes import BY_KEYWORD
from gantry_domain.query import Key
from gantry_domain.sight import Sight
from gantry_stores.index.database import transaction
from gantry_stores.index.headers import header_json
from gantry_stores.index.schema import header, instance, object_, series, study
from gantry_stores.index.search.conditions import condition, number_or_last
from gantry_stores.index.search.seeing import seen, shown
from gantry_stores.index.stored_object import StoredObject

_INSTANCES = 2000
_HEADERS = 100

# The fields of `StoredInstance`.
_COLUMNS = (
    instance.c.object_id,
    series.c.series_instance_uid,
    instance.c.sop_instance_uid,
    instance.c.sop_class_uid,
    object_.c.transfer_syntax_uid,
    object_.c.size,
    object_.c.dataset_offset,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is retrieved: a study, one of its series, or one instance of it."""

    StudyInstanceUID: str
    SeriesInstanceUID: str | None = None
    SOPInstanceUID: str | None = None


@dataclass(frozen=True, slots=True)
class StudyState:
    """What changes whenever anything of a study does."""

    source: UUID
    revision: int
    indexed_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance and where its object lies. `size` counts the whole file, in bytes."""

    object_id: UUID
    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    TransferSyntaxUID: str
    size: int
    dataset_offset: int

    @property
    def object(self) -> StoredObject:
        """Its object."""
        return StoredObject(
            object_id=self.object_id,
            SOPClassUID=self.SOPClassUID,
            TransferSyntaxUID=self.TransferSyntaxUID,
            dataset_offset=self.dataset_offset,
            size=self.size,
        )


@dataclass(frozen=True, slots=True)
class Holding:
    """How many instances of one SOP class are stored in one transfer syntax."""

    SOPClassUID: str
    TransferSyntaxUID: str
    instances: int


def study_state(engine: Engine, subject: Subject, *, sight: Sight) -> StudyState | None:
    """The state of the study that the subject belongs to; None if the subject is not there."""
    statement = (
        select(study.c.source, study.c.revision, study.c.indexed_at)
        .select_from(_tables(subject))
        .where(*_of(subject, sight))
        .limit(1)
    )
    with transaction(engine) as connection:
        row = connection.execute(statement).one_or_none()
    return StudyState(*row) if row is not None else None


def transfer_syntaxes_of(engine: Engine, subject: Subject, *, sight: Sight) -> set[str]:
    """The transfer syntaxes that the subject's instances are stored in; empty: it is not there."""
    statement = (
        select(object_.c.transfer_syntax_uid)
        .select_from(_instances())
        .where(*_of(subject, sight))
        .distinct()
    )
    with transaction(engine) as connection:
        return {uid for uid in connection.execute(statement).scalars() if uid is not None}


def instances_of(engine: Engine, subject: Subject, *, sight: Sight) -> Iterator[StoredInstance]:
    """The subject's instances, by the numbers of their series and their own.

    What is added meanwhile may or may not be among them; none comes twice.
    """
    if subject.SOPInstanceUID is None:
        yield from _stream(engine, _of(subject, sight))
        return
    asked = {
        "partition": sight.partition,
        "study": subject.StudyInstanceUID,
        "instance": subject.SOPInstanceUID,
    }
    if subject.SeriesInstanceUID is not None:
        asked["series"] = subject.SeriesInstanceUID
    with transaction(engine) as connection:
        asking = _one_instance(within_series="series" in asked, held=sight.held)
        rows = connection.exec_driver_sql(asking, asked).all()
    yield from (StoredInstance(*row) for row in rows)


@cache
def _one_instance(*, within_series: bool, held: bool) -> str:
    """What is asked of one instance, as text: to make it anew took longer than to answer it."""
    conditions = [
        study.c.partition == bindparam("partition"),
        shown(held=held),
        study.c.study_instance_uid == bindparam("study"),
        instance.c.partition == bindparam("partition"),
        instance.c.sop_instance_uid == bindparam("instance"),
    ]
    if within_series:
        conditions.append(series.c.series_instance_uid == bindparam("series"))
    statement = select(*_COLUMNS).select_from(_instances()).where(*conditions)
    return str(statement.compile(dialect=psycopg.dialect()))  # type: ignore[no-untyped-call]


def holdings(engine: Engine, keys: Sequence[Key], *, sight: Sight) -> list[Holding]:
    """What there is of the instances that `instances_matching` gives."""
    by = (instance.c.sop_class_uid, object_.c.transfer_syntax_uid)
    statement = (
        select(*by, func.count())
        .select_from(_instances())
        .where(*_matching(keys, sight))
        .group_by(*by)
        .order_by(*by)
    )
    with transaction(engine) as connection:
        return [Holding(*row) for row in connection.execute(statement)]


def instances_matching(
    engine: Engine,
    keys: Sequence[Key],
    *,
    sight: Sight,
    classes: Collection[str] | None = None,
) -> Iterator[StoredInstance]:
    """The instances that pass all keys and are seen, study by study, as `instances_of` does.

    `classes`: of these SOP classes alone.
    """
    conditions = _matching(keys, sight)
    if classes is not None:
        chosen = sql_cast(sorted(classes), ARRAY(Text))
        conditions.append(instance.c.sop_class_uid == any_(chosen))
    yield from _stream(engine, conditions)


def _matching(keys: Sequence[Key], sight: Sight) -> list[ColumnElement[bool]]:
    return [
        *seen(sight),
        instance.c.partition == sight.partition,
        *(condition(key) for key in keys),
    ]


def _stream(engine: Engine, conditions: list[ColumnElement[bool]]) -> Iterator[StoredInstance]:
    order = (
        study.c.study_instance_uid,
        number_or_last(BY_KEYWORD["SeriesNumber"]),
        series.c.series_instance_uid,
        number_or_last(BY_KEYWORD["InstanceNumber"]),
        instance.c.sop_instance_uid,
    )
    statement = (
        select(
            *_COLUMNS,
            *order,
        )
        .select_from(_instances())
        .where(*conditions)
        .order_by(*order)
        .limit(_INSTANCES)
    )
    place: tuple[Any, ...] | None = None
    while True:
        batch = statement if place is None else statement.where(tuple_(*order) > tuple_(*place))
        with transaction(engine) as connection:
            rows = connection.execute(batch).all()
        for row in rows:
            yield StoredInstance(*row[: -len(order)])
        if len(rows) < _INSTANCES:
            return
        place = tuple(rows[-1][-len(order) :])


def headers_of(
    engine: Engine, subject: Subject, *, sight: Sight
) -> Iterator[tuple[StoredInstance, bytes]]:
    """The subject's instances, each with its header: one object of the DICOM JSON model, UTF-8.

    Raises `UnreadableHeader` for one that is damaged.
    """
    batch: list[StoredInstance] = []
    for found in instances_of(engine, subject, sight=sight):
        batch.append(found)
        if len(batch) == _HEADERS:
            yield from _with_headers(engine, batch)
            batch = []
    yield from _with_headers(engine, batch)


def _with_headers(
    engine: Engine, batch: list[StoredInstance]
) -> Iterator[tuple[StoredInstance, bytes]]:
    if not batch:
        return
    ids = sql_cast([found.object_id for found in batch], ARRAY(Uuid))
    statement = select(header.c.object_id, header.c.codec, header.c.data).where(
        header.c.object_id == any_(ids)
    )
    with transaction(engine) as connection:
        headers = {row[0]: (row[1], row[2]) for row in connection.execute(statement)}
    for found in batch:
        # Gone since the batch was read: purged or replaced.
        if found.object_id in headers:
            yield found, header_json(*headers[found.object_id])


def _tables(subject: Subject) -> FromClause:
    if subject.SOPInstanceUID is not None:
        return _instances()
    if subject.SeriesInstanceUID is not None:
        return study.join(series, series.c.study_pk == study.c.pk)
    return study


def _instances() -> FromClause:
    return (
        study.join(series, series.c.study_pk == study.c.pk)
        .join(instance, instance.c.series_pk == series.c.pk)
        .join(object_, object_.c.id == instance.c.object_id)
    )


def _of(subject: Subject, sight: Sight) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        *seen(sight),
        study.c.study_instance_uid == subject.StudyInstanceUID,
    ]
    if subject.SeriesInstanceUID is not None:
        conditions.append(series.c.series_instance_uid == subject.SeriesInstanceUID)
    if subject.SOPInstanceUID is not None:
        conditions += [
            instance.c.partition == sight.partition,
            instance.c.sop_instance_uid == subject.SOPInstanceUID,
        ]
    return conditions

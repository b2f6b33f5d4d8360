"""The instances and headers of a study, a series, one instance or what keys name, for retrieval.

Both stream: batch after batch by keyset, each in its own short transaction, so that a slow reader
holds no connection. Only what belongs to a study that the caller may see is found.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_domain.attributes import BY_KEYWORD
from gantry_domain.corrections import Correction
from gantry_domain.query import Key
from gantry_domain.sight import Sight
from gantry_stores.index.asking import Row, ask
from gantry_stores.index.corrections import corrections_column, read_corrections
from gantry_stores.index.headers import header_json
from gantry_stores.index.search.conditions import condition, number_or_last
from gantry_stores.index.search.seeing import seen
from gantry_stores.index.stored_object import StoredObject
from gantry_stores.index.values import Values

_INSTANCES = 2000
_HEADERS = 100

# The fields of `StoredInstance`.
_FIELDS = (
    "instance.object_id",
    "series.series_instance_uid",
    "instance.sop_instance_uid",
    "instance.sop_class_uid",
    "object.transfer_syntax_uid",
    "object.size",
    "object.dataset_offset",
    corrections_column("study", "instance.object_id"),
)
_COLUMNS = ", ".join(_FIELDS)
_STUDIES = "study"
_SERIES = f"{_STUDIES} JOIN series ON series.study_pk = study.pk"
_INSTANCES_OF = (
    f"{_SERIES} JOIN instance ON instance.series_pk = series.pk"
    " JOIN object ON object.id = instance.object_id"
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
    corrections: tuple[Correction, ...] = ()

    @property
    def object(self) -> StoredObject:
        """Its object."""
        return StoredObject(
            object_id=self.object_id,
            SOPClassUID=self.SOPClassUID,
            TransferSyntaxUID=self.TransferSyntaxUID,
            dataset_offset=self.dataset_offset,
            size=self.size,
            corrections=self.corrections,
        )


@dataclass(frozen=True, slots=True)
class Holding:
    """How many instances of one SOP class are stored in one transfer syntax."""

    SOPClassUID: str
    TransferSyntaxUID: str
    instances: int


def study_state(engine: Engine, subject: Subject, *, sight: Sight) -> StudyState | None:
    """The state of the study that the subject belongs to; None if the subject is not there."""
    values = Values()
    found = ask(
        engine,
        "SELECT study.source, study.revision, study.indexed_at"
        f" FROM {_tables(subject)} WHERE {_of(subject, sight, values)} LIMIT 1",
        values,
    )
    return StudyState(*found[0]) if found else None


def transfer_syntaxes_of(engine: Engine, subject: Subject, *, sight: Sight) -> set[str]:
    """The transfer syntaxes that the subject's instances are stored in; empty: it is not there."""
    values = Values()
    found = ask(
        engine,
        "SELECT DISTINCT object.transfer_syntax_uid"
        f" FROM {_INSTANCES_OF} WHERE {_of(subject, sight, values)}",
        values,
    )
    return {uid for (uid,) in found if uid is not None}


def instances_of(engine: Engine, subject: Subject, *, sight: Sight) -> Iterator[StoredInstance]:
    """The subject's instances, by the numbers of their series and their own.

    What is added meanwhile may or may not be among them; none comes twice.
    """
    values = Values()
    conditions = _of(subject, sight, values)
    if subject.SOPInstanceUID is None:
        yield from _stream(engine, conditions, values)
        return
    one = f"SELECT {_COLUMNS} FROM {_INSTANCES_OF} WHERE {conditions}"
    yield from map(_instance, ask(engine, one, values))


def holdings(engine: Engine, keys: Sequence[Key], *, sight: Sight) -> list[Holding]:
    """What there is of the instances that `instances_matching` gives."""
    values = Values()
    found = ask(
        engine,
        "SELECT instance.sop_class_uid, object.transfer_syntax_uid, count(*)"
        f" FROM {_INSTANCES_OF} WHERE {_matching(keys, sight, values)}"
        " GROUP BY 1, 2 ORDER BY 1, 2",
        values,
    )
    return [Holding(*row) for row in found]


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
    values = Values()
    conditions = _matching(keys, sight, values)
    if classes is not None:
        conditions += f" AND instance.sop_class_uid = ANY({values.texts(sorted(classes))})"
    yield from _stream(engine, conditions, values)


def _matching(keys: Sequence[Key], sight: Sight, values: Values) -> str:
    return " AND ".join(
        [
            *seen(sight, values),
            f"instance.partition = {values.text(sight.partition)}",
            *(condition(key, values) for key in keys),
        ]
    )


def _stream(engine: Engine, conditions: str, values: Values) -> Iterator[StoredInstance]:
    order = (
        f"study.study_instance_uid, {number_or_last(BY_KEYWORD['SeriesNumber'])},"
        f" series.series_instance_uid, {number_or_last(BY_KEYWORD['InstanceNumber'])},"
        " instance.sop_instance_uid"
    )
    limit = values.number(_INSTANCES)
    asked, beyond = values, ""
    while True:
        rows = ask(
            engine,
            f"SELECT {_COLUMNS}, {order} FROM {_INSTANCES_OF} WHERE {conditions}{beyond}"
            f" ORDER BY {order} LIMIT {limit}",
            asked,
        )
        for row in rows:
            yield _instance(row)
        if len(rows) < _INSTANCES:
            return
        asked = values.copy()
        place = ", ".join(map(asked.of, rows[-1][len(_FIELDS) :]))
        beyond = f" AND ({order}) > ({place})"


def _instance(row: Row) -> StoredInstance:
    last = len(_FIELDS) - 1
    found = StoredInstance(*row[:last])
    if row[last] is None:
        return found
    return replace(found, corrections=read_corrections(row[last]))


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
    values = Values()
    ids = values.uuids(found.object_id for found in batch)
    statement = f"SELECT object_id, codec, data FROM header WHERE object_id = ANY({ids})"
    headers = {row[0]: (row[1], row[2]) for row in ask(engine, statement, values)}
    for found in batch:
        # Gone since the batch was read: purged or replaced.
        if found.object_id in headers:
            yield found, header_json(*headers[found.object_id])


def _tables(subject: Subject) -> str:
    if subject.SOPInstanceUID is not None:
        return _INSTANCES_OF
    return _STUDIES if subject.SeriesInstanceUID is None else _SERIES


def _of(subject: Subject, sight: Sight, values: Values) -> str:
    conditions = [
        *seen(sight, values),
        f"study.study_instance_uid = {values.text(subject.StudyInstanceUID)}",
    ]
    if subject.SeriesInstanceUID is not None:
        uid = values.text(subject.SeriesInstanceUID)
        conditions.append(f"series.series_instance_uid = {uid}")
    if subject.SOPInstanceUID is not None:
        conditions += [
            f"instance.partition = {values.text(sight.partition)}",
            f"instance.sop_instance_uid = {values.text(subject.SOPInstanceUID)}",
        ]
    return " AND ".join(conditions)

"""Rows of the index written directly: what searches are tried on, by the thousand.

The columns hold what `gantry_domain.levels` makes of each header, as after indexing; every study is
visible. Objects need not lie behind the rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Table, func, insert, select
from sqlalchemy.engine import Connection, Engine

from gantry_domain.attributes import BY_KEYWORD, Attribute, Level
from gantry_domain.keys import new_object_id
from gantry_domain.levels import level_values, name_beginnings, name_grams, patient_identity
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_stores.index.headers import CODEC, encode_header
from gantry_stores.index.schema import header, instance, object_, patient, series, study

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

Values = Mapping[str, str | int | list[str]]
"""Attributes of one instance by keyword."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedInstance:
    """A header (DICOM JSON model) and the object that it is of."""

    attributes: Mapping[str, Any]
    object_id: UUID = field(default_factory=new_object_id)
    TransferSyntaxUID: str = EXPLICIT_VR_LITTLE_ENDIAN
    size: int = 1000
    dataset_offset: int = 400

    def uid(self, keyword: str) -> str:
        """The value of a UID."""
        return str(self.attributes[BY_KEYWORD[keyword].tag]["Value"][0])


def indexed(values: Values, **facts: Any) -> IndexedInstance:
    """An instance with these attributes; a CT image if its class is not among them."""
    whole = {"SOPClassUID": CT_IMAGE_STORAGE, **values}
    elements = ((BY_KEYWORD[keyword], value) for keyword, value in whole.items())
    attributes = {attribute.tag: json_element(attribute, value) for attribute, value in elements}
    utf8 = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return IndexedInstance(attributes={"00080005": utf8, **attributes}, **facts)


def json_element(attribute: Attribute, value: str | int | list[str]) -> dict[str, Any]:
    """An element of the DICOM JSON model (PS3.18 F.2)."""
    if value in ("", []):
        return {"vr": attribute.vr}
    values: list[Any] = list(value) if isinstance(value, list) else [value]
    if attribute.vr == "PN":
        kinds = ("Alphabetic", "Ideographic", "Phonetic")
        groups = [zip(kinds, str(v).split("="), strict=False) for v in values]
        values = [{kind: group for kind, group in pairs if group} for pairs in groups]
    elif attribute.vr in ("IS", "US"):
        values = [int(v) for v in values]
    return {"vr": attribute.vr, "Value": values}


def fill(engine: Engine, instances: Iterable[IndexedInstance], *, partition: str = "main") -> None:
    """Adds instances of new studies to the index. A study comes as a whole, in one call."""
    with engine.begin() as connection:
        _Filling(connection, partition).add(list(instances))


class _Filling:
    def __init__(self, connection: Connection, partition: str) -> None:
        self._connection = connection
        self._partition = partition
        self._rows: dict[Table, list[dict[str, Any]]] = {
            table: [] for table in (object_, patient, study, series, instance, header)
        }
        self._pks = {table: self._last_pk(table) for table in (patient, study, series, instance)}
        self._studies: dict[str, dict[str, Any]] = {}
        self._series: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, instances: list[IndexedInstance]) -> None:
        for found in instances:
            self._add_object(found)
            its_study = self._study_of(found)
            its_series = self._series_of(found, its_study)
            self._add_instance(found, its_study, its_series)
        for table, rows in self._rows.items():
            if rows:
                self._connection.execute(insert(table), rows)

    def _last_pk(self, table: Table) -> int:
        return self._connection.scalar(select(func.coalesce(func.max(table.c.pk), 0))) or 0

    def _new(self, table: Table, **values: Any) -> dict[str, Any]:
        self._pks[table] += 1
        row = {"pk": self._pks[table], **values}
        self._rows[table].append(row)
        return row

    def _add_object(self, found: IndexedInstance) -> None:
        self._rows[object_].append(
            {
                "id": found.object_id,
                "partition": self._partition,
                "state": "primary",
                "size": found.size,
                "dataset_offset": found.dataset_offset,
                "transfer_syntax_uid": found.TransferSyntaxUID,
                "sop_class_uid": found.uid("SOPClassUID"),
                "sop_instance_uid": found.uid("SOPInstanceUID"),
                "study_instance_uid": found.uid("StudyInstanceUID"),
                "series_instance_uid": found.uid("SeriesInstanceUID"),
                "indexed_at": datetime.now(UTC),
            }
        )
        encoded = encode_header(dict(found.attributes))
        self._rows[header].append({"object_id": found.object_id, "codec": CODEC, "data": encoded})

    def _study_of(self, found: IndexedInstance) -> dict[str, Any]:
        uid = found.uid("StudyInstanceUID")
        if uid not in self._studies:
            of_patient = level_values(found.attributes, Level.PATIENT)
            its_patient = self._new(
                patient,
                partition=self._partition,
                identity=f"{uid} {patient_identity(of_patient.columns, uid)}",
                source=found.object_id,
                **of_patient.columns,
                attributes=of_patient.attributes,
            )
            own = level_values(found.attributes, Level.PATIENT, Level.STUDY)
            now = datetime.now(UTC)
            self._studies[uid] = self._new(
                study,
                patient_pk=its_patient["pk"],
                partition=self._partition,
                study_instance_uid=uid,
                source=found.object_id,
                **own.columns,
                attributes=own.attributes,
                modalities_in_study=[],
                sop_classes_in_study=[],
                number_of_study_related_series=0,
                number_of_study_related_instances=0,
                patient_name_grams=name_grams(own.columns),
                patient_name_beginnings=name_beginnings(own.columns),
                revision=1,
                judged_revision=1,
                verdict="accepted",
                visible=True,
                first_received_at=now,
                last_received_at=now,
                indexed_at=now,
            )
        return self._studies[uid]

    def _series_of(self, found: IndexedInstance, its_study: dict[str, Any]) -> dict[str, Any]:
        uid = found.uid("SeriesInstanceUID")
        key = (its_study["study_instance_uid"], uid)
        if key not in self._series:
            own = level_values(found.attributes, Level.SERIES)
            its_study["number_of_study_related_series"] += 1
            self._series[key] = self._new(
                series,
                study_pk=its_study["pk"],
                series_instance_uid=uid,
                source=found.object_id,
                **own.columns,
                attributes=own.attributes,
                number_of_series_related_instances=0,
            )
            _join(its_study["modalities_in_study"], own.columns["modality"])
        return self._series[key]

    def _add_instance(
        self, found: IndexedInstance, its_study: dict[str, Any], its_series: dict[str, Any]
    ) -> None:
        its_study["number_of_study_related_instances"] += 1
        its_series["number_of_series_related_instances"] += 1
        _join(its_study["sop_classes_in_study"], found.uid("SOPClassUID"))
        own = level_values(found.attributes, Level.INSTANCE)
        self._new(
            instance,
            series_pk=its_series["pk"],
            partition=self._partition,
            sop_instance_uid=found.uid("SOPInstanceUID"),
            sop_class_uid=found.uid("SOPClassUID"),
            object_id=found.object_id,
            patient_identity="",
            **own.columns,
            attributes=own.attributes,
        )


def _join(values: list[str], value: str | None) -> None:
    if value and value not in values:
        values.append(value)
        values.sort()

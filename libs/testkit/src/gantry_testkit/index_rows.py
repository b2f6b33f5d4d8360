"""Rows of the index without any object: what searches are tried on, by the thousand.

The columns are filled as `gantry_stores.index.schema` says. No object lies behind the rows.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Table, func, insert, select
from sqlalchemy.engine import Connection, Engine

from gantry_domain.attributes import Attribute, Level, Matching, attributes_at
from gantry_domain.keys import new_object_id
from gantry_domain.names import fold, grams
from gantry_stores.index.headers import CODEC, encode_header
from gantry_stores.index.schema import header, instance, object_, patient, series, study

EXPLICIT = "1.2.840.10008.1.2.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

Values = Mapping[str, str | int | list[str]]
"""The attributes of one instance by keyword; the three UIDs must be there."""


def json_element(attribute: Attribute, value: str | int | list[str]) -> dict[str, Any]:
    """An element of the DICOM JSON model (PS3.18 F.2)."""
    values = value if isinstance(value, list) else [value]
    if value in ("", []):
        return {"vr": attribute.vr}
    if attribute.vr == "PN":
        kinds = ("Alphabetic", "Ideographic", "Phonetic")
        return {
            "vr": "PN",
            "Value": [
                {
                    kind: group
                    for kind, group in zip(kinds, str(v).split("="), strict=False)
                    if group
                }
                for v in values
            ],
        }
    if attribute.vr in ("IS", "US"):
        return {"vr": attribute.vr, "Value": [int(v) for v in values]}
    return {"vr": attribute.vr, "Value": values}


def fill(engine: Engine, instances: Iterable[Values], *, partition: str = "main") -> None:
    """Adds instances of new studies to the index, visible. A study comes in one call."""
    with engine.begin() as connection:
        _Filling(connection, partition).add(list(instances))


class _Filling:
    def __init__(self, connection: Connection, partition: str) -> None:
        self._connection = connection
        self._partition = partition

    def add(self, instances: list[Values]) -> None:
        now = datetime.now(UTC)
        pks = {table: self._last(table) for table in (patient, study, series, instance)}
        rows: dict[Table, list[dict[str, Any]]] = {
            table: [] for table in (object_, patient, study, series, instance, header)
        }
        studies: dict[str, dict[str, Any]] = {}
        every: dict[tuple[str, str], dict[str, Any]] = {}
        for values in instances:
            object_id = new_object_id()
            uid, series_uid = str(values["StudyInstanceUID"]), str(values["SeriesInstanceUID"])
            syntax = str(values.get("AvailableTransferSyntaxUID", EXPLICIT))
            sop_class = str(values.get("SOPClassUID", CT_IMAGE))
            rows[object_].append(
                {
                    "id": object_id,
                    "partition": self._partition,
                    "state": "primary",
                    "size": 1000,
                    "dataset_offset": 400,
                    "transfer_syntax_uid": syntax,
                    "sop_class_uid": sop_class,
                    "sop_instance_uid": values["SOPInstanceUID"],
                    "study_instance_uid": uid,
                    "series_instance_uid": series_uid,
                    "indexed_at": now,
                }
            )
            if uid not in studies:
                pks[patient] += 1
                pks[study] += 1
                rows[patient].append(
                    {
                        "pk": pks[patient],
                        "partition": self._partition,
                        "identity": uid,
                        **self._level(values, object_id, Level.PATIENT),
                    }
                )
                studies[uid] = {
                    "pk": pks[study],
                    "patient_pk": pks[patient],
                    "partition": self._partition,
                    "study_instance_uid": uid,
                    **self._level(values, object_id, Level.PATIENT, Level.STUDY),
                    "modalities_in_study": [],
                    "sop_classes_in_study": [],
                    "number_of_study_related_series": 0,
                    "number_of_study_related_instances": 0,
                    "patient_name_grams": sorted(grams(str(values.get("PatientName", "")))),
                    "revision": 1,
                    "judged_revision": 1,
                    "verdict": "accepted",
                    "visible": True,
                    "first_received_at": now,
                    "last_received_at": now,
                    "indexed_at": now,
                }
            its_study = studies[uid]
            if (uid, series_uid) not in every:
                pks[series] += 1
                its_study["number_of_study_related_series"] += 1
                every[uid, series_uid] = {
                    "pk": pks[series],
                    "study_pk": its_study["pk"],
                    "series_instance_uid": series_uid,
                    **self._level(values, object_id, Level.SERIES),
                    "number_of_series_related_instances": 0,
                }
            its_series = every[uid, series_uid]
            its_series["number_of_series_related_instances"] += 1
            its_study["number_of_study_related_instances"] += 1
            _join(its_study["modalities_in_study"], values.get("Modality"))
            _join(its_study["sop_classes_in_study"], sop_class)
            pks[instance] += 1
            row = self._level(values, object_id, Level.INSTANCE)
            del row["source"]
            rows[instance].append(
                {
                    "pk": pks[instance],
                    "series_pk": its_series["pk"],
                    "partition": self._partition,
                    "sop_instance_uid": values["SOPInstanceUID"],
                    "object_id": object_id,
                    "patient_identity": uid,
                    **row,
                    "sop_class_uid": sop_class,
                }
            )
            whole = {
                attribute.tag: json_element(attribute, values[attribute.keyword])
                for attribute in attributes_at(*Level)
                if attribute.keyword in values and not attribute.computed
            }
            rows[header].append(
                {
                    "object_id": object_id,
                    "codec": CODEC,
                    "data": encode_header({"00080005": _UTF8, **whole}),
                }
            )
        rows[study], rows[series] = list(studies.values()), list(every.values())
        for table, values_of_rows in rows.items():
            self._connection.execute(insert(table), values_of_rows)

    def _last(self, table: Table) -> int:
        return self._connection.scalar(select(func.coalesce(func.max(table.c.pk), 0))) or 0

    def _level(self, values: Values, source: UUID, *levels: Level) -> dict[str, Any]:
        own = [
            attribute
            for attribute in attributes_at(*levels)
            if not attribute.computed and attribute.keyword in values
        ]
        columns = {
            attribute.column: searchable(attribute, values.get(attribute.keyword))
            for attribute in attributes_at(*levels)
            if attribute.matching and not attribute.computed and attribute.matching != Matching.UID
        }
        attributes = {a.tag: json_element(a, values[a.keyword]) for a in own}
        return {"source": source, **columns, "attributes": attributes}


_UTF8 = {"vr": "CS", "Value": ["ISO_IR 192"]}


def searchable(attribute: Attribute, value: str | int | list[str] | None) -> str | None:
    """What the attribute's column holds of a value."""
    if value is None or value in ("", []):
        return None
    text = "\\".join(value) if isinstance(value, list) else str(value)
    if attribute.matching is Matching.NAME:
        return fold(text)
    if attribute.matching is Matching.TIME:
        return text + "000000.000000"[len(text) :]
    return text


def _join(values: list[str], value: object) -> None:
    if value and value not in values:
        values.append(str(value))
        values.sort()

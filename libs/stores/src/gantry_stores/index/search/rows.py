"""Rows of a search as documents of the DICOM JSON model (PS3.18 Annex F)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import ColumnElement, RowMapping, Text, cast

from gantry_domain.attributes import ATTRIBUTES, BY_TAG, Attribute, Level
from gantry_domain.query import Query, at_or_above
from gantry_stores.index.headers import decode_header
from gantry_stores.index.schema import header, instance, object_, series, study

# What a match is told besides the attributes of the table (PS3.18 Tables 10.6.3-3 to -5).
SPECIFIC_CHARACTER_SET = "00080005"
INSTANCE_AVAILABILITY = "00080056"
RETRIEVE_URL = "00081190"

Document = dict[str, Any]
_Make = Callable[["_Match"], Any]

# The object whose header stands for a match.
SOURCES = {
    Level.PATIENT: study.c.source,
    Level.STUDY: study.c.source,
    Level.SERIES: series.c.source,
    Level.INSTANCE: instance.c.object_id,
}

# A study's attributes include those of its patient.
_ATTRIBUTES = {
    Level.PATIENT: study.c.attributes,
    Level.STUDY: study.c.attributes,
    Level.SERIES: series.c.attributes,
    Level.INSTANCE: instance.c.attributes,
}

_COMPUTED: dict[str, ColumnElement[Any]] = {
    "ModalitiesInStudy": study.c.modalities_in_study,
    "SOPClassesInStudy": study.c.sop_classes_in_study,
    "NumberOfStudyRelatedSeries": study.c.number_of_study_related_series,
    "NumberOfStudyRelatedInstances": study.c.number_of_study_related_instances,
    "NumberOfSeriesRelatedInstances": series.c.number_of_series_related_instances,
    "AvailableTransferSyntaxUID": object_.c.transfer_syntax_uid,
}

_PATHS = (
    ("studies", "study_uid", study.c.study_instance_uid),
    ("series", "series_uid", series.c.series_instance_uid),
    ("instances", "instance_uid", instance.c.sop_instance_uid),
)
_DEPTH = {Level.STUDY: 1, Level.SERIES: 2, Level.INSTANCE: 3}


class _Match:
    """One row, with its JSON parsed when first asked for."""

    __slots__ = ("attributes", "header", "row")

    def __init__(self, row: RowMapping, json: Iterable[str], *, with_header: bool) -> None:
        self.row = row
        self.attributes: dict[str, Any] = {}
        for name in json:
            self.attributes |= orjson.loads(row[name])
        self.header: Mapping[str, Any] = {}
        if with_header and row["header_data"] is not None:
            self.header = decode_header(row["header_codec"], row["header_data"])


class Shape:
    """Which columns a query needs, and how a row of them becomes a document.

    `retrieve_base` is the URL below which `/studies` lies; without one no RetrieveURL is given.
    """

    def __init__(self, query: Query, *, retrieve_base: str | None) -> None:
        self._level = query.level
        self._base = retrieve_base
        self._columns: dict[str, ColumnElement[Any]] = {}
        self._json: dict[str, None] = {}
        self.needs_header = False
        self.needs_object = False
        wanted = set(query.include)
        if query.everything:
            wanted |= {a.tag for a in ATTRIBUTES if at_or_above(a.level, query.level)}
        makers = ((tag, self._maker(tag)) for tag in sorted(wanted))
        self._makers = {tag: make for tag, make in makers if make is not None}

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """What to select."""
        return [column.label(name) for name, column in self._columns.items()]

    def document(self, row: RowMapping) -> Document:
        """The attributes of one match, in the order of their tags."""
        match = _Match(row, self._json, with_header=self.needs_header)
        made = ((tag, make(match)) for tag, make in self._makers.items())
        return {tag: element for tag, element in made if element is not None}

    def _maker(self, tag: str) -> _Make | None:
        match tag:
            case "00080005":
                # The JSON is UTF-8 whatever was sent (PS3.18 F.2).
                return _constant({"vr": "CS", "Value": ["ISO_IR 192"]})
            case "00080056":
                return _constant({"vr": "CS", "Value": ["ONLINE"]})
            case "00081190":
                return self._retrieve_url() if self._base is not None else None
        attribute = BY_TAG.get(tag)
        if attribute is None:
            return self._from_header(tag)
        if not at_or_above(attribute.level, self._level):
            return None
        return self._computed(attribute) if attribute.computed else self._own(attribute)

    def _own(self, attribute: Attribute) -> _Make:
        column = _ATTRIBUTES[attribute.level]
        name = f"{column.table.name}_json"
        if name not in self._columns:
            # As text, for our own parser is several times faster than the driver's.
            self._columns[name] = cast(column, Text)
            self._json[name] = None
        tag, absent = attribute.tag, {"vr": attribute.vr}
        return lambda match: match.attributes.get(tag, absent)

    def _computed(self, attribute: Attribute) -> _Make:
        name, vr = attribute.column, attribute.vr
        self._columns[name] = _COMPUTED[attribute.keyword]
        self.needs_object = self.needs_object or attribute.keyword == "AvailableTransferSyntaxUID"

        def make(match: _Match) -> Any:
            value = match.row[name]
            values = value if isinstance(value, list) else [] if value is None else [value]
            return {"vr": vr, "Value": values} if values else {"vr": vr}

        return make

    def _from_header(self, tag: str) -> _Make:
        self.needs_header = True
        self._columns["header_codec"] = header.c.codec
        self._columns["header_data"] = header.c.data
        return lambda match: match.header.get(tag)

    def _retrieve_url(self) -> _Make:
        path = _PATHS[: _DEPTH[self._level]]
        for _, name, column in path:
            self._columns[name] = column
        base = self._base

        def make(match: _Match) -> Any:
            parts = "".join(f"/{resource}/{match.row[name]}" for resource, name, _ in path)
            return {"vr": "UR", "Value": [f"{base}{parts}"]}

        return make


def _constant(element: dict[str, Any]) -> _Make:
    return lambda _match: element

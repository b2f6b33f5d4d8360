"""Rows of a search as documents of the DICOM JSON model (PS3.18 Annex F)."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from gantry_domain.attributes import ATTRIBUTES, BY_TAG, Attribute, Level
from gantry_domain.query import Query, at_or_above
from gantry_stores.index.headers import decode_header
from gantry_stores.index.search.conditions import TABLES

# What a match is told besides the attributes of the table (PS3.18 Tables 10.6.3-3 to -5).
SPECIFIC_CHARACTER_SET = "00080005"
INSTANCE_AVAILABILITY = "00080056"
RETRIEVE_URL = "00081190"

Document = dict[str, Any]
Row = Sequence[Any]
_Make = Callable[["_Match"], Any]

# The object whose header stands for a match.
SOURCES = {
    Level.PATIENT: "study.source",
    Level.STUDY: "study.source",
    Level.SERIES: "series.source",
    Level.INSTANCE: "instance.object_id",
}

_COMPUTED = {
    "ModalitiesInStudy": "study.modalities_in_study",
    "SOPClassesInStudy": "study.sop_classes_in_study",
    "NumberOfStudyRelatedSeries": "study.number_of_study_related_series",
    "NumberOfStudyRelatedInstances": "study.number_of_study_related_instances",
    "NumberOfSeriesRelatedInstances": "series.number_of_series_related_instances",
    "AvailableTransferSyntaxUID": "object.transfer_syntax_uid",
}

_PATHS = (
    ("studies", "study.study_instance_uid"),
    ("series", "series.series_instance_uid"),
    ("instances", "instance.sop_instance_uid"),
)
_DEPTH = {Level.STUDY: 1, Level.SERIES: 2, Level.INSTANCE: 3}


class _Match:
    """One row with its JSON parsed."""

    __slots__ = ("attributes", "header", "row")

    def __init__(self, row: Row, json: Sequence[int], header: tuple[int, int] | None) -> None:
        self.row = row
        self.attributes: dict[str, Any] = {}
        for place in json:
            self.attributes |= orjson.loads(row[place])
        self.header: Mapping[str, Any] = {}
        if header is not None and row[header[1]] is not None:
            self.header = decode_header(row[header[0]], row[header[1]])


class Shape:
    """Which columns a query needs, and how a row of them becomes a document. It never changes.

    `retrieve_base` is the URL below which `/studies` lies; without one no RetrieveURL is given.
    """

    def __init__(
        self, level: Level, include: frozenset[str], *, everything: bool, retrieve_base: str | None
    ) -> None:
        self._level = level
        self._base = retrieve_base
        self._places: dict[str, int] = {}
        self._json: list[int] = []
        self._header: tuple[int, int] | None = None
        self.needs_object = False
        wanted = set(include)
        if everything:
            wanted |= {a.tag for a in ATTRIBUTES if at_or_above(a.level, level)}
        makers = ((tag, self._maker(tag)) for tag in sorted(wanted))
        self._makers = [(tag, make) for tag, make in makers if make is not None]

    @property
    def columns(self) -> list[str]:
        """What matches are read from; the rest of a row is the caller's."""
        return list(self._places)

    def chosen(self, column: str, place: int) -> str:
        """How the column at a place is read."""
        # As text, for our own parser is several times faster than the driver's.
        return f"{column}::text" if place in self._json else column

    @property
    def needs_header(self) -> bool:
        """Whether `header` is among what is selected from."""
        return self._header is not None

    def document(self, row: Row) -> Document:
        """The attributes of one match, in the order of their tags."""
        match = _Match(row, self._json, self._header)
        made = ((tag, make(match)) for tag, make in self._makers)
        return {tag: element for tag, element in made if element is not None}

    def _place(self, column: str) -> int:
        """Where a column is in a row, from now on."""
        return self._places.setdefault(column, len(self._places))

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
        # A study's attributes include those of its patient.
        place = self._place(f"{TABLES[attribute.level].name}.attributes")
        if place not in self._json:
            self._json.append(place)
        tag, absent = attribute.tag, {"vr": attribute.vr}
        return lambda match: match.attributes.get(tag, absent)

    def _computed(self, attribute: Attribute) -> _Make:
        place, vr = self._place(_COMPUTED[attribute.keyword]), attribute.vr
        self.needs_object = self.needs_object or attribute.keyword == "AvailableTransferSyntaxUID"

        def make(match: _Match) -> Any:
            value = match.row[place]
            values = value if isinstance(value, list) else [] if value is None else [value]
            return {"vr": vr, "Value": values} if values else {"vr": vr}

        return make

    def _from_header(self, tag: str) -> _Make:
        self._header = self._place("header.codec"), self._place("header.data")
        return lambda match: match.header.get(tag)

    def _retrieve_url(self) -> _Make:
        path = _PATHS[: _DEPTH[self._level]]
        places = [(resource, self._place(column)) for resource, column in path]
        base = self._base

        def make(match: _Match) -> Any:
            parts = "".join(f"/{resource}/{match.row[place]}" for resource, place in places)
            return {"vr": "UR", "Value": [f"{base}{parts}"]}

        return make


@lru_cache(maxsize=256)
def _shape(
    level: Level, include: frozenset[str], everything: bool, retrieve_base: str | None
) -> Shape:
    return Shape(level, include, everything=everything, retrieve_base=retrieve_base)


def shape_of(query: Query, *, retrieve_base: str | None) -> Shape:
    """The shape of a query's rows; clients ask for the same attributes time and again."""
    return _shape(query.level, query.include, query.everything, retrieve_base)


def _constant(element: dict[str, Any]) -> _Make:
    return lambda _match: element

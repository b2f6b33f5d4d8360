"""The parameters of a search (QIDO-RS, PS3.18 8.3.4 and 10.6.1) as a query.

Unknown parameters are ignored. A parameter that names an attribute which cannot be searched for at
this level is ignored too, but the answer says so.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from gantry_domain.attributes import ATTRIBUTES, BY_KEYWORD, BY_TAG, Attribute, Level, attributes_at
from gantry_domain.dictionary import KEYWORDS, VRS
from gantry_domain.query import (
    FOUND_LOOSELY,
    INNER_VRS,
    BadQuery,
    Key,
    Names,
    OneOf,
    Order,
    PageRequest,
    Query,
    at_or_above,
    parse_inner_test,
    parse_test,
    parse_uids,
)
from gantry_stores.index.search import CURSOR

LARGEST_PAGE = 5000
FURTHEST_OFFSET = 100_000
MOST_FIELDS = 1000

_CONTROLS = frozenset(
    {
        "limit",
        "offset",
        "includefield",
        "fuzzymatching",
        "orderby",
        "count",
        "accept",
        "charset",
        CURSOR,
    }
)
_TAG = re.compile(r"[0-9A-F]{8}")

# SpecificCharacterSet, InstanceAvailability, TimezoneOffsetFromUTC and RetrieveURL, which every
# match has (PS3.18 Tables 10.6.3-3 to -5).
_ALWAYS = frozenset({"00080005", "00080056", "00080201", "00081190"})
_PARENT_UIDS = {
    Level.STUDY: (),
    Level.SERIES: ("StudyInstanceUID",),
    Level.INSTANCE: ("StudyInstanceUID", "SeriesInstanceUID"),
}
_ABOVE = {
    Level.STUDY: (Level.PATIENT,),
    Level.SERIES: (Level.PATIENT, Level.STUDY),
    Level.INSTANCE: (Level.PATIENT, Level.STUDY, Level.SERIES),
}

_TAG_OF_KEYWORD = {
    **{keyword.lower(): f"{tag:08X}" for keyword, tag in KEYWORDS.items()},
    **{attribute.keyword.lower(): attribute.tag for attribute in ATTRIBUTES},
}


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A query, and what its answer has to say about the request."""

    query: Query
    warnings: tuple[str, ...]
    counted: bool = False
    """Whether the number of all matches is asked for."""


def parse_search(
    level: Level, parameters: Iterable[tuple[str, str]], *, within: Mapping[str, str]
) -> SearchRequest:
    """The query of a request. `within`: the UIDs of its path by keyword. Raises `BadQuery`."""
    items = list(parameters)
    keys = [
        Key(BY_KEYWORD[keyword], OneOf(parse_uids(uid, parameter=keyword)))
        for keyword, uid in within.items()
    ]
    include = set(_required(level, frozenset(within)))
    warnings, ignored = [], []
    loosely = any(_flag(items, "fuzzymatching"))
    by_letters: list[str] = []
    seen: set[str] = set()
    for name, value in items:
        if name.lower() in _CONTROLS:
            continue
        tag = _tag_of(name)
        if tag is None:
            continue
        attribute = BY_TAG.get(tag)
        inner = _inner_key(name, value, attribute, level)
        if inner is not None:
            keys.append(inner)
            include.add(tag)
            continue
        if "." in name or attribute is None or not _searchable(attribute, level):
            # A value would have left out matches; no value asks for the attribute alone.
            if value.strip(" *"):
                ignored.append(name)
            include.add(tag)
            continue
        if tag in seen:
            raise BadQuery(name, "is given twice; several values are divided by \\")
        seen.add(tag)
        include.add(tag)
        test = parse_test(attribute, value, parameter=name, loosely=loosely)
        if test is not None:
            keys.append(Key(attribute, test))
            if loosely and isinstance(test, Names) and attribute.keyword not in FOUND_LOOSELY:
                by_letters.append(name)
    if ignored:
        warnings.append(f"These parameters are not searched for and were ignored: {_list(ignored)}")
    if by_letters:
        warnings.append(f"Only literal matching has been performed of: {_list(by_letters)}")
    fields, everything = _fields(items)
    query = Query(
        level=level,
        keys=tuple(keys),
        include=frozenset(include | fields),
        page=_page(items),
        everything=everything,
        order=tuple(_order(items, level)),
    )
    return SearchRequest(query, tuple(warnings), any(_flag(items, "count")))


@cache
def _required(level: Level, within: frozenset[str]) -> frozenset[str]:
    """The tags that every match has; those of the levels above only where the path names none."""
    levels = [level, Level.PATIENT] if level is Level.STUDY else [level]
    if level is not Level.STUDY:
        named = {Level.PATIENT: "StudyInstanceUID", Level.STUDY: "StudyInstanceUID"}
        named[Level.SERIES] = "SeriesInstanceUID"
        levels += [above for above in _ABOVE[level] if named[above] not in within]
    tags = {attribute.tag for attribute in attributes_at(*levels) if attribute.required}
    tags |= {BY_KEYWORD[keyword].tag for keyword in _PARENT_UIDS[level]}
    if level is Level.INSTANCE:
        tags.add(BY_KEYWORD["AvailableTransferSyntaxUID"].tag)
    return _ALWAYS | tags


def _inner_key(name: str, value: str, attribute: Attribute | None, level: Level) -> Key | None:
    """`RequestAttributesSequence.RequestedProcedureID=...`: a key within a sequence of the table.

    None for what is none, or cannot be compared.
    """
    _, dot, last = name.partition(".")
    if (
        not dot
        or attribute is None
        or attribute.vr != "SQ"
        or not at_or_above(attribute.level, level)
    ):
        return None
    tag = _tag_of(last) if "." not in last else None
    vr = VRS.get(int(tag, 16), "") if tag is not None else ""
    if tag is None or vr not in INNER_VRS:
        return None
    test = parse_inner_test(vr, value, parameter=name)
    return Key(attribute, test, tag) if test is not None else None


def _searchable(attribute: Attribute, level: Level) -> bool:
    return attribute.matching is not None and at_or_above(attribute.level, level)


def _tag_of(name: str) -> str | None:
    """The tag that a keyword, a tag or the first step of a path names."""
    first, _, _ = name.partition(".")
    tag = first.strip().upper()
    return tag if _TAG.fullmatch(tag) else _TAG_OF_KEYWORD.get(first.strip().lower())


def _values(items: list[tuple[str, str]], name: str) -> list[str]:
    return [value for key, value in items if key.lower() == name]


def _flag(items: list[tuple[str, str]], name: str) -> Iterator[bool]:
    for value in _values(items, name):
        if value.lower() not in ("true", "false", ""):
            raise BadQuery(name, "is neither true nor false")
        yield value.lower() == "true"


def _page(items: list[tuple[str, str]]) -> PageRequest:
    after = [value for value in _values(items, CURSOR) if value]
    if len(after) > 1:
        raise BadQuery(CURSOR, "is given twice")
    offset = _integer(items, "offset", default=0)
    if offset > FURTHEST_OFFSET:
        raise BadQuery("offset", f"is at most {FURTHEST_OFFSET}; follow the links to next pages")
    if after and offset:
        raise BadQuery("offset", f"cannot be combined with {CURSOR}")
    limit = min(_integer(items, "limit", default=LARGEST_PAGE), LARGEST_PAGE)
    return PageRequest(limit=limit, offset=offset, after=after[0] if after else None)


def _integer(items: list[tuple[str, str]], name: str, *, default: int) -> int:
    values = [value.strip() for value in _values(items, name) if value.strip()]
    if len(values) > 1:
        raise BadQuery(name, "is given twice")
    if not values:
        return default
    if not re.fullmatch(r"[0-9]{1,12}", values[0]):
        raise BadQuery(name, "is not a number from 0 on")
    return int(values[0])


def _fields(items: list[tuple[str, str]]) -> tuple[set[str], bool]:
    """The tags of `includefield`, and whether it says `all`. Unknown ones are passed over."""
    names = [part.strip() for value in _values(items, "includefield") for part in value.split(",")]
    if len(names) > MOST_FIELDS:
        raise BadQuery("includefield", f"names more than {MOST_FIELDS} attributes")
    tags = {tag for name in names if (tag := _tag_of(name)) is not None}
    return tags, any(name.lower() == "all" for name in names)


def _order(items: list[tuple[str, str]], level: Level) -> Iterator[Order]:
    """`orderby=StudyDate,-PatientName`: `-` in front puts the greatest first."""
    names = [part.strip() for value in _values(items, "orderby") for part in value.split(",")]
    seen = set()
    for name in filter(None, names):
        tag = _tag_of(name.removeprefix("-"))
        attribute = BY_TAG.get(tag) if tag is not None else None
        if attribute is None or not at_or_above(attribute.level, level):
            raise BadQuery("orderby", "names no attribute that can be ordered by at this level")
        if attribute.keyword not in seen:
            seen.add(attribute.keyword)
            yield Order(attribute, descending=name.startswith("-"))


def _list(names: list[str]) -> str:
    # What is shown in a header of the answer holds nothing but names of attributes.
    return ", ".join(dict.fromkeys(re.sub(r"[^0-9A-Za-z.]", "", name)[:64] for name in names))

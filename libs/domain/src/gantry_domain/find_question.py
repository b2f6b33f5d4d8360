"""The keys of a C-FIND request as a question to the index (PS3.4 C.4.1.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from gantry_domain.attributes import BY_TAG, Attribute, Level
from gantry_domain.find_identifier import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    FindIdentifier,
    RequestedKey,
)
from gantry_domain.find_moments import AnswerZone, taken_together
from gantry_domain.information_models import UNIQUE_KEYS, InformationModel
from gantry_domain.moments import Zones, parse_offset
from gantry_domain.query import BadQuery, Key, PageRequest, Query, at_or_above, parse_test

# What an answer says of the archive, not of a match.
_OF_THE_ARCHIVE = frozenset((QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What an association has agreed on beyond the plain rules (PS3.4 C.5.1.1).

    `relational`: keys of higher levels may be left out. `moments`: dates and times are matched
    together. `loose_names`: names by how words begin. `zone`: in the time zone that the question
    names; `local` is that of values that name none.
    """

    relational: bool = False
    moments: bool = False
    loose_names: bool = False
    zone: bool = False
    local: ZoneInfo = ZoneInfo("UTC")  # noqa: RUF009 - it never changes


NOTHING_MORE = Agreed()


@dataclass(frozen=True, slots=True)
class FindQuestion:
    """A question, and whether all that was asked could be asked of the index.

    `complete` is False where a key was not matched or is not known at the level; answers then
    have the status Pending Warning (PS3.4 C.4.1.1.4).
    """

    query: Query
    complete: bool
    answers_in: AnswerZone | None = None
    """The time zone of the answers; None: as they stand."""


def find_question(
    identifier: FindIdentifier,
    *,
    model: InformationModel,
    page: PageRequest,
    agreed: Agreed = NOTHING_MORE,
) -> FindQuestion:
    """The question that the keys ask, by the rules of a hierarchical query (PS3.4 C.4.1.2.1), or of
    a relational one, which needs no unique keys of higher levels (C.4.1.2.2).

    Keys of higher levels than that of the query are matched and returned as well, for many
    workstations ask so. `agreed`: what is agreed on besides. Raises `BadQuery`.
    """
    level = identifier.level(model)
    asked = [key for key in identifier.keys if key.tag not in _OF_THE_ARCHIVE]
    zone = _zone(identifier, agreed)
    keys = taken_together(
        tuple(_matched(asked, level, loosely=agreed.loose_names)),
        ranges={a.keyword for k in asked if "-" in k.text and (a := _attribute(k))},
        combined=agreed.moments,
        zones=None if zone is None else Zones(zone.asked, agreed.local.key),
    )
    named = {key.attribute.keyword for key in keys}
    for above in () if agreed.relational else model.above(level):
        if UNIQUE_KEYS[above] not in named:
            raise BadQuery(UNIQUE_KEYS[above], "must have a value in a search below it")
    include = frozenset(f"{key.tag:08X}" for key in asked)
    query = Query(
        level=level,
        keys=keys,
        include=include if zone is None else zone.include(include),
        page=page,
    )
    return FindQuestion(query, all(_supported(key, level) for key in asked), zone)


def _zone(identifier: FindIdentifier, agreed: Agreed) -> AnswerZone | None:
    """The time zone that the question names, if that is agreed on. Raises `BadQuery`."""
    if not agreed.zone or not identifier.timezone:
        return None
    asked = parse_offset(identifier.timezone)
    if asked is None:
        raise BadQuery("TimezoneOffsetFromUTC", "is not an offset such as +0800")
    return AnswerZone(identifier.timezone, asked, agreed.local)


def _matched(asked: list[RequestedKey], level: Level, *, loosely: bool) -> Iterator[Key]:
    for key in asked:
        attribute = _attribute(key)
        if attribute is not None and _searchable(attribute, level) and not key.universal:
            test = parse_test(attribute, key.text, loosely=loosely)
            if test is not None:
                yield Key(attribute, test)


def _supported(key: RequestedKey, level: Level) -> bool:
    attribute = _attribute(key)
    if attribute is None:  # returned from the stored header, and never matched
        return key.universal
    if not at_or_above(attribute.level, level):
        return False
    return key.universal or _searchable(attribute, level)


def _searchable(attribute: Attribute, level: Level) -> bool:
    return attribute.matching is not None and at_or_above(attribute.level, level)


def _attribute(key: RequestedKey) -> Attribute | None:
    return BY_TAG.get(f"{key.tag:08X}")

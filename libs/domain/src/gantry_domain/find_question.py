"""The keys of a C-FIND request as a question to the index (PS3.4 C.4.1.2)."""

from collections.abc import Iterator
from dataclasses import dataclass

from gantry_domain.attributes import BY_TAG, Attribute, Level
from gantry_domain.find_identifier import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    FindIdentifier,
    RequestedKey,
)
from gantry_domain.information_models import UNIQUE_KEYS, InformationModel
from gantry_domain.query import BadQuery, Key, PageRequest, Query, at_or_above, parse_test

# What an answer says of the archive, not of a match.
_OF_THE_ARCHIVE = frozenset((QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY))


@dataclass(frozen=True, slots=True)
class FindQuestion:
    """A question, and whether all that was asked could be asked of the index.

    `complete` is False where a key was not matched or is not known at the level; answers then
    have the status Pending Warning (PS3.4 C.4.1.1.4).
    """

    query: Query
    complete: bool


def find_question(
    identifier: FindIdentifier,
    *,
    model: InformationModel,
    page: PageRequest,
    relational: bool = False,
) -> FindQuestion:
    """The question that the keys ask, by the rules of a hierarchical query (PS3.4 C.4.1.2.1), or of
    a relational one, which needs no unique keys of higher levels (C.4.1.2.2).

    Keys of higher levels than that of the query are matched and returned as well, for many
    workstations ask so. Raises `BadQuery`.
    """
    level = identifier.level(model)
    asked = [key for key in identifier.keys if key.tag not in _OF_THE_ARCHIVE]
    keys = tuple(_matched(asked, level))
    named = {key.attribute.keyword for key in keys}
    for above in () if relational else model.above(level):
        if UNIQUE_KEYS[above] not in named:
            raise BadQuery(UNIQUE_KEYS[above], "must have a value in a search below it")
    query = Query(
        level=level,
        keys=keys,
        include=frozenset(f"{key.tag:08X}" for key in asked),
        page=page,
    )
    return FindQuestion(query, all(_supported(key, level) for key in asked))


def _matched(asked: list[RequestedKey], level: Level) -> Iterator[Key]:
    for key in asked:
        attribute = _attribute(key)
        if attribute is not None and _searchable(attribute, level) and not key.universal:
            test = parse_test(attribute, key.text)
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

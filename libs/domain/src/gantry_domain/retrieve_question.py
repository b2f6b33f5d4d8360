"""The keys of a C-MOVE or C-GET request: which instances are meant (PS3.4 C.4.2.1.4, C.4.3.1.3)."""

from dataclasses import dataclass

from gantry_domain.attributes import BY_KEYWORD, Level, Matching
from gantry_domain.find_identifier import FindIdentifier
from gantry_domain.information_models import UNIQUE_KEYS, InformationModel
from gantry_domain.query import BadQuery, Key, OneOf, parse_uids


@dataclass(frozen=True, slots=True)
class RetrieveQuestion:
    """What is retrieved: instances that pass all `keys`, which are unique keys with lists."""

    level: Level
    keys: tuple[Key, ...]


def retrieve_question(
    identifier: FindIdentifier, *, model: InformationModel, relational: bool = False
) -> RetrieveQuestion:
    """The unique keys of the level and of those above it; others mean nothing here.

    Each needs a value, and may have several; if `relational`, those above may be left out (PS3.4
    C.4.2.2.2). Raises `BadQuery`.
    """
    level = identifier.level(model)
    above = (_key(identifier, each, needed=not relational) for each in model.above(level))
    keys = (*above, _key(identifier, level, needed=True))
    return RetrieveQuestion(level, tuple(key for key in keys if key is not None))


def _key(identifier: FindIdentifier, level: Level, *, needed: bool) -> Key | None:
    attribute = BY_KEYWORD[UNIQUE_KEYS[level]]
    key = identifier.key(int(attribute.tag, 16))
    if key is None or key.universal:
        if not needed:
            return None
        raise BadQuery(attribute.keyword, "must have a value in a retrieval")
    if attribute.matching is Matching.UID:
        return Key(attribute, OneOf(parse_uids(key.text, parameter=attribute.keyword)))
    # A patient is named, never searched for: `*` is a character of the identifier.
    values = dict.fromkeys(value.strip() for value in key.text.split("\\"))
    return Key(attribute, OneOf(tuple(value for value in values if value)))

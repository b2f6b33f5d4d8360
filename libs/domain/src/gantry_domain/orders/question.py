"""The keys of a worklist query as a question to the index (PS3.4 K.4.1.1.3, Table K.6-1)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gantry_domain.find_identifier import FindIdentifier, RequestedKey
from gantry_domain.orders.attributes import (
    MATCHED_BY_TAG,
    PLACES,
    SCHEDULED_PROCEDURE_STEP_SEQUENCE,
    STATUS,
    Place,
    tag_of,
)
from gantry_domain.orders.states import STATUSES, TO_DO, StepState
from gantry_domain.query import BadQuery, Empty, Like, OneOf, Range, Test, parse_test

_RETURNED = {tag_of(keyword) for keyword in PLACES} | {STATUS.tag}
_STATION = "ScheduledStationAETitle"


@dataclass(frozen=True, slots=True)
class WorklistKey:
    """A matching key: whose attribute it is of, by keyword, and its test."""

    place: Place
    keyword: str
    test: Test


@dataclass(frozen=True, slots=True)
class WorklistQuestion:
    """What is asked: all keys have to pass.

    `station`: the one title that is asked for, None if none, several or a pattern is. `complete`:
    whether all that was asked could be asked of the index.
    """

    keys: tuple[WorklistKey, ...]
    states: frozenset[StepState]
    station: str | None
    complete: bool

    def range_of(self, keyword: str) -> Range | None:
        """The range that is asked for of a date or time."""
        for key in self.keys:
            if key.keyword == keyword and isinstance(key.test, Range):
                return key.test
        return None


def worklist_question(identifier: FindIdentifier) -> WorklistQuestion:
    """The question that the keys ask. Raises `BadQuery`."""
    inside: tuple[RequestedKey, ...] = ()
    outside: list[RequestedKey] = []
    for key in identifier.keys:
        if f"{key.tag:08X}" != SCHEDULED_PROCEDURE_STEP_SEQUENCE:
            outside.append(key)
            continue
        items = key.items or ()
        if len(items) > 1:
            raise BadQuery("ScheduledProcedureStepSequence", "has more than one item")
        inside = items[0] if items else ()
    keys = (*_matched(outside, (Place.PATIENT, Place.ORDER)), *_matched(inside, (Place.STEP,)))
    stations = [key.test for key in keys if key.keyword == _STATION]
    station = None
    if stations and isinstance(stations[0], OneOf) and len(stations[0].values) == 1:
        (station,) = stations[0].values
    known = {STATUS.tag, *(tag for place in Place for tag in MATCHED_BY_TAG[place])}
    complete = all(
        f"{key.tag:08X}" in known or (key.universal and _known(key)) for key in (*outside, *inside)
    )
    return WorklistQuestion(keys, _states(inside), station, complete)


def _known(key: RequestedKey) -> bool:
    # What is never told is returned empty, which is an answer too; only a value is not matched.
    return f"{key.tag:08X}" in _RETURNED or key.universal


def _matched(keys: Iterable[RequestedKey], places: tuple[Place, ...]) -> Iterator[WorklistKey]:
    for key in keys:
        for place in places:
            attribute = MATCHED_BY_TAG[place].get(f"{key.tag:08X}")
            if attribute is None or key.universal:
                continue
            test = parse_test(attribute, key.text)
            if test is not None:
                yield WorklistKey(place, attribute.keyword, test)


def _states(keys: Iterable[RequestedKey]) -> frozenset[StepState]:
    """Those whose (0040,0020) passes; without the key those of what is still to do."""
    for key in keys:
        if f"{key.tag:08X}" == STATUS.tag and not key.universal:
            test = parse_test(STATUS, key.text)
            return frozenset(state for state, name in STATUSES.items() if _passes(name, test))
    return TO_DO


def _passes(name: str, test: Test | None) -> bool:
    match test:
        case OneOf(values):
            return name in values
        case Like(patterns):
            return any(name.startswith(next(pattern.fragments(), "")) for pattern in patterns)
        case Empty():
            return False
        case _:
            return True

"""Turns routes, and what people push, into deliveries."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Engine

from gantry_domain.deliveries import DeliveryLevel
from gantry_domain.errors import PermanentError
from gantry_domain.routes import Route, onward
from gantry_stores.index.database import transaction
from gantry_stores.index.delivery_plans import (
    Pushable,
    find_pushable,
    mark_routed,
    plan_pushed,
    plan_routed,
    studies_to_route,
)

_AT_ONCE = 50
_PUSHED_FIRST = 10  # a person waits for it


class NothingToPush(PermanentError):
    """Nothing can be sent under this UID; the text says why."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What routes led to: studies whose routes were asked, deliveries that have something new."""

    studies: int = 0
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class Pushed:
    """A delivery that was asked for: its number, what it sends, whether it is new."""

    pk: int
    level: DeliveryLevel
    partition: str
    created: bool


def plan_routes(engine: Engine, routes: Sequence[Route], *, limit: int = 1000) -> Planned:
    """Ask the routes about every study that is complete and accepted and was not asked about since
    it last changed; several workers may do so at once.

    A study without any route counts as asked too: a route that is added later is about what comes
    later. So does one that was stored before the index was made: whoever loses the database and
    starts with an empty one would send the whole archive again. Raises `IndexUnavailable`.
    """
    studies = deliveries = 0
    while studies < limit:
        with transaction(engine) as connection:
            found = studies_to_route(connection, limit=_AT_ONCE, with_senders=bool(routes))
            for study in found:
                if study.older_than_index:
                    continue
                for each in onward(routes, study.facts):
                    deliveries += plan_routed(connection, study, each)
            if found:
                mark_routed(connection, found)
        studies += len(found)
        if len(found) < _AT_ONCE:
            break
    return Planned(studies, deliveries)


def plan_push(engine: Engine, uid: str, destination: str, *, partitions: Collection[str]) -> Pushed:
    """Plan the delivery of the study, series or instance that has this UID.

    Asked for again while it is on its way, it is the same delivery. Raises `NothingToPush`, or
    `IndexUnavailable`.
    """
    with transaction(engine) as connection:
        found = find_pushable(connection, uid, partitions=sorted(partitions))
        target = _the_one(found, uid)
        pk, created = plan_pushed(connection, target, destination, priority=_PUSHED_FIRST)
    return Pushed(pk, target.level, target.partition, created)


def _the_one(found: Sequence[Pushable], uid: str) -> Pushable:
    if not found:
        raise NothingToPush(f"no study, series or instance has the UID {uid}")
    if len(found) > 1:
        places = ", ".join(f"{each.level.value} in partition {each.partition}" for each in found)
        raise NothingToPush(f"the UID {uid} is not unique: {places}")
    target = found[0]
    if target.verdict is None:
        raise NothingToPush(f"the study of {uid} is not judged yet")
    if target.verdict != "accepted":
        raise NothingToPush(f"the study of {uid} is {target.verdict} and may not leave")
    return target

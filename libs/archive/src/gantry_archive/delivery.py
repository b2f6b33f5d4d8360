"""Turns routes, and what people push, into deliveries."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from sqlalchemy.engine import Connection, Engine

from gantry_domain.deliveries import DeliveryLevel
from gantry_domain.errors import PermanentError
from gantry_domain.route_parts import SeriesQuiet, leaving_early, leaving_whole
from gantry_domain.routes import Route, Trigger
from gantry_stores.index.database import transaction
from gantry_stores.index.delivery_plans import Pushable, find_pushable, plan_pushed, plan_routed
from gantry_stores.index.quiet import all_indexed_until
from gantry_stores.index.studies_to_route import (
    StudyToRoute,
    begun_destinations,
    mark_asked_early,
    mark_routed,
    studies_to_ask_early,
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


def plan_routes(
    engine: Engine, routes: Sequence[Route], *, limit: int = 1000, zone: tzinfo = UTC
) -> Planned:
    """Ask the routes about every study that is complete and accepted and was not asked about since
    it last changed; several workers may do so at once. `zone`: of the routes' times of the week.

    A study without any route counts as asked too: a route that is added later is about what comes
    later. So does one that was stored before the index was made: whoever loses the database and
    starts with an empty one would send the whole archive again. Raises `IndexUnavailable`.
    """
    studies = deliveries = 0
    while studies < limit:
        with transaction(engine) as connection:
            found = studies_to_route(connection, limit=_AT_ONCE, with_parts=bool(routes))
            for study in found:
                if study.older_than_index:
                    continue
                for each in leaving_whole(
                    routes,
                    study.facts,
                    study.parts,
                    moment=study.completed_at and study.completed_at.astimezone(zone),
                    begun=_begun(connection, study, routes),
                ):
                    deliveries += plan_routed(connection, study, each)
            if found:
                mark_routed(connection, found)
        studies += len(found)
        if len(found) < _AT_ONCE:
            break
    return Planned(studies, deliveries)


def plan_early(
    engine: Engine,
    routes: Sequence[Route],
    *,
    series_quiet: timedelta,
    limit: int = 1000,
    zone: tzinfo = UTC,
    now: datetime | None = None,
) -> Planned:
    """Ask the routes for series and instances about studies that are not complete, and accepted by
    what is known of them; several workers may do so at once.

    A series is quiet `series_quiet` after its last instance. What is missed here goes when the
    study is complete. Raises `IndexUnavailable`.
    """
    early = [route for route in routes if route.trigger is not Trigger.COMPLETE]
    if not early:
        return Planned()
    now = now or datetime.now(UTC)
    studies = deliveries = 0
    while studies < limit:
        with transaction(engine) as connection:
            quiet = SeriesQuiet(
                now=now, quiet=series_quiet, all_indexed_until=all_indexed_until(connection)
            )
            found = studies_to_ask_early(connection, limit=_AT_ONCE, now=now)
            for study in found:
                leaving, due_at = leaving_early(
                    early,
                    study.facts,
                    study.parts,
                    quiet=quiet,
                    moment=now.astimezone(zone),
                    begun=_begun(connection, study, early),
                )
                for each in leaving:
                    deliveries += plan_routed(connection, study, each)
                mark_asked_early(connection, study, series_due_at=due_at)
        studies += len(found)
        if len(found) < _AT_ONCE:
            break
    return Planned(studies, deliveries)


def _begun(connection: Connection, study: StudyToRoute, routes: Sequence[Route]) -> set[str]:
    """Where something of the study went, of what routes send to at some times alone."""
    titles = {title for route in routes if route.during for title in route.send_to}
    return begun_destinations(connection, study, titles) if titles else set()


def plan_push(engine: Engine, uid: str, destination: str, *, partitions: Collection[str]) -> Pushed:
    """Plan the delivery of the study, series or instance that has this UID.

    Asked for again while it is on its way, it is the same delivery. Raises `NothingToPush`, or
    `IndexUnavailable`.
    """
    with transaction(engine) as connection:
        found = find_pushable(connection, uid, partitions=sorted(partitions))
        target = may_leave(found, uid)
        pk, created = plan_pushed(connection, target, destination, priority=_PUSHED_FIRST)
    return Pushed(pk, target.level, target.partition, created)


def may_leave(found: Sequence[Pushable], uid: str) -> Pushable:
    """The only one of those with this UID, if its study may leave. Raises `NothingToPush`."""
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

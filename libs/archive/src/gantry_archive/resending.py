"""Plans deliveries of what was stored in a time range: only what each destination has not.

Piece by piece, each study in a transaction of its own, so that a month of images neither holds one
open nor is lost if whoever asked goes away: asked again, only what is missing is planned.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_domain.errors import ConfigurationError
from gantry_domain.keys import first_object_id
from gantry_domain.route_parts import Leaving, leaving_whole
from gantry_domain.routes import Onward, Route
from gantry_runtime.names import did_you_mean
from gantry_stores.index.database import transaction
from gantry_stores.index.range_plans import StoredRange, plan_range, stored_range
from gantry_stores.index.studies_to_route import StudyToRoute, study_to_replay

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # no identifier is older


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What was received from `since` up to `until` (aware), in these partitions."""

    since: datetime
    until: datetime
    partitions: Collection[str]

    def __post_init__(self) -> None:
        if not _EPOCH <= self.since < self.until:
            raise ConfigurationError("the time range ends before it begins")


@dataclass(frozen=True, slots=True)
class ByRoutes:
    """To where these routes send, whatever the time of the week is."""

    routes: Sequence[Route]

    def leaving(self, study: StudyToRoute) -> tuple[Leaving, ...]:
        """What of the study goes where."""
        return leaving_whole(self.routes, study.facts, study.parts)


@dataclass(frozen=True, slots=True)
class To:
    """To one destination, by its AE title."""

    destination: str

    def leaving(self, _study: StudyToRoute) -> tuple[Leaving, ...]:
        """All of it goes there."""
        return (Leaving(Onward(self.destination)),)


@dataclass(slots=True)
class Resent:
    """How far a range was gone through, and what is on its way because of that."""

    studies: set[tuple[str, str]] = field(default_factory=set)
    """By partition and UID."""
    left_out: set[tuple[str, str]] = field(default_factory=set)
    """Of them those that are held, or not complete: what still comes goes by itself."""
    objects: int = 0
    instances: int = 0
    """That are sent, over all destinations."""
    deliveries: set[int] = field(default_factory=set)
    reached: UUID | None = None
    """Where to go on; None: the range is done."""


def route_named(routes: Sequence[Route], name: str) -> Route:
    """Raises `ConfigurationError` where no route is called so."""
    for route in routes:
        if route.name == name:
            return route
    hint = did_you_mean(name, [route.name for route in routes]) if routes else "; there are none"
    raise ConfigurationError(f"no route is called {name}{hint}")


def resend(
    engine: Engine,
    span: Span,
    where: ByRoutes | To,
    *,
    dry_run: bool = False,
    after: UUID | None = None,
    at_once: int = 2000,
) -> Iterator[Resent]:
    """Plan piece by piece, and say after each how far it came: the same counts, grown.

    `dry_run`: count what would be sent, and write nothing. `after`: begin where an earlier one has
    `reached`. `at_once`: objects of one piece. Raises `IndexUnavailable`.
    """
    done = Resent()
    first, end = first_object_id(span.since), first_object_id(span.until)
    if after is not None:
        first = max(first, after)
    while first < end:
        with transaction(engine) as connection:
            within = stored_range(
                connection,
                first=first,
                end=end,
                partitions=span.partitions,
                limit=at_once,
            )
        for study in within.studies:
            _resend_study(engine, within, study, where, done, dry_run=dry_run)
        done.studies.update(within.studies)
        done.objects += within.objects
        first = within.end
        done.reached = first if first < end else None
        yield done


def _resend_study(
    engine: Engine,
    within: StoredRange,
    named: tuple[str, str],
    where: ByRoutes | To,
    done: Resent,
    *,
    dry_run: bool,
) -> None:
    partition, uid = named
    with transaction(engine) as connection:
        study = study_to_replay(
            connection,
            partition=partition,
            StudyInstanceUID=uid,
            with_parts=isinstance(where, ByRoutes),
        )
        if study is None:
            done.left_out.add(named)
            return
        for leaving in where.leaving(study):
            number, pk = plan_range(
                connection,
                within,
                partition=partition,
                StudyInstanceUID=uid,
                destination=leaving.onward.destination,
                parts=leaving.parts,
                dry_run=dry_run,
            )
            done.instances += number
            if pk is not None:
                done.deliveries.add(pk)

"""Routes: which studies, or parts of them, go to which destinations, decided from a few facts."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache
from types import MappingProxyType

from gantry_domain.day_times import WeekSpan
from gantry_domain.errors import ConfigurationError


class Trigger(Enum):
    """When a route takes a study. Whatever it is, only what is accepted by then."""

    COMPLETE = "complete"
    """Once it is complete; instances that come later are sent after it."""
    SERIES = "series"
    """Each series once it is quiet, whatever else of the study still comes."""
    INSTANCE = "instance"
    """Each instance once it is indexed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What a route's conditions can ask of a study, or of a part of it."""

    partition: str
    ModalitiesInStudy: tuple[str, ...] = ()
    SOPClassesInStudy: tuple[str, ...] = ()
    StudyDescription: str | None = None
    SeriesDescriptions: tuple[str, ...] = ()
    calling_aes: tuple[str, ...] = ()
    """The AE titles that sent its instances."""
    called_aes: tuple[str, ...] = ()
    """The AE titles of ours that they were sent to."""
    findings: tuple[str, ...] = ()
    """What the policies found that weighs: each rule, and each code."""


def _values(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


# What `when` may name, of policies too: the key and the values of the study that it looks at.
CONDITIONS: Mapping[str, Callable[[StudyFacts], tuple[str, ...]]] = MappingProxyType(
    {
        "Modality": lambda facts: facts.ModalitiesInStudy,
        "SOPClassUID": lambda facts: facts.SOPClassesInStudy,
        "StudyDescription": lambda facts: _values(facts.StudyDescription),
        "calling_ae": lambda facts: facts.calling_aes,
        "called_ae": lambda facts: facts.called_aes,
        "partition": lambda facts: (facts.partition,),
        "finding": lambda facts: facts.findings,
    }
)
ROUTE_CONDITIONS: Mapping[str, Callable[[StudyFacts], tuple[str, ...]]] = MappingProxyType(
    {**CONDITIONS, "SeriesDescription": lambda facts: facts.SeriesDescriptions}
)


def meets(when: Mapping[str, tuple[str, ...]], facts: StudyFacts) -> bool:
    """Whether one of the study's values matches one of the patterns of every condition."""
    return all(
        any(
            _matches(pattern, value)
            for pattern in patterns
            for value in ROUTE_CONDITIONS[key](facts)
        )
        for key, patterns in when.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One rule: studies that meet every condition go to every destination.

    A condition holds if one of the study's values matches one of the patterns, in which `*`
    stands for any characters and `?` for one, as in a query (PS3.4 C.2.2.2.4); case does not
    count. Without conditions every study is meant. `priority`: what is higher goes first. `priors`:
    so many earlier studies of the same patient go along, of the same modality before others.
    `during`: at these times of the week alone is it asked; empty: at any.
    """

    name: str
    send_to: tuple[str, ...]
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trigger: Trigger = Trigger.COMPLETE
    priority: int = 0
    priors: int = 0
    during: tuple[WeekSpan, ...] = ()

    def __post_init__(self) -> None:
        for key, patterns in self.when.items():
            if key not in ROUTE_CONDITIONS:
                raise ConfigurationError(
                    f"the route {self.name} asks for {key}; "
                    f"a route can ask for {', '.join(ROUTE_CONDITIONS)}"
                )
            if not patterns:
                raise ConfigurationError(
                    f"the route {self.name} lists nothing under {key}, so it would match no study"
                )
        if not self.send_to:
            raise ConfigurationError(f"the route {self.name} names no destination")

    def matches(self, facts: StudyFacts) -> bool:
        """Whether the study meets every condition."""
        return meets(self.when, facts)

    def takes_at(self, moment: datetime | None) -> bool:
        """Whether it is asked at a moment, in the zone of its times; None: at any."""
        return not self.during or moment is None or any(e.includes(moment) for e in self.during)


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> re.Pattern[str]:
    parts = (
        ".*" if part == "*" else "." if part == "?" else re.escape(part)
        for part in re.split(r"([*?])", pattern.casefold())
    )
    return re.compile("".join(parts), re.DOTALL)


def _matches(pattern: str, value: str) -> bool:
    return _pattern(pattern).fullmatch(value.casefold()) is not None


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a study goes: the AE title, how urgent it is, and how many priors go along."""

    destination: str
    priority: int = 0
    priors: int = 0


def onward(
    routes: Iterable[Route],
    facts: StudyFacts,
    *,
    trigger: Trigger = Trigger.COMPLETE,
    moment: datetime | None = None,
    begun: Collection[str] = (),
) -> tuple[Onward, ...]:
    """Where the study goes, each destination once, in the order of the routes.

    Of several routes to one the highest priority counts, and the most priors. What has `begun` to
    go to a destination goes there whole, whatever the time is.
    """
    found: dict[str, Onward] = {}
    for route in routes:
        if route.trigger is trigger and route.matches(facts):
            in_time = route.takes_at(moment)
            for title in route.send_to:
                if in_time or title in begun:
                    new = Onward(title, route.priority, route.priors)
                    found[title] = both(found.get(title, new), new)
    return tuple(found.values())


def both(one: Onward, other: Onward) -> Onward:
    """One way to a destination of two."""
    return Onward(one.destination, max(one.priority, other.priority), max(one.priors, other.priors))


def check_destinations(routes: Iterable[Route], known: Iterable[str]) -> None:
    """Raises `ConfigurationError` for a route to an AE title that nobody gave an address."""
    known = frozenset(known)
    for route in routes:
        for ae_title in route.send_to:
            if ae_title not in known:
                raise ConfigurationError(
                    f"the route {route.name} sends to {ae_title}, "
                    "which is not a partner with an address"
                )

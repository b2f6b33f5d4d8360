"""Routes: which complete studies go to which destinations, decided from a few of their facts."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from types import MappingProxyType

from gantry_domain.errors import ConfigurationError


class Trigger(Enum):
    """When a route takes a study."""

    COMPLETE = "complete"
    """Once it is complete and accepted; instances that come later are sent after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What a route's conditions can ask of a study."""

    partition: str
    ModalitiesInStudy: tuple[str, ...] = ()
    SOPClassesInStudy: tuple[str, ...] = ()
    StudyDescription: str | None = None
    calling_aes: tuple[str, ...] = ()
    """The AE titles that sent its instances."""
    called_aes: tuple[str, ...] = ()
    """The AE titles of ours that they were sent to."""
    findings: tuple[str, ...] = ()
    """What the policies found that weighs: each rule, and each code."""


def _values(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


# What `when` may name: the key and the values of the study that it looks at.
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


def meets(when: Mapping[str, tuple[str, ...]], facts: StudyFacts) -> bool:
    """Whether one of the study's values matches one of the patterns of every condition."""
    return all(
        any(_matches(pattern, value) for pattern in patterns for value in CONDITIONS[key](facts))
        for key, patterns in when.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One rule: studies that meet every condition go to every destination.

    A condition holds if one of the study's values matches one of the patterns, in which `*`
    stands for any characters and `?` for one, as in a query (PS3.4 C.2.2.2.4); case does not
    count. Without conditions every study is meant. `priority`: what is higher goes first. `priors`:
    so many earlier studies of the same patient go along, of the same modality before others.
    """

    name: str
    send_to: tuple[str, ...]
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trigger: Trigger = Trigger.COMPLETE
    priority: int = 0
    priors: int = 0

    def __post_init__(self) -> None:
        for key, patterns in self.when.items():
            if key not in CONDITIONS:
                raise ConfigurationError(
                    f"the route {self.name} asks for {key}; "
                    f"a route can ask for {', '.join(CONDITIONS)}"
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
    routes: Iterable[Route], facts: StudyFacts, *, trigger: Trigger = Trigger.COMPLETE
) -> tuple[Onward, ...]:
    """Where the study goes, each destination once, in the order of the routes.

    Of several routes to one the highest priority counts, and the most priors.
    """
    found: dict[str, Onward] = {}
    for route in routes:
        if route.trigger is trigger and route.matches(facts):
            for title in route.send_to:
                known = found.get(title, Onward(title))
                found[title] = Onward(
                    title,
                    max(known.priority, route.priority),
                    max(known.priors, route.priors),
                )
    return tuple(found.values())


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

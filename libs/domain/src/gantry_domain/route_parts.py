"""What of a study leaves now: the whole once it is complete, series and instances before it is."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby

from gantry_domain.routes import Onward, Route, StudyFacts, Trigger, both, onward

# When a series is looked at again whose quiet time is over while older objects wait for their row.
_LOOK_AGAIN = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The instances of a series that routes cannot tell apart: of one class, sent in one way."""

    SeriesInstanceUID: str
    SOPClassUID: str
    Modality: str | None = None
    SeriesDescription: str | None = None
    calling_ae: str | None = None
    called_ae: str | None = None
    received_at: datetime
    """When the last of them was, as `indexed_at`."""
    indexed_at: datetime


@dataclass(frozen=True, slots=True)
class Leaving:
    """What goes to one destination; `parts` None: all of the study."""

    onward: Onward
    parts: tuple[Part, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesQuiet:
    """When a series is quiet: `quiet` after its last instance was indexed, if what was received
    until then has its row (`all_indexed_until`; None: nobody knows)."""

    now: datetime
    quiet: timedelta
    all_indexed_until: datetime | None

    def due_at(self, parts: Collection[Part]) -> datetime:
        """From when on a series may be quiet; past: it is."""
        due = max(part.indexed_at for part in parts) + self.quiet
        if due > self.now:
            return due
        received = max(part.received_at for part in parts) + self.quiet
        known = self.all_indexed_until
        return due if known is not None and known >= received else self.now + _LOOK_AGAIN


def leaving_whole(
    routes: Sequence[Route],
    study: StudyFacts,
    parts: Iterable[Part],
    *,
    moment: datetime | None = None,
    begun: Collection[str] = (),
) -> tuple[Leaving, ...]:
    """Where a complete study goes: by routes for studies, and by those for parts of it, which may
    have been asked before."""
    parts = _sorted(parts)
    facts = facts_of(study, parts)
    found = _Found(moment, begun)
    found.add(routes, Trigger.COMPLETE, facts, None)
    for series in _by_series(parts):
        found.add(routes, Trigger.SERIES, facts_of(study, series), series)
    found.add_instances(routes, study, parts)
    return found.leaving()


def leaving_early(
    routes: Sequence[Route],
    study: StudyFacts,
    parts: Iterable[Part],
    *,
    quiet: SeriesQuiet,
    moment: datetime | None = None,
    begun: Collection[str] = (),
) -> tuple[tuple[Leaving, ...], datetime | None]:
    """What goes of a study that is not complete, and when its series are to be looked at again."""
    parts = _sorted(parts)
    found = _Found(moment, begun)
    found.add_instances(routes, study, parts)
    due: list[datetime] = []
    if any(route.trigger is Trigger.SERIES for route in routes):
        for series in _by_series(parts):
            due_at = quiet.due_at(series)
            if due_at <= quiet.now:
                found.add(routes, Trigger.SERIES, facts_of(study, series), series)
            else:
                due.append(due_at)
    return found.leaving(), min(due, default=None)


def facts_of(study: StudyFacts, parts: Collection[Part]) -> StudyFacts:
    """The facts of a study as far as these parts of it tell."""
    return replace(
        study,
        ModalitiesInStudy=_each(part.Modality for part in parts),
        SOPClassesInStudy=_each(part.SOPClassUID for part in parts),
        SeriesDescriptions=_each(part.SeriesDescription for part in parts),
        calling_aes=_each(part.calling_ae for part in parts),
        called_aes=_each(part.called_ae for part in parts),
    )


class _Found:
    """What was found by destination, in the order in which it was."""

    def __init__(self, moment: datetime | None, begun: Collection[str]) -> None:
        self._moment = moment
        self._begun = begun
        self._found: dict[str, Leaving] = {}

    def add(
        self,
        routes: Sequence[Route],
        trigger: Trigger,
        facts: StudyFacts,
        parts: Sequence[Part] | None,
    ) -> None:
        for each in onward(routes, facts, trigger=trigger, moment=self._moment, begun=self._begun):
            known = self._found.get(each.destination)
            if known is None:
                new = Leaving(each, None if parts is None else tuple(parts))
            elif known.parts is None or parts is None:
                new = Leaving(both(known.onward, each))
            else:
                more = tuple(part for part in parts if part not in known.parts)
                new = Leaving(both(known.onward, each), known.parts + more)
            self._found[each.destination] = new

    def add_instances(
        self, routes: Sequence[Route], study: StudyFacts, parts: Sequence[Part]
    ) -> None:
        if any(route.trigger is Trigger.INSTANCE for route in routes):
            for part in parts:
                self.add(routes, Trigger.INSTANCE, facts_of(study, [part]), [part])

    def leaving(self) -> tuple[Leaving, ...]:
        return tuple(self._found.values())


def _sorted(parts: Iterable[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: part.SeriesInstanceUID)


def _by_series(parts: Sequence[Part]) -> list[list[Part]]:
    return [list(group) for _, group in groupby(parts, key=lambda part: part.SeriesInstanceUID)]


def _each(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))

"""When a study is complete: storage does not say so (PS3.4 B.4), so quiet time has to tell.

Where a modality tells what it performs, it says how many images to expect: then the study is
complete as soon as they are there, and is waited for while they are not. Who asks us to keep all of
a study may be through with it: then it has to be quiet for a shorter time, and so it is where the
pauses of a partner are known.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

_NUMBER_OF_STUDY_RELATED_INSTANCES = "00201208"
_MOST_INSTANCES = 10_000_000


@dataclass(frozen=True, slots=True)
class QuietTimes:
    """How long a study must be quiet, by partner and by modality where those say so.

    Partners are named by AE title, in which case does not count.
    """

    default: timedelta
    modalities: Mapping[str, timedelta] = field(default_factory=dict)
    partners: Mapping[str, timedelta] = field(default_factory=dict)
    longest: timedelta = timedelta()
    """How long a study waits for what its modality tells of; never shorter than its quiet time."""
    committed: Mapping[str, timedelta] = field(default_factory=dict)
    """The time for a study that such a partner asked to keep, all of it (storage commitment)."""
    learning: frozenset[str] = frozenset()
    """The partners whose times are learned."""
    learned_at_least: timedelta = timedelta()
    """No learned time is shorter."""
    counted: frozenset[str] = frozenset()
    """The partners that are believed how many instances a study has."""

    def of(
        self,
        *,
        ModalitiesInStudy: Collection[str],
        calling_aes: Collection[str],
        asked_by: str | None = None,
        learned: Mapping[str, timedelta] | None = None,
        all_here: bool = False,
    ) -> timedelta:
        """How long this study must be quiet; not at all if everything is here that was told of.

        `asked_by`: who asked to keep all that it has now, by storage commitment. `learned`: times
        by partner. Both make the time shorter, never longer; of several senders all have to be
        known, and the longest time counts.
        """
        if all_here:
            return timedelta()
        times = [self.configured(ModalitiesInStudy=ModalitiesInStudy, calling_aes=calling_aes)]
        if asked_by is not None:
            asker = asked_by.casefold()
            times += [time for ae, time in self.committed.items() if ae.casefold() == asker]
        by_title = {ae.casefold(): time for ae, time in (learned or {}).items()}
        known = [by_title.get(ae.casefold()) for ae in calling_aes]
        if known and None not in known:
            times.append(max(time for time in known if time is not None))
        return min(times)

    def configured(
        self, *, ModalitiesInStudy: Collection[str], calling_aes: Collection[str]
    ) -> timedelta:
        """The longest time that one of the study's partners asks for, else one of its modalities.

        What a partner asks for goes before the modality's time, that before the default.
        """
        calling = {ae.casefold() for ae in calling_aes}
        asked = [time for ae, time in self.partners.items() if ae.casefold() in calling]
        asked = asked or [self.modalities[m] for m in ModalitiesInStudy if m in self.modalities]
        return max(asked, default=self.default)

    def expected(self, told: Mapping[str, int]) -> int | None:
        """How many instances a study is to have, by the senders that are believed; None: none of
        them said so."""
        counted = {ae.casefold() for ae in self.counted}
        return max((n for ae, n in told.items() if ae.casefold() in counted), default=None)

    def awaited_until(
        self, *, indexed_at: datetime, told_at: datetime | None, missing: bool
    ) -> datetime | None:
        """How long a study is waited for that is not all here; None: nothing more is expected.

        `told_at`: when its modality last told what it performs and has not ended, or of what is
        not here. `missing`: it has fewer instances than its sender says.
        """
        if told_at is not None:
            return max(told_at, indexed_at) + self.longest
        return indexed_at + self.longest if missing else None

    @property
    def shortest(self) -> timedelta:
        """No study is complete sooner."""
        return min(
            [
                self.default,
                *self.modalities.values(),
                *self.partners.values(),
                *self.committed.values(),
                *([self.learned_at_least] if self.learning else []),
                *([timedelta()] if self.counted else []),
            ]
        )


def told_instances(attributes: Mapping[str, Any]) -> int | None:
    """How many instances an image says that its study has, by its DICOM JSON model; None: it says
    nothing that is a number."""
    values = attributes.get(_NUMBER_OF_STUDY_RELATED_INSTANCES, {}).get("Value") or [None]
    try:
        told = int(values[0])
    except (TypeError, ValueError, OverflowError):
        return None
    return told if 0 < told <= _MOST_INSTANCES else None


def is_complete(
    *,
    now: datetime,
    last_received_at: datetime,
    indexed_at: datetime,
    all_indexed_until: datetime,
    quiet: timedelta,
    awaited_until: datetime | None = None,
) -> bool:
    """Whether the study's quiet time is over. All times are aware.

    It runs from indexing, and it ends only when everything that was staged during the quiet time,
    of this study or another, has been indexed: behind a backlog no study becomes complete.
    `all_indexed_until` is the time up to which no staged object waits for its row. Until
    `awaited_until` the study waits for images that its modality told of.
    """
    if awaited_until is not None and now < awaited_until:
        return False
    return now >= indexed_at + quiet and all_indexed_until >= last_received_at + quiet

"""When a study is complete: storage does not say so (PS3.4 B.4), so quiet time has to tell.

Where a modality tells what it performs, it says how many images to expect: then the study is
complete as soon as they are there, and is waited for while they are not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


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

    def of(self, *, ModalitiesInStudy: Collection[str], calling_aes: Collection[str]) -> timedelta:
        """The longest time that one of the study's partners asks for, else one of its modalities.

        What a partner asks for goes before the modality's time, that before the default.
        """
        calling = {ae.casefold() for ae in calling_aes}
        asked = [time for ae, time in self.partners.items() if ae.casefold() in calling]
        asked = asked or [self.modalities[m] for m in ModalitiesInStudy if m in self.modalities]
        return max(asked, default=self.default)

    @property
    def shortest(self) -> timedelta:
        """No study is complete sooner."""
        return min([self.default, *self.modalities.values(), *self.partners.values()])


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

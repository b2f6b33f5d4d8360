"""How long a partner's studies pause, learned from those that came: it may be far less than what is
configured for the slowest.

Of each study its longest pause counts, between two images of this partner. The time is twice the
pause that nineteen of twenty studies stayed below, of the last hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

MOST_STUDIES = 100
FEWEST_STUDIES = 20
"""With fewer nothing is known."""

_MARGIN = 2


@dataclass(frozen=True, slots=True)
class Pauses:
    """The longest pauses of a partner's last studies, by a number of the study, oldest first."""

    studies: tuple[tuple[int, timedelta], ...] = ()

    def with_studies(self, seen: Sequence[tuple[int, timedelta]]) -> "Pauses":
        """With other studies. One that is known already has its newer pause: images came late."""
        kept = dict(self.studies)
        for study, pause in seen:
            kept.pop(study, None)
            kept[study] = pause
        return Pauses(tuple(kept.items())[-MOST_STUDIES:])

    def quiet_time(self, *, at_least: timedelta) -> timedelta | None:
        """How long to wait for more of a study of this partner; None: too little is known."""
        if len(self.studies) < FEWEST_STUDIES:
            return None
        pauses = sorted(pause for _study, pause in self.studies)
        longer_allowed = len(pauses) // 20
        return max(at_least, pauses[-1 - longer_allowed] * _MARGIN)

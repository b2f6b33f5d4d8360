"""What comes of telling another system of an event, and when it is told again.

One event that a system does not take stands aside, with what else happens to its study; the others
go on. A system that takes nothing at all is left alone for a while, and then told from there on.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


class Outcome(Enum):
    """What became of one attempt."""

    TAKEN = "taken"
    LATER = "later"
    """Not taken, for now; it is about this event, as far as anybody can know."""
    REFUSED = "refused"
    """It will not be taken, however often it is sent."""
    AWAY = "away"
    """Nobody is there who could take any."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An outcome and why; `wait`: for so long the system wants to hear nothing."""

    outcome: Outcome
    reason: str | None = None
    wait: timedelta | None = None


TAKEN = Answer(Outcome.TAKEN)

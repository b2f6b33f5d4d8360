"""One who is told of events: which, and by whom."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from sqlalchemy.engine import Engine

from gantry_domain.events import Event, EventKind
from gantry_domain.sight import Sight
from gantry_domain.telling import Answer


class Teller(Protocol):
    """Tells one system of one event after the other. Used by one thread but for `interrupt`."""

    def tell(self, event: Event) -> Answer | None:
        """Tell it; None: there is nothing to say of this event. Raises `Interrupted`."""

    def interrupt(self) -> None:
        """Make the thread that tells fail with `Interrupted`, now and from then on."""

    def close(self) -> None:
        """Close what is open; the next event opens it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """`longest`: how long telling it of one event takes at most. `teller`: made over the index."""

    name: str
    sight: Sight
    kinds: frozenset[EventKind]
    longest: timedelta
    teller: Callable[[Engine], Teller]

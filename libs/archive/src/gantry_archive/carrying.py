"""What a round of sending and the ways to a destination know of each other."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from gantry_archive.outbound import ClassNotAccepted, Withheld, why_unsent
from gantry_domain.deliveries import ItemState
from gantry_domain.statuses import SOP_CLASS_NOT_SUPPORTED
from gantry_domain.store_responses import StoreResult
from gantry_stores.index.delivery_leases import ItemOutcome, PendingItem
from gantry_stores.index.stored_object import StoredObject

Pair = tuple[PendingItem, StoredObject]
"""An item of a delivery, and its object in the store."""

OUTCOMES = {
    StoreResult.ACCEPTED: ItemState.ACCEPTED,
    StoreResult.WARNED: ItemState.WARNED,
    StoreResult.FAILED: ItemState.FAILED,
    StoreResult.REFUSED: ItemState.REFUSED,
}
"""What an answer makes of an item."""


def unsent(error: Exception) -> ItemOutcome:
    """What becomes of an item that cannot be sent.

    A class whose presentation contexts are rejected counts as one that was answered with 0122.
    """
    state = ItemState.WITHHELD if isinstance(error, Withheld) else ItemState.REFUSED
    status = SOP_CLASS_NOT_SUPPORTED.code if isinstance(error, ClassNotAccepted) else None
    return ItemOutcome(state, status=status, reason=why_unsent(error))


class RoundFailed(Exception):
    """The destination, or something of ours, cannot go on now."""


class NobodyThere(RoundFailed):
    """The destination takes nothing at all; `wait`: it asks to be left alone for so long."""

    def __init__(self, reason: str, *, wait: timedelta | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Stopped(Exception):
    """We end the round ourselves."""


class Round(Protocol):
    """The round as those who send for it see it."""

    @property
    def stopped(self) -> bool:
        """Whether nothing new is to be begun."""

    def check(self) -> None:
        """Raises `Stopped` where nothing new is to be begun."""

    def answers(self) -> None:
        """The destination took a connection and wants to hear us."""

    def settle(
        self, item: PendingItem, outcome: ItemOutcome, *, size: int = 0, seconds: float = 0.0
    ) -> None:
        """Write down what became of an item, for which `size` bytes were sent. Raises
        `RoundFailed` after too many failures in a row, or `LeaseLost`."""


class Carrier(Protocol):
    """A way to a destination."""

    def carry(self, pairs: Sequence[Pair], sending: Round) -> None:
        """Send each of these and settle it, or leave it for another round.

        Raises `RoundFailed` where the destination is to blame, `Interrupted`, or what `Round` does.
        """

    def interrupt(self) -> None:
        """End what is being sent in the middle of it; from another thread."""

    def close(self) -> None:
        """The round is over."""

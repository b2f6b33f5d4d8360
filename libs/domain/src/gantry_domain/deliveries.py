"""Decisions about deliveries: when to try again, when to give up, and what the items add up to.

waiting ──claim──▶ sending ──all settled──▶ delivered | dead (images refused)
   ▲                  │
   │ due              ├── something failed for now ──▶ failed ──claim──▶ sending ...
   └── given back ────┘                                  │
                                                         └── too old ──▶ dead
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


class DeliveryLevel(Enum):
    """What is sent as one delivery."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


class DeliveryState(Enum):
    """The life of one delivery."""

    WAITING = "waiting"
    """Not tried yet, or given back untried."""
    SENDING = "sending"
    """Claimed by a lane, whose lease says until when."""
    FAILED = "failed"
    """For now: it has a next attempt."""
    DELIVERED = "delivered"
    """The destination has every item that it may have, but for those that are no images and of
    classes that it does not take."""
    DEAD = "dead"
    """For good, with the reason; only a person tries it again."""
    CANCELLED = "cancelled"
    """By a person."""

    @property
    def open(self) -> bool:
        """Whether it still has to be sent."""
        return self in (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.FAILED)


class ItemState(Enum):
    """What became of one instance of a delivery."""

    WAITING = "waiting"
    """Not sent yet."""
    FAILED = "failed"
    """Sent or tried in vain, for now."""
    ACCEPTED = "accepted"
    """The destination has it."""
    WARNED = "warned"
    """The destination has it and answered with a warning."""
    REFUSED = "refused"
    """The destination will not have it, or it cannot be sent there at all."""
    WITHHELD = "withheld"
    """The destination must not have it, and is not waiting for it."""

    @property
    def settled(self) -> bool:
        """Whether it is never sent again."""
        return self not in (ItemState.WAITING, ItemState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long a failing destination is left alone, and for how long it is tried at all."""

    base: timedelta
    """The longest delay after the first failed attempt."""
    ceiling: timedelta
    """The longest delay of all."""
    give_up_after: timedelta
    """How old what is unsent may become."""

    def __post_init__(self) -> None:
        if self.base <= timedelta() or self.ceiling < self.base:
            raise ValueError("the first delay must be longer than nothing and within the ceiling")

    def longest_delay(self, attempt: int) -> timedelta:
        """The bound of the delay after failed attempt number `attempt` (from 1)."""
        if attempt < 1:
            raise ValueError(f"attempts are counted from 1, not {attempt}")
        delay = self.base
        for _ in range(attempt - 1):
            if delay >= self.ceiling:
                break
            delay = min(2 * delay, self.ceiling)
        return min(delay, self.ceiling)

    def delay(self, attempt: int, fraction: float) -> timedelta:
        """Back-off with full jitter: `fraction` (0 to 1, drawn evenly) of the longest delay.

        Full jitter spreads the deliveries that failed together over the whole time, so that a
        destination that comes back is not met by all of them at once.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"a fraction of 0 to 1, not {fraction}")
        return self.longest_delay(attempt) * fraction


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a delivery becomes after a round: its state, why, and when it is tried again."""

    state: DeliveryState
    reason: str | None = None
    retry_after: timedelta | None = None


def settle(
    items: Mapping[ItemState, int],
    *,
    not_taken: int = 0,
    failure: str | None,
    attempt: int,
    unsent_for: timedelta,
    policy: RetryPolicy,
    fraction: float,
) -> Settlement:
    """What a delivery becomes once a round of sending has ended.

    :param items: how many items are in each state.
    :param not_taken: how many of the refused are so for their SOP class, and are no images: nobody
        waits for those, if anything has arrived (see `class_refusals`).
    :param failure: why the round ended with items unsettled; None where it was interrupted by
        ourselves, which is nobody's failure and costs no wait.
    :param attempt: how many rounds failed so far, this one included (from 1).
    :param unsent_for: how long the oldest unsettled work has been waiting.
    :param fraction: drawn evenly from 0 to 1, for the jitter.
    """
    unsettled = sum(count for state, count in items.items() if not state.settled)
    refused = items.get(ItemState.REFUSED, 0)
    total = sum(items.values())
    if unsettled:
        if failure is None:
            return Settlement(DeliveryState.WAITING)
        if unsent_for >= policy.give_up_after:
            return Settlement(DeliveryState.DEAD, f"gave up: {failure}")
        return Settlement(DeliveryState.FAILED, failure, policy.delay(attempt, fraction))
    arrived = items.get(ItemState.ACCEPTED, 0) + items.get(ItemState.WARNED, 0)
    if refused > not_taken or (refused and not arrived):
        return Settlement(DeliveryState.DEAD, f"{refused} of {total} refused")
    withheld = items.get(ItemState.WITHHELD, 0)
    reasons = [f"{withheld} of {total} withheld"] if withheld else []
    if refused:
        reasons.append(not_taken_there(refused, total))
    return Settlement(DeliveryState.DELIVERED, ", ".join(reasons) or None)


def not_taken_there(refused: int, total: int) -> str:
    """So many are refused for their classes, and nobody waits for them; in words."""
    whose = "its class is" if refused == 1 else "their classes are"
    return f"{refused} of {total} refused: {whose} not taken there"

"""What the feed of events tells: a few things that happen to studies and to the orders for them.

With UIDs and no names.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """What happened to a study."""

    RECEIVED = "received"
    """The first of its instances is in the index."""
    INDEXED = "indexed"
    """It has other instances than before; told at most every few seconds."""
    COMPLETE = "complete"
    """Its quiet time is over."""
    HELD = "held"
    REFUSED = "refused"
    RELEASED = "released"
    """It was held or refused, and is accepted."""
    CORRECTED = "corrected"
    """A person corrected values of it, or took that back."""
    MOVED = "moved"
    """Series of it are in another study now, or those of another one in it."""
    DELIVERED = "delivered"
    """A destination has all of what was to be sent to it."""
    DELETED = "deleted"
    RESTORED = "restored"
    PURGED = "purged"
    ORDERED = "ordered"
    """An order for it came; nothing of it may be here yet, as with the others below."""
    ORDER_CHANGED = "order_changed"
    ORDER_CANCELLED = "order_cancelled"
    """Or discontinued."""
    STEP_STARTED = "step_started"
    """A modality began to perform a step of it."""
    STEP_COMPLETED = "step_completed"
    STEP_DISCONTINUED = "step_discontinued"


OF_ORDERS = frozenset(
    (
        EventKind.ORDERED,
        EventKind.ORDER_CHANGED,
        EventKind.ORDER_CANCELLED,
        EventKind.STEP_STARTED,
        EventKind.STEP_COMPLETED,
        EventKind.STEP_DISCONTINUED,
    )
)
"""What may happen before anything of the study is here: then everybody may know of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened; `instances` is how many the study has now, or how many the deletion
    is about.

    `visible`: whether everybody may know of it, as the study is or was visible; None: as it is when
    this is told.
    """

    kind: EventKind
    partition: str
    StudyInstanceUID: str
    SeriesInstanceUID: str | None = None
    SOPInstanceUID: str | None = None
    instances: int | None = None
    destination: str | None = None
    visible: bool | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A happening with its number in the feed, and its aware moment."""

    id: int
    at: datetime
    happening: Happening


def event_document(event: Event) -> dict[str, object]:
    """An event as it is told to others: what it does not have is left out."""
    told = event.happening
    values: dict[str, object] = {
        "id": event.id,
        "at": event.at,
        "kind": told.kind.value,
        "StudyInstanceUID": told.StudyInstanceUID,
        "SeriesInstanceUID": told.SeriesInstanceUID,
        "SOPInstanceUID": told.SOPInstanceUID,
        "instances": told.instances,
        "destination": told.destination,
    }
    return {name: value for name, value in values.items() if value is not None}

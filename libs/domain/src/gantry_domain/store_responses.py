"""What a peer's answer to a C-STORE request means for the sender: the one table."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from gantry_domain.statuses import Status


class StoreResult(Enum):
    """What became of an instance that was sent."""

    ACCEPTED = "accepted"
    """The peer has it."""
    WARNED = "warned"
    """The peer has it and changed it or has doubts."""
    FAILED = "failed"
    """The peer does not have it; the same request may succeed later."""
    REFUSED = "refused"
    """The peer does not have it, and asking again changes nothing."""

    @property
    def stored(self) -> bool:
        """Whether the peer has the instance."""
        return self in (StoreResult.ACCEPTED, StoreResult.WARNED)


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """A status as received, what it means, and the row of the table that says so."""

    code: int
    result: StoreResult
    status: Status

    @property
    def reason(self) -> str:
        """The status for people and for tables: `A700 Refused: Out of resources`."""
        return f"{self.code:04X} {self.status.name}"


_GENERAL = "PS3.7 9.1.1.1.9"
_STORAGE = "PS3.4 Table B.2-1"

_EXACT = {
    status.code: (status, result)
    for status, result in (
        (Status(0x0000, "Success", _STORAGE), StoreResult.ACCEPTED),
        # The peer holds an instance of this UID, which is what was wanted.
        (Status(0x0111, "Duplicate SOP Instance", _GENERAL), StoreResult.ACCEPTED),
        (Status(0x0107, "Attribute list error", "PS3.7 Annex C.4.2"), StoreResult.WARNED),
        (Status(0x0116, "Attribute value out of range", "PS3.7 Annex C.4.3"), StoreResult.WARNED),
        (Status(0x0001, "Warning", "PS3.7 Annex C.4.1"), StoreResult.WARNED),
        (Status(0xB000, "Coercion of data elements", _STORAGE), StoreResult.WARNED),
        (Status(0xB006, "Elements discarded", _STORAGE), StoreResult.WARNED),
        (Status(0xB007, "Data set does not match SOP class", _STORAGE), StoreResult.WARNED),
        # It says that the peer failed, not that the object is at fault.
        (Status(0x0110, "Processing failure", _GENERAL), StoreResult.FAILED),
        (Status(0x0210, "Duplicate invocation", _GENERAL), StoreResult.FAILED),
        (Status(0x0213, "Resource limitation", _GENERAL), StoreResult.FAILED),
        (Status(0xFE00, "Cancelled by the peer", "PS3.7 Annex C.3"), StoreResult.FAILED),
        (Status(0x0117, "Invalid SOP Instance", _GENERAL), StoreResult.REFUSED),
        (Status(0x0122, "SOP Class not supported", _GENERAL), StoreResult.REFUSED),
        (Status(0x0124, "Not authorized", _GENERAL), StoreResult.REFUSED),
        (Status(0x0211, "Unrecognized operation", _GENERAL), StoreResult.REFUSED),
        (Status(0x0212, "Mistyped argument", _GENERAL), StoreResult.REFUSED),
    )
}

# First code, last code; looked at in this order, after the exact codes.
_RANGES = (
    (0xA700, 0xA7FF, Status(0xA700, "Refused: Out of resources", _STORAGE), StoreResult.FAILED),
    (
        0xA900,
        0xA9FF,
        Status(0xA900, "Error: Data set does not match SOP class", _STORAGE),
        StoreResult.REFUSED,
    ),
    (0xC000, 0xCFFF, Status(0xC000, "Error: Cannot understand", _STORAGE), StoreResult.REFUSED),
    (0xB000, 0xBFFF, Status(0xB000, "Warning", "PS3.7 Annex C.4"), StoreResult.WARNED),
)

_UNKNOWN = Status(0xFFFF, "Unknown status", "PS3.7 Annex C")


def read_store_status(code: int) -> StoreAnswer:
    """What the status `code` (0 to FFFF) of a C-STORE response means.

    A code that no table knows counts as refused: it is no promise that the peer has the instance.
    """
    if code in _EXACT:
        status, result = _EXACT[code]
        return StoreAnswer(code, result, status)
    for first, last, status, result in _RANGES:
        if first <= code <= last:
            return StoreAnswer(code, result, status)
    return StoreAnswer(code, StoreResult.REFUSED, _UNKNOWN)


def store_answers() -> Iterator[tuple[int, int, StoreAnswer]]:
    """The table: first and last code, and what they mean. Exact codes go before the ranges."""
    for code, (status, result) in sorted(_EXACT.items()):
        yield code, code, StoreAnswer(code, result, status)
    for first, last, status, result in _RANGES:
        yield first, last, StoreAnswer(first, result, status)

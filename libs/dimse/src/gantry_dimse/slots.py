"""Counts the associations of all processes of a service together, and forgets those that died.

Each association holds a lock on one byte of a file that the processes share. The kernel drops
the locks of a process that dies, however it dies. For each limit of its caller it holds one more
lock, on a byte in the range of whom the limit is of:

    0 ... count | ... | range of one AE title or host, `most` bytes | ...
"""

import fcntl
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gantry_dimse.limits import Terms
from gantry_dimse.observer import Peer

# Far above any limit. A file may be locked beyond its end: it stays empty.
_RANGE_BITS = 20


@dataclass(frozen=True, slots=True)
class Claim:
    """One limit that an association counts against: at most `most` at a time of `whose`."""

    whose: str
    most: int


class Slot(Protocol):
    """What one association holds as long as it lasts."""

    def release(self) -> None:
        """Give it back; called once."""


class Slots(Protocol):
    """Where associations are counted. Called by many threads."""

    def take(self, claims: Sequence[Claim] = ()) -> Slot | None:
        """A slot that counts against each of the claims, or None if any limit is reached."""


def claims_of(peer: Peer, terms: Terms) -> list[Claim]:
    """The limits of one caller."""
    limits = (
        # Case does not count in titles (`gantry_dimse.partners`).
        (f"ae {peer.calling_ae.casefold()}", terms.max_associations),
        (f"host {peer.host}", terms.max_associations_per_host),
    )
    return [Claim(whose, most) for whose, most in limits if most is not None]


class AssociationSlots:
    """At most `count` associations over all processes that use the same file; `Slots`.

    The locks are POSIX record locks, which belong to the process: hence one object per process
    and file, and its own book of the slots that this process holds. Safe for many threads.
    """

    def __init__(self, file: Path, *, count: int) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._count = count
        self._mine: set[int] = set()
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """How many slots this process holds."""
        return sum(place < self._count for place in self._mine)

    def take(self, claims: Sequence[Claim] = ()) -> Slot | None:
        """See `Slots.take`."""
        ranges = [(0, self._count), *((_range_of(claim.whose), claim.most) for claim in claims)]
        places: list[int] = []
        with self._lock:
            for begin, count in ranges:
                place = self._take_one(begin, count)
                if place is None:
                    self._give_back(places)
                    return None
                places.append(place)
        return _Places(self, places)

    def release(self, places: Sequence[int]) -> None:
        """Give places back; called by what `take` returned."""
        with self._lock:
            self._give_back(places)

    def _take_one(self, begin: int, count: int) -> int | None:
        # Processes start at different places, so that they seldom try the same one.
        start = os.getpid() * 31 % count
        for n in range(count):
            place = begin + (start + n) % count
            if place in self._mine:
                continue
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except OSError:
                continue
            self._mine.add(place)
            return place
        return None

    def _give_back(self, places: Sequence[int]) -> None:
        for place in places:
            self._mine.discard(place)
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)

    def close(self) -> None:
        """Give all slots back."""
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class _Places:
    """The places of the locks that one association holds."""

    slots: AssociationSlots
    places: Sequence[int]

    def release(self) -> None:
        self.slots.release(self.places)


def _range_of(whose: str) -> int:
    digest = hashlib.blake2b(whose.encode(), digest_size=5).digest()
    return (int.from_bytes(digest) + 1) << _RANGE_BITS

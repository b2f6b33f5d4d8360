"""Counts the associations of all processes of a service together, and forgets those that died.

Each association holds a lock on one byte of a file that the processes share. The kernel drops
the locks of a process that dies, however it dies. Where a caller has a limit of its own, it holds
a second lock, on a byte in the range of its AE title:

    0 ... count | ... | range of one title, `most` bytes | ...
"""

import fcntl
import hashlib
import os
import threading
from pathlib import Path

# Far above any limit. A file may be locked beyond its end: it stays empty.
_RANGE_BITS = 20

Slot = tuple[int, ...]
"""The places of the locks that one association holds."""


class AssociationSlots:
    """At most `count` associations over all processes that use the same file.

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

    def take(self, ae_title: str = "", *, most: int | None = None) -> Slot | None:
        """A free slot, or None if all are taken.

        `most`: so many of one AE title at a time; None: no limit of its own.
        """
        with self._lock:
            place = self._take_one(0, self._count)
            if place is None or most is None:
                return None if place is None else (place,)
            of_title = self._take_one(_range_of(ae_title), most)
            if of_title is None:
                self._give_back(place)
                return None
            return place, of_title

    def release(self, slot: Slot) -> None:
        """Give a slot back."""
        with self._lock:
            for place in slot:
                self._give_back(place)

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

    def _give_back(self, place: int) -> None:
        self._mine.discard(place)
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)

    def close(self) -> None:
        """Give all slots back."""
        os.close(self._descriptor)


def _range_of(ae_title: str) -> int:
    # Case does not count in titles (`gantry_dimse.partners`).
    digest = hashlib.blake2b(ae_title.casefold().encode(), digest_size=5).digest()
    return (int.from_bytes(digest) + 1) << _RANGE_BITS

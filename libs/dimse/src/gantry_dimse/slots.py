"""Counts the associations of all processes of a service together, and forgets those that died.

Each association holds a lock on one byte of a file that the processes share. The kernel drops
the locks of a process that dies, however it dies.
"""

import fcntl
import os
import threading
from pathlib import Path


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
        return len(self._mine)

    def take(self) -> int | None:
        """A free slot, or None if all are taken."""
        with self._lock:
            # Processes start at different places, so that they seldom try the same slot.
            start = os.getpid() * 31 % self._count
            for n in range(self._count):
                slot = (start + n) % self._count
                if slot in self._mine:
                    continue
                try:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
                except OSError:
                    continue
                self._mine.add(slot)
                return slot
        return None

    def release(self, slot: int) -> None:
        """Give a slot back."""
        with self._lock:
            self._mine.discard(slot)
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, slot)

    def close(self) -> None:
        """Give all slots back."""
        os.close(self._descriptor)

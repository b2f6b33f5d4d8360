"""When new associations are turned away for a while: little memory or little room is left.

What is in hand goes on: its objects are refused one by one (A700) where even that is too much.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

_PAGE = os.sysconf("SC_PAGESIZE")
_LOOK_SECONDS = 1.0


def resident_memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


class Watermarks:
    """Looks at most once a second. Safe for use by many threads."""

    def __init__(
        self,
        *,
        memory: int,
        free_space: int | None,
        folder: Path | None,
        resident: Callable[[], int] = resident_memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bytes: `memory` of this process, `free_space` in the file system of `folder`.

        None: the room is not looked at, as that of a bucket cannot be.
        """
        self._memory = memory
        self._free_space = free_space
        self._folder = folder
        self._resident = resident
        self._clock = clock
        self._looked = float("-inf")
        self._much_memory = False
        self._little_room = False

    def congested(self, associations: int) -> bool:
        """Whether to turn a new association away, with so many established in this process.

        Memory is not waited for where nothing is in hand that could give it back.
        """
        now = self._clock()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._much_memory = self._resident() > self._memory
            self._little_room = self._room_is_little()
        return self._little_room or (self._much_memory and associations > 0)

    def _room_is_little(self) -> bool:
        if self._free_space is None or self._folder is None:
            return False
        try:
            status = os.statvfs(self._folder)
        except OSError:
            return False  # a store that is away is waited for, object by object
        return status.f_bavail * status.f_frsize < self._free_space

"""A limit to the bytes a second that are sent to one peer, over all of its associations."""

import threading
import time
from collections.abc import Callable

# What is sent at once at most: so little that the peer always hears something.
_PART_OF_A_SECOND = 4
_LEAST = 512
_PAUSE = 0.5


class Pacer:
    """Safe for use by many threads, which share the rate evenly."""

    def __init__(self, rate: int) -> None:
        """`rate`: bytes a second."""
        self._rate = rate
        self.quantum = max(_LEAST, rate // _PART_OF_A_SECOND)
        """Bytes that may be asked for at once."""
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait(self, size: int, ended: Callable[[], bool]) -> None:
        """Return when so many bytes may go, or as soon as `ended` says so."""
        with self._lock:
            turn = max(self._free_at, time.monotonic())
            self._free_at = turn + size / self._rate
        while (left := turn - time.monotonic()) > 0 and not ended():
            time.sleep(min(left, _PAUSE))

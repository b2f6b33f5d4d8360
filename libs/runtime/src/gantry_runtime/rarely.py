"""Lines that strangers can cause as often as they like are logged now and then; all are counted."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_KEYS = 1024


class Rarely:
    """Decides which of many like lines are logged. Safe for use by many threads.

    Of each kind one in `every` seconds, and of all together no more than `most` in that time.
    """

    def __init__(
        self,
        *,
        every: float = 60.0,
        most: int = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every = every
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._left_out = 0
        self._window = float("-inf")
        self._in_window = 0

    def due(self, *kind: str) -> int | None:
        """None: leave this line out. Else log it; so many of any kind were left out before it."""
        now = self._clock()
        with self._lock:
            if now - self._window >= self._every:
                self._window, self._in_window = now, 0
            logged = self._logged.get(kind, float("-inf"))
            if now - logged < self._every or self._in_window >= self._most:
                self._left_out += 1
                return None
            self._logged[kind] = now
            self._logged.move_to_end(kind)
            if len(self._logged) > _MOST_KEYS:
                self._logged.popitem(last=False)
            self._in_window += 1
            left_out, self._left_out = self._left_out, 0
            return left_out

"""Readers of the event feed who wait for the next event: one look at the index for all of them.

    the first waits ──▶ a task looks each second ──▶ something new: all are woken ──▶ each reads on
                        until nobody waits

Whoever waits, or is slow to read, holds neither a thread nor a connection.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy.engine import Engine

from gantry_domain.errors import TransientError
from gantry_query.streams import Threads
from gantry_stores.index.events import Feed, publish

MOST_WAITING = 256
"""Readers of one process that wait; each has a connection of HTTP."""
_LOOK_SECONDS = 1.0


class EventFeed:
    """The feed as the readers of one process follow it. Used by one event loop."""

    def __init__(
        self, engine: Engine, threads: Threads, *, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """`stopping`: whether the process wants to end, and nobody should wait any more."""
        self._look = partial(publish, engine)
        self._threads = threads
        self._stopping = stopping
        self._waiting: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self.last = 0
        """The highest number that was seen: all events up to it can be read."""

    @property
    def stopping(self) -> bool:
        """Whether answers should end."""
        return self._stopping()

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return len(self._waiting) >= MOST_WAITING

    async def look(self) -> Feed:
        """How far the feed is, what has just happened included. Raises `IndexUnavailable`."""
        feed = await self._threads.run(self._look)
        if feed.last > self.last:
            self.last = feed.last
            self._wake()
        return feed

    async def changed(self, beyond: int, *, seconds: float) -> None:
        """Returns when there are events beyond this number, after so many seconds, or at the end
        of the process."""
        if self.last > beyond or self.stopping:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiter
        finally:
            self._waiting.discard(waiter)

    async def _watch(self) -> None:
        looked = time.monotonic()
        while self._waiting:
            await asyncio.sleep(_LOOK_SECONDS / 4)
            if self.stopping:
                self._wake()
            elif time.monotonic() - looked >= _LOOK_SECONDS:
                looked = time.monotonic()
                # While the index is away its readers just wait.
                with contextlib.suppress(TransientError):
                    await self.look()

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

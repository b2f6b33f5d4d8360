"""Blocking work for an event loop: bounded threads, and answers that stream through them."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

Result = TypeVar("Result")

PIECE = 256 * 1024
"""Smaller pieces are joined: each costs a message to the server."""
AT_ONCE = 1024 * 1024
"""So much is made in one go: each costs a change of threads."""


class Threads:
    """At most `count` pieces of blocking work at a time; the rest waits its turn."""

    def __init__(self, count: int) -> None:
        self._limiter = CapacityLimiter(count)

    async def run(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, done in a thread. A caller that leaves waits for it to end."""
        return await to_thread.run_sync(work, limiter=self._limiter)

    async def begin(self, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks as a stream whose first is made already.

        What fails at once is raised here, before an answer begins. The next chunks are made
        while those before them are being sent; no thread is held while a slow client reads. The
        iterator is closed whatever happens.
        """
        try:
            first = await self._next(chunks)
        except BaseException:  # the caller's leaving too
            await self._close(chunks)
            raise
        return self._stream(first, chunks)

    async def _stream(self, first: list[bytes], chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
        some = first
        pending: asyncio.Future[list[bytes]] | None = None
        try:
            while some:
                pending = asyncio.ensure_future(self._next(chunks))
                for chunk in some:
                    yield chunk
                some = await pending
        finally:
            if some:
                await self._close(chunks, after=pending)

    async def _next(self, chunks: Iterator[bytes]) -> list[bytes]:
        return await self.run(lambda: _some(chunks))

    async def _close(
        self, chunks: Iterator[bytes], *, after: asyncio.Future[list[bytes]] | None = None
    ) -> None:
        # Also for one who is being cancelled; and a generator cannot be closed from outside while
        # a thread is inside of it.
        with anyio.CancelScope(shield=True):
            if after is not None:
                await asyncio.wait([after])
                if not after.cancelled():
                    after.exception()  # retrieved: raised already, or nobody is left to hear it
            await self.run(getattr(chunks, "close", _nothing))


def _nothing() -> None:
    return None


def _some(chunks: Iterator[bytes]) -> list[bytes]:
    """The next chunks, of `AT_ONCE` bytes or a little more in all; empty at the end."""
    some: list[bytes] = []
    size = 0
    for chunk in chunks:
        some.append(chunk)
        size += len(chunk)
        if size >= AT_ONCE:
            break
    return some


def joined(chunks: Iterable[bytes], *, piece: int = PIECE) -> Iterator[bytes]:
    """The same bytes, what is shorter than `piece` joined with its likes."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        if len(chunk) >= piece:
            if waiting:
                yield b"".join(waiting)
                waiting, size = [], 0
            yield chunk  # a copy would cost more than another message
            continue
        waiting.append(chunk)
        size += len(chunk)
        if size >= piece:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks as one gzip member; fast rather than small, for networks are quick nowadays."""
    packer = zlib.compressobj(level=1, wbits=31)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()

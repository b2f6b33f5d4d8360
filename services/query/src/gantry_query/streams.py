"""Blocking work for an event loop: bounded threads, and answers that stream through them."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

Result = TypeVar("Result")

PIECE = 256 * 1024
"""Smaller pieces are joined: each costs a change of threads."""


class Threads:
    """At most `count` pieces of blocking work at a time; the rest waits its turn."""

    def __init__(self, count: int) -> None:
        self._limiter = CapacityLimiter(count)

    async def run(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, done in a thread. A caller that leaves waits for it to end."""
        return await to_thread.run_sync(work, limiter=self._limiter)

    async def begin(self, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks as a stream whose first is made already.

        What fails at once is raised here, before an answer begins. Each further chunk is made
        while the one before it is being sent; no thread is held while a slow client reads. The
        iterator is closed whatever happens.
        """
        try:
            first = await self._next(chunks)
        except BaseException:  # the caller's leaving too
            await self._close(chunks)
            raise
        return self._stream(first, chunks)

    async def _stream(self, first: bytes | None, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
        chunk = first
        pending: asyncio.Future[bytes | None] | None = None
        try:
            while chunk is not None:
                pending = asyncio.ensure_future(self._next(chunks))
                yield chunk
                chunk = await pending
        finally:
            if chunk is not None:
                await self._close(chunks, after=pending)

    async def _next(self, chunks: Iterator[bytes]) -> bytes | None:
        return await self.run(lambda: next(chunks, None))

    async def _close(
        self, chunks: Iterator[bytes], *, after: asyncio.Future[bytes | None] | None = None
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


def joined(chunks: Iterable[bytes], *, piece: int = PIECE) -> Iterator[bytes]:
    """The same bytes in pieces of at least `piece` bytes, the last one aside."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        if not waiting and len(chunk) >= piece:
            yield chunk
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

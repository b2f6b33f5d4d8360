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

    async def stream(self, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks, each made in a thread while the one before it is being sent.

        No thread is held while a slow client reads. The iterator is closed whatever happens.
        """
        pending = asyncio.ensure_future(self.run(lambda: next(chunks, None)))
        try:
            while (chunk := await pending) is not None:
                pending = asyncio.ensure_future(self.run(lambda: next(chunks, None)))
                yield chunk
        finally:
            # A generator cannot be closed while a thread is inside of it.
            with anyio.CancelScope(shield=True):
                await asyncio.wait([pending])
                if not pending.cancelled():
                    pending.exception()  # retrieved: raised above, or nobody is left to hear it
                await self.run(getattr(chunks, "close", _nothing))

    async def begin(self, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
        """`stream`, with the first chunk made already: what fails at once fails before the answer.

        Raises what making the first chunk raises.
        """
        try:
            first = await self.run(lambda: next(chunks, None))
        except BaseException:  # the caller's leaving too
            with anyio.CancelScope(shield=True):
                await self.run(getattr(chunks, "close", _nothing))
            raise
        return self.stream(_again(first, chunks))


def _nothing() -> None:
    return None


def _again(first: bytes | None, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        if first is not None:
            yield first
            yield from chunks
    finally:
        getattr(chunks, "close", _nothing)()


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

"""Streams through threads: in order, closed at every end, failing before the answer begins."""

import asyncio
import gzip
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_query.streams import AT_ONCE, Threads, gzipped, joined


class Source:
    """Chunks that know whether they were closed."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.closed = False
        self.made = 0
        self.chunks = self._chunks(chunks)

    def _chunks(self, chunks: tuple[bytes | Exception, ...]) -> Iterator[bytes]:
        try:
            for chunk in chunks:
                self.made += 1
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
        finally:
            self.closed = True


def test_a_stream_is_whole_and_closed() -> None:
    source = Source(b"a", b"b", b"c")

    async def read() -> bytes:
        chunks = await Threads(1).begin(source.chunks)
        return b"".join([chunk async for chunk in chunks])

    assert asyncio.run(read()) == b"abc"
    assert source.closed


def test_an_empty_stream() -> None:
    async def read() -> list[bytes]:
        return [chunk async for chunk in await Threads(1).begin(iter(()))]

    assert asyncio.run(read()) == []


def test_what_fails_at_once_fails_before_the_answer() -> None:
    async def begin() -> None:
        await Threads(1).begin(Source(ValueError("lost")).chunks)

    with pytest.raises(ValueError, match="lost"):
        asyncio.run(begin())


def test_what_fails_later_breaks_the_stream() -> None:
    source = Source(bytes(AT_ONCE), ValueError("lost"))

    async def read() -> list[bytes]:
        return [chunk async for chunk in await Threads(1).begin(source.chunks)]

    with pytest.raises(ValueError, match="lost"):
        asyncio.run(read())
    assert source.closed


def test_a_reader_that_leaves_closes_the_source_and_reads_no_further() -> None:
    source = Source(*[bytes(AT_ONCE // 2)] * 1000)

    async def leave() -> None:
        chunks = await Threads(1).begin(source.chunks)
        async for _ in chunks:
            break
        await chunks.aclose()

    asyncio.run(leave())
    assert source.closed
    assert source.made < 10


def test_a_cancelled_reader_closes_the_source() -> None:
    source = Source(*[b"x"] * 1000)

    async def read() -> None:
        chunks = await Threads(1).begin(source.chunks)
        try:
            async for _ in chunks:
                await asyncio.sleep(3600)
        finally:
            await chunks.aclose()

    async def cancel() -> None:
        task = asyncio.create_task(read())
        while not source.made:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert source.closed


pieces = st.lists(st.binary(max_size=30), max_size=20)


@given(pieces, st.integers(1, 40))
def test_joined_pieces_are_the_same_bytes_and_not_small(chunks: list[bytes], piece: int) -> None:
    result = list(joined(chunks, piece=piece))
    assert b"".join(result) == b"".join(chunks)
    # A large one is not copied for the sake of a small one before it.
    small = [len(chunk) < piece for chunk in result[:-1]]
    assert not any(one and other for one, other in pairwise(small))


@given(pieces)
def test_gzip(chunks: list[bytes]) -> None:
    assert gzip.decompress(b"".join(gzipped(chunks))) == b"".join(chunks)

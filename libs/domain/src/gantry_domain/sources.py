"""Reading a stored object through a window: ranged reads in, bytes out, never the whole object.

Whoever calls gives a `Fetch`; nothing here opens or allocates what a data set merely declares.
"""

import zlib
from collections.abc import Callable, Iterator

# (offset, length) -> the bytes there, fewer at the end of the object.
Fetch = Callable[[int, int], bytes]

WINDOW = 64 * 1024
# What inflating may produce before the object counts as hostile: above any real header or image.
INFLATED_LIMIT = 8 << 30


def fetch_from(data: bytes) -> Fetch:
    """A `Fetch` over bytes in memory."""
    return lambda offset, length: data[offset : offset + length]


class Window:
    """One buffer over a source, moved as needed.

        0 ................ base [ buffer ........ ] ................ end of the source

    `buffer` and `base` may be read directly by those who check the bounds themselves.
    """

    __slots__ = ("_fetch", "_size", "base", "buffer")

    def __init__(self, fetch: Fetch, *, size: int = WINDOW, first: bytes = b"") -> None:
        """`first` is what the caller has already read from offset 0."""
        self._fetch = fetch
        self._size = size
        self.buffer = first
        self.base = 0

    def move(self, offset: int) -> None:
        """Put the window at `offset`; the buffer is short or empty only at the end."""
        self.buffer = self._fetch(offset, self._size)
        self.base = offset

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`, fewer at the end of the source."""
        start = offset - self.base
        if start < 0 or start + length > len(self.buffer):
            if length > self._size:
                return self._fetch(offset, length)
            self.move(offset)
            start = 0
        return self.buffer[start : start + length]


class Onwards:
    """A `Fetch` over chunks that come once: no offset may be less than the one before it.

    Holds what was read from the last offset on; what lies before is forgotten.
    """

    def __init__(self, chunks: Iterator[bytes], *, base: int) -> None:
        """`base`: the offset of the first chunk."""
        self._chunks = chunks
        self._buffer = b""
        self._base = base

    def __call__(self, offset: int, length: int) -> bytes:
        if offset < self._base:
            raise ValueError(f"offset {offset} has gone by: {self._base}")
        pieces = [self._buffer]
        have = self._base + len(self._buffer)
        while have < offset + length and (chunk := next(self._chunks, b"")):
            if have <= offset:
                pieces = []
                self._base = have
            pieces.append(chunk)
            have += len(chunk)
        buffer = b"".join(pieces)
        surplus = min(offset - self._base, len(buffer))
        self._buffer = buffer[surplus:]
        self._base += surplus
        return self._buffer[:length]


class Inflated:
    """A `Fetch` over a deflated data set (PS3.5 A.5), in offsets of the inflated data set.

    Streaming: reading onwards inflates at most a window more than was asked for, reading far
    backwards starts again. Damaged or cut data end early, as any cut object does. More than
    `limit` inflated bytes end it too and set `exceeded`.
    """

    def __init__(self, fetch: Fetch, *, dataset_offset: int, limit: int = INFLATED_LIMIT) -> None:
        self._fetch = fetch
        self._dataset_offset = dataset_offset
        self._limit = limit
        self.exceeded = False
        self._restart()

    def _restart(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._source = self._dataset_offset
        self._buffer = b""
        self._base = 0
        self._finished = False

    def __call__(self, offset: int, length: int) -> bytes:
        if offset < self._base:
            self._restart()
        have = self._base + len(self._buffer)
        if have < offset + length and not self._finished:
            pieces = [self._buffer]
            while have < offset + length and not self._finished:
                more = self._inflate(WINDOW)
                if have + len(more) <= offset - WINDOW:
                    pieces = []
                    self._base = have
                pieces.append(more)
                have += len(more)
                if have > self._limit:
                    self.exceeded = self._finished = True
            buffer = b"".join(pieces)
            surplus = max(offset - WINDOW - self._base, 0)
            self._buffer = buffer[surplus:]
            self._base += min(surplus, len(buffer))
        start = offset - self._base
        return self._buffer[start : start + length]

    def _inflate(self, length: int) -> bytes:
        """Up to `length` further bytes; none and `_finished` at the end."""
        compressed = self._inflater.unconsumed_tail
        if not compressed:
            compressed = self._fetch(self._source, WINDOW)
            self._source += len(compressed)
        more = b""
        try:
            more = self._inflater.decompress(compressed, length)
        except zlib.error:
            # Some writers add the zlib header that PS3.5 A.5 leaves out.
            self._finished = self._source - self._dataset_offset != len(compressed)
            if not self._finished:
                self._inflater = zlib.decompressobj()
                try:
                    more = self._inflater.decompress(compressed, length)
                except zlib.error:
                    self._finished = True
        if self._inflater.eof or (not compressed and not more):
            self._finished = True
        return more

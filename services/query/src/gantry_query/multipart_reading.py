"""Reads multipart/related bodies (RFC 2046 5.1, PS3.18 8.6.1.2) as they arrive.

A delimiter is the boundary at the start of a line, with nothing but spaces after it; what else
looks like it is data. Never holds more than one piece, a part's head and a delimiter.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from gantry_domain.errors import PermanentError

LONGEST_BOUNDARY = 200  # RFC 2046 allows 70, and some write more
_LONGEST_HEAD = 16 * 1024
_MOST_PADDING = 256
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?&;@#$%*!|~^ -]*[0-9A-Za-z'()+_,./:=?&;@#$%*!|~^-]")


class BrokenMultipart(PermanentError):
    """The body is not what its Content-Type says."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the body is not multipart as it should be: {why}")


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part's head; names of headers in lower case."""

    headers: Mapping[str, str]


class PartEnds(Enum):
    """The data of a part are complete."""

    PART_ENDS = "part ends"


Event = PartBegins | memoryview | PartEnds
"""A part begins, some of its data (void when the next event is asked for), or it ends."""


class _Place(Enum):
    PREAMBLE = "before the first part"
    HEAD = "in the head of a part"
    DATA = "in a part"
    END = "after the last part"


class MultipartReader:
    """One body. Used by one thread at a time."""

    def __init__(self, boundary: str) -> None:
        """Raises `BrokenMultipart` for what cannot be a boundary."""
        if len(boundary) > LONGEST_BOUNDARY or not _BOUNDARY.fullmatch(boundary):
            raise BrokenMultipart("its Content-Type names no boundary")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._place = _Place.PREAMBLE
        # The first delimiter may stand at the very beginning.
        self._rest = b"\r\n"

    def feed(self, data: bytes) -> Iterator[Event]:
        """What the next bytes bring; to be read to its end. Raises `BrokenMultipart`."""
        rest = memoryview(self._rest + data)
        self._rest = b""
        while True:
            match self._place:
                case _Place.END:
                    return
                case _Place.HEAD:
                    taken = self._head(rest)
                    if taken is None:
                        return
                    headers, rest = taken
                    yield PartBegins(headers)
                case _:
                    data_before, rest, found = self._until_delimiter(rest)
                    if data_before.nbytes and self._place is _Place.DATA:
                        yield data_before
                    if not found:
                        return
                    if self._place is _Place.DATA:
                        yield PartEnds.PART_ENDS
                    self._place = _Place.END if bytes(rest[:2]) == b"--" else _Place.HEAD

    def close(self) -> None:
        """The body is complete. Raises `BrokenMultipart` if it should not be."""
        if self._place is not _Place.END:
            raise BrokenMultipart(f"it ends {self._place.value}")

    def _head(self, rest: memoryview) -> tuple[dict[str, str], memoryview] | None:
        """The headers, and what comes after them; None if they are not complete.

        `rest` begins with the line end of the delimiter, so that no headers are two line ends.
        """
        head = bytes(rest[: _LONGEST_HEAD + 4])
        end = head.find(b"\r\n\r\n")
        if end < 0:
            if len(head) > _LONGEST_HEAD:
                raise BrokenMultipart("the head of a part does not end")
            self._rest = head
            return None
        self._place = _Place.DATA
        return _headers(head[:end]), rest[end + 4 :]

    def _until_delimiter(self, rest: memoryview) -> tuple[memoryview, memoryview, bool]:
        """The data before the next delimiter, what follows it, and whether it is there."""
        whole = rest.obj
        assert isinstance(whole, bytes)
        start = len(whole) - rest.nbytes
        position = start
        while True:
            found = whole.find(self._delimiter, position)
            if found < 0:
                keep = max(start, len(whole) - len(self._delimiter) + 1)
                self._rest = whole[keep:]
                return rest[: keep - start], rest[:0], False
            after = _after_padding(whole, found + len(self._delimiter))
            if after is None:
                self._rest = whole[found:]
                return rest[: found - start], rest[:0], False
            if after >= 0:
                return rest[: found - start], rest[after - start :], True
            position = found + 1


def _after_padding(whole: bytes, position: int) -> int | None:
    """Where `--` or the line end after a delimiter is; -1: it is none; None: not known yet."""
    if whole[position : position + 2] == b"--":
        return position
    end = position
    while end < len(whole) and whole[end] in b" \t" and end - position < _MOST_PADDING:
        end += 1
    following = whole[end : end + 2]
    if following == b"\r\n":
        return end
    return None if following in (b"", b"\r", b"-") else -1


def _headers(head: bytes) -> dict[str, str]:
    """The headers of a part; lines that are none are passed over."""
    lines = re.sub(rb"\r\n[ \t]+", b" ", head).split(b"\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(
                name.decode("latin-1").strip().lower(), value.decode("latin-1").strip()
            )
    return headers

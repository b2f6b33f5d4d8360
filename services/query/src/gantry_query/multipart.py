"""Writes multipart/related bodies (RFC 2387, PS3.18 8.6.1.2) that stream.

--boundary CRLF Content-Type: ... CRLF CRLF data CRLF --boundary CRLF ... CRLF --boundary-- CRLF
"""

import secrets
from collections.abc import Iterable, Iterator


class Multipart:
    """One body. Its boundary is random, so that it occurs in no data."""

    def __init__(self, root: str) -> None:
        self.boundary = secrets.token_hex(24)
        self.media_type = f'multipart/related; type="{root}"; boundary={self.boundary}'
        self._first = True

    def head(self, content_type: str) -> bytes:
        """What goes before a part's data. The name is written so: some readers heed its case."""
        before = "" if self._first else "\r\n"
        self._first = False
        return f"{before}--{self.boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()

    def length(self, parts: Iterable[tuple[str, int]]) -> int:
        """The bytes of a whole body whose parts have these content types and sizes."""
        # "--", the boundary and the line ends around it and the name.
        around = len(f"--{self.boundary}\r\nContent-Type: \r\n\r\n")
        total = sum(around + len(content_type) + size + 2 for content_type, size in parts)
        return total - 2 + len(self.end())

    def part(self, content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """A part as a whole."""
        yield self.head(content_type)
        yield from chunks

    def end(self) -> bytes:
        """What goes after the last part."""
        return f"\r\n--{self.boundary}--\r\n".encode()

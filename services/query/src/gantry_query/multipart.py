"""Writes multipart/related bodies (RFC 2387, PS3.18 8.6.1.2) that stream.

--boundary CRLF Content-Type: ... CRLF CRLF data CRLF --boundary CRLF ... CRLF --boundary-- CRLF
"""

import secrets
from collections.abc import Iterator


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

    def part(self, content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """A part as a whole."""
        yield self.head(content_type)
        yield from chunks

    def end(self) -> bytes:
        """What goes after the last part."""
        return f"\r\n--{self.boundary}--\r\n".encode()

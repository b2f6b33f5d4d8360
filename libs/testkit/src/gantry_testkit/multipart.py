"""Multipart answers, read as strictly as the strictest client does."""

from email.message import Message
from email.parser import HeaderParser

import httpx


def parts_of(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content type and data of each part of a multipart answer, as cornerstone reads it."""
    head: Message = HeaderParser().parsestr(f"Content-Type: {answer.headers['content-type']}\n\n")
    assert head.get_content_type() == "multipart/related"
    boundary = f"--{head.get_param('boundary')}".encode()
    before, *pieces, end = answer.content.split(boundary)
    assert (before, end) == (b"", b"--\r\n")
    parts = []
    for piece in pieces:
        assert piece.startswith(b"\r\nContent-Type: ")
        assert piece.endswith(b"\r\n")
        header, data = piece[2:-2].split(b"\r\n\r\n", 1)
        parts.append((header.decode().removeprefix("Content-Type: "), data))
    return parts

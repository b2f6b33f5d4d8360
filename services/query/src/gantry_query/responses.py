"""Answers that stream, and what they say about caching and encoding."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Send

# Patient data: for the one who asked, and checked before each use.
CACHE = "private, no-cache"


class Streamed(StreamingResponse):
    """A streamed answer; its source is closed when the client leaves."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        media_type: str,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(content, status_code, headers)
        # Not `media_type`, to which Starlette would add a charset.
        self.headers["Content-Type"] = media_type
        self.headers["Cache-Control"] = CACHE
        self.headers.setdefault("Vary", "Accept")

    async def stream_response(self, send: Send) -> None:
        """Sends the answer."""
        source: Any = self.body_iterator
        async with contextlib.aclosing(source):
            await super().stream_response(send)


def takes_gzip(request: Request) -> bool:
    """Whether the client can read gzip (RFC 9110 12.5.3)."""
    for coding in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, parameters = coding.strip().partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            quality = parameters.strip().removeprefix("q=").rstrip("0.")
            return not parameters or bool(quality)
    return False


def accept_of(request: Request) -> str | None:
    """What the client accepts: the query parameter if there is one (PS3.18 8.3.3.1), or the header.

    Several headers of the name are one list.
    """
    asked = request.query_params.getlist("accept") or request.headers.getlist("accept")
    return ", ".join(asked) if asked else None


def unchanged(request: Request, etag: str) -> bool:
    """Whether the client has this version already (RFC 9110 13.1.2, weak comparison)."""
    tags = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    return "*" in tags or etag.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}

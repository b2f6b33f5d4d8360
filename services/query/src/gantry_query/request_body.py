"""The body of a request that sends something, in pieces; its client must not be too slow."""

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.requests import Request

from gantry_dimse.pace import Pace
from gantry_query import metrics
from gantry_query.reception import StoreDoor, TooSlow

CLIENT_LEFT = 499
"""The status of a request whose client has gone; nobody hears it."""

_PIECE = 512 * 1024


async def pieces(request: Request, door: StoreDoor) -> AsyncIterator[bytes]:
    """The body in pieces of some size. Raises `TooSlow`, `ClientDisconnect`."""
    pace = Pace(minimum=door.minimum_rate, window=door.rate_window)
    body = request.stream()
    waiting: list[bytes] = []
    size = 0
    while True:
        asked = time.monotonic()
        try:
            async with asyncio.timeout(door.patience):
                chunk = await anext(body, None)
        except TimeoutError as error:
            raise TooSlow from error
        if chunk is None:
            break
        # The body is one message, whatever parts it has.
        if pace.too_slow(0.0, waited=time.monotonic() - asked, received=len(chunk)):
            raise TooSlow
        waiting.append(chunk)
        size += len(chunk)
        metrics.STORED_BYTES.inc(len(chunk))
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)

"""Small JSON: a body of a few words that says what to do, and what is told of rows."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gantry_query.negotiation import JSON
from gantry_query.reception import StoreDoor
from gantry_query.request_body import pieces
from gantry_query.responses import CACHE

_LARGEST_BODY = 4096


async def small_json(request: Request, door: StoreDoor) -> Mapping[str, Any]:
    """The object in the body. Raises `HTTPException` where there is none, `ClientDisconnect`."""
    content = bytearray()
    async for piece in pieces(request, door):
        content += piece
        if len(content) > _LARGEST_BODY:
            raise HTTPException(413, "a few words are enough")
    try:
        read = orjson.loads(content)
    except ValueError as error:
        raise HTTPException(400, "the body is no JSON") from error
    if not isinstance(read, dict):
        raise HTTPException(400, "the body is no JSON object")
    return read


def json_answer(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that nobody keeps for later."""
    told = {"Cache-Control": CACHE, **(headers or {})}
    return Response(orjson.dumps(body), status, told, media_type=JSON)

"""Search transactions (QIDO-RS, PS3.18 10.6)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

import orjson
from fastapi import APIRouter
from sqlalchemy.engine import Engine
from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.attributes import Level
from gantry_domain.query import PageRequest, Query
from gantry_domain.sight import Sight
from gantry_query.archive import Archive
from gantry_query.negotiation import choose_json
from gantry_query.parameters import SearchRequest, parse_search
from gantry_query.responses import CACHE, accept_of, takes_gzip
from gantry_query.streams import gzipped
from gantry_stores.index.search import CURSOR, Page, count, search

MOST_COUNTED = 1000
"""Of what is left after a page; a number that is asked for is exact up to ten times as many."""
COUNTED_WHEN_ASKED = 10_000
TOTAL_COUNT = "X-Total-Count"
_WORTH_PACKING = 2048

_RESOURCES = {
    "/studies": Level.STUDY,
    "/series": Level.SERIES,
    "/instances": Level.INSTANCE,
    "/studies/{StudyInstanceUID}/series": Level.SERIES,
    "/studies/{StudyInstanceUID}/instances": Level.INSTANCE,
    "/studies/{StudyInstanceUID}/series/{SeriesInstanceUID}/instances": Level.INSTANCE,
    "/series/{SeriesInstanceUID}/instances": Level.INSTANCE,
}


def search_router(archive: Archive) -> APIRouter:
    """The seven resources that are searched. No match is 200 and `[]` (PS3.18 8.3.4.4.1)."""
    router = APIRouter()
    for path, level in _RESOURCES.items():
        router.add_api_route(path, _handler(archive, level), name=f"search {path}")
    return router


def _handler(archive: Archive, level: Level) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        media_type = choose_json(accept_of(request))
        sight = archive.sight(request)
        within = {key: uid for key, uid in request.path_params.items() if key.endswith("UID")}
        asked = parse_search(level, request.query_params.multi_items(), within=within)
        packed = takes_gzip(request)
        base = archive.address.base(request)
        answer = await archive.ask(
            lambda: _answer(archive.engine, asked, sight=sight, base=base, packed=packed)
        )
        headers = {"Cache-Control": CACHE, "Vary": "Accept, Accept-Encoding"}
        if answer.warnings:
            headers["Warning"] = ", ".join(f'299 gantry "{text}"' for text in answer.warnings)
        if answer.next is not None:
            headers["Link"] = f'<{_next(request, base, answer.next)}>; rel="next"'
        if answer.total is not None:
            headers[TOTAL_COUNT] = answer.total
        if answer.packed:
            headers["Content-Encoding"] = "gzip"
        response = Response(answer.body, headers=headers)
        response.headers["Content-Type"] = media_type
        return response

    return handle


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    packed: bool
    next: str | None
    warnings: tuple[str, ...]
    total: str | None


def _answer(
    engine: Engine, asked: SearchRequest, *, sight: Sight, base: str, packed: bool
) -> _Answer:
    page = search(engine, asked.query, sight=sight, retrieve_base=base)
    body = orjson.dumps(page.rows)
    packed = packed and len(body) >= _WORTH_PACKING
    if packed:
        body = b"".join(gzipped([body]))
    warnings = asked.warnings
    if page.more:
        warnings = (*warnings, _remaining(engine, asked.query, page, sight))
    total = _total(engine, asked.query, sight) if asked.counted else None
    return _Answer(body, packed, page.next, warnings, total)


def _total(engine: Engine, query: Query, sight: Sight) -> str:
    whole = replace(query, page=PageRequest(limit=0))
    found = count(engine, whole, sight=sight, limit=COUNTED_WHEN_ASKED + 1)
    return str(found) if found <= COUNTED_WHEN_ASKED else f"more than {COUNTED_WHEN_ASKED}"


def _remaining(engine: Engine, query: Query, page: Page, sight: Sight) -> str:
    """What a cut result says (PS3.18 8.3.4.4); counting ends early, for the number costs."""
    rest = replace(query.page, offset=query.page.offset + len(page.rows))
    left = count(engine, replace(query, page=rest), sight=sight, limit=MOST_COUNTED + 1)
    number = f"more than {MOST_COUNTED}" if left > MOST_COUNTED else str(left)
    return f"There are {number} additional results that can be requested"


def _next(request: Request, base: str, cursor: str) -> str:
    path = request.url.path.partition("/dicomweb")[2]
    kept = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name.lower() not in ("offset", CURSOR)
    ]
    return f"{base}{quote(path)}?{urlencode([*kept, (CURSOR, cursor)])}"

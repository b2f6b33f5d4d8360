"""Orders over HTTP: a table of them, as `gantry orders import` takes it, in CSV or JSON.

Not of the standard. Each record is an order of its own; one that is refused keeps back no other.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

import orjson
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gantry_archive.ordering import take_record
from gantry_domain.orders.tables import NoTable, read_records
from gantry_query import metrics
from gantry_query.archive import Archive
from gantry_query.negotiation import JSON, parse_accept
from gantry_query.request_body import CLIENT_LEFT, pieces
from gantry_query.responses import CACHE

CSV = "text/csv"
LARGEST_TABLE = 4 * 2**20
MOST_RECORDS = 2000
# So many at a time, that other questions to the index get their turn.
_AT_ONCE = 20

Records = Sequence[Mapping[str, str]]


def order_router(archive: Archive) -> APIRouter:
    """The one resource."""
    router = APIRouter()
    router.add_api_route("/orders", _handler(archive), methods=["POST"], name="orders")
    return router


def _handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        partition = archive.partition(request)
        if not archive.orders.open:
            raise HTTPException(403, "orders are taken from clients that sign in (`auth`) alone")
        kinds = parse_accept(request.headers.get("content-type", ""))
        if not kinds or kinds[0].type not in (CSV, JSON):
            raise HTTPException(415, f"send {CSV} or {JSON}")
        try:
            records = read_records(await _body(request, archive))
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        except NoTable as error:
            raise HTTPException(400, str(error)) from error
        if len(records) > MOST_RECORDS:
            raise HTTPException(413, f"at most {MOST_RECORDS} orders at once")
        refused: list[dict[str, object]] = []
        for start in range(0, len(records), _AT_ONCE):
            some = records[start : start + _AT_ONCE]
            refused += await archive.ask(partial(_take, archive, some, start, partition))
        return _response(len(records) - len(refused), refused)

    return handle


async def _body(request: Request, archive: Archive) -> bytes:
    content = bytearray()
    async for piece in pieces(request, archive.door):
        content += piece
        if len(content) > LARGEST_TABLE:
            raise HTTPException(413, f"at most {LARGEST_TABLE >> 20} MiB at once")
    return bytes(content)


def _take(
    archive: Archive, records: Records, start: int, partition: str
) -> list[dict[str, object]]:
    """Those of some records that are refused. Raises `IndexUnavailable`."""
    now = datetime.now(archive.orders.zone)
    refused: list[dict[str, object]] = []
    for number, record in enumerate(records, start=start + 1):
        why = take_record(archive.engine, record, partition=partition, now=now)
        metrics.ORDERS.labels("taken" if why is None else "refused").inc()
        if why is not None:
            refused.append({"record": number, "error": why})
    return refused


def _response(taken: int, refused: list[dict[str, object]]) -> Response:
    """As of a store transaction: 200 all, 202 some, 409 none."""
    status = 200 if not refused else 202 if taken else 409
    body = orjson.dumps({"taken": taken, "refused": refused})
    return Response(body, status, {"Cache-Control": CACHE}, media_type=JSON)

"""The feed of events over HTTP: pages of JSON, with a long poll, or Server-Sent Events.

Not of the standard. An event names a study by its UIDs, and nothing else of a patient. Of studies
that are out of sight reviewers alone are told.
"""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import orjson
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.events import Event, event_document
from gantry_domain.query import BadQuery
from gantry_domain.sight import Sight
from gantry_query.archive import Archive
from gantry_query.failures import RETRY_AFTER
from gantry_query.negotiation import JSON, NotAcceptable, parse_accept
from gantry_query.responses import CACHE, Streamed, accept_of
from gantry_runtime.values import parse_duration
from gantry_stores.index.events import Feed, events_after

EVENT_STREAM = "text/event-stream"
LONGEST_WAIT = 60.0
MOST_EVENTS = 1000
USUAL_EVENTS = 100
_KEEP_ALIVE_SECONDS = 15.0
# A client that has gone silently is found out by then; others come again by themselves.
_LONGEST_STREAM = 3600.0
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_LATEST = "latest"


def event_router(archive: Archive) -> APIRouter:
    """The one resource."""
    router = APIRouter()
    router.add_api_route("/events", _handler(archive), name="events")
    return router


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for; `after` is None where it is to begin now."""

    after: int | None
    limit: int
    wait: float
    sight: Sight


def _handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        streamed = _is_streamed(accept_of(request))
        asked = _asked(request, archive.sight(request))
        if archive.feed.full and (streamed or asked.wait):
            headers = {"Retry-After": str(RETRY_AFTER)}
            raise HTTPException(503, "too many wait for events just now", headers)
        after = _begin(asked, await archive.feed.look())
        if streamed:
            return Streamed(_stream(archive, asked, after), media_type=EVENT_STREAM)
        return await _page(archive, asked, after)

    return handle


def _is_streamed(accept: str | None) -> bool:
    """Whether the client prefers Server-Sent Events to JSON."""
    for each in parse_accept(accept or JSON):
        if each.covers(JSON):
            return False
        if each.type == EVENT_STREAM:
            return True
    raise NotAcceptable((JSON, EVENT_STREAM))


def _asked(request: Request, sight: Sight) -> _Asked:
    parameters = request.query_params
    # What a browser says when it connects again is newer than the address it began with.
    after = request.headers.get("last-event-id") or parameters.get("after", "0")
    if after != _LATEST and not _NUMBER.fullmatch(after):
        raise BadQuery("after", f"it is the number of an event, or `{_LATEST}`")
    limit = parameters.get("limit", str(USUAL_EVENTS))
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= MOST_EVENTS:
        raise BadQuery("limit", f"it is a number from 1 to {MOST_EVENTS}")
    wait = 0.0
    if "wait" in parameters:
        try:
            wait = parse_duration(parameters["wait"]).total_seconds()
        except ValueError as error:
            raise BadQuery("wait", "it is a time such as 30s") from error
    number = None if after == _LATEST else int(after)
    return _Asked(number, int(limit), min(wait, LONGEST_WAIT), sight)


def _begin(asked: _Asked, feed: Feed) -> int:
    """The number after which to begin."""
    if asked.after is None:
        return feed.last
    if 0 < asked.after < feed.removed_until:
        raise HTTPException(
            410, "some events after this one are no longer kept: look at everything, and begin anew"
        )
    return asked.after


async def _read(archive: Archive, asked: _Asked, after: int) -> tuple[list[Event], int]:
    """Some events, and the number up to which none was left out."""
    until = max(archive.feed.last, after)
    events = await archive.ask(
        lambda: events_after(
            archive.engine, after, until=until, sight=asked.sight, limit=asked.limit
        )
    )
    return events, events[-1].id if len(events) == asked.limit else until


async def _page(archive: Archive, asked: _Asked, after: int) -> Response:
    deadline = time.monotonic() + asked.wait
    events, last = await _read(archive, asked, after)
    while not events and (left := deadline - time.monotonic()) > 0 and not archive.feed.stopping:
        await archive.feed.changed(last, seconds=left)
        events, last = await _read(archive, asked, last)
    body = orjson.dumps({"events": [event_document(event) for event in events], "last": last})
    headers = {"Cache-Control": CACHE, "Vary": "Accept"}
    return Response(body, headers=headers, media_type=JSON)


async def _stream(archive: Archive, asked: _Asked, after: int) -> AsyncIterator[bytes]:
    deadline = time.monotonic() + _LONGEST_STREAM
    yield b"retry: %d\n\n" % (RETRY_AFTER * 1000)
    while time.monotonic() < deadline and not archive.feed.stopping:
        events, last = await _read(archive, asked, after)
        if events:
            yield b"".join(map(_message, events))
        elif last == after:
            await archive.feed.changed(after, seconds=_KEEP_ALIVE_SECONDS)
            yield b":\n\n"
        after = last


def _message(event: Event) -> bytes:
    kind = event.happening.kind.value.encode()
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.id,
        kind,
        orjson.dumps(event_document(event)),
    )

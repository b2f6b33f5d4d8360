"""Time ranges sent again over HTTP: what was received in one, to whom has not got it.

Not of the standard. A long range takes several requests: each tells where the next goes on.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gantry_archive.resending import ByRoutes, Resent, Span, To, resend, route_named
from gantry_domain.errors import ConfigurationError
from gantry_query.archive import Archive
from gantry_query.delivery_routes import check_open
from gantry_query.request_body import CLIENT_LEFT
from gantry_query.small_json import json_answer, small_json

# One request plans for about so long.
_SECONDS = 3.0
_HOW = 'send {"since": "2026-11-01T00:00:00Z", "until": ..., "to": "AE"} or {..., "route": "NAME"}'


def resend_router(archive: Archive) -> APIRouter:
    """Time ranges of a partition."""
    router = APIRouter()
    door = _Resending(archive)
    router.add_api_route("/deliveries/replay", door.replay, methods=["POST"], name="replay")
    return router


class _Resending:
    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def replay(self, request: Request) -> Response:
        """202, with the numbers of the deliveries, and `after` for the next request or null; 200
        with `"dry_run": true`, which writes nothing."""
        partition = self._archive.partition(request)
        check_open(self._archive)
        try:
            asked = await small_json(request, self._archive.door)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        dry_run = asked.get("dry_run", False)
        if not isinstance(dry_run, bool):
            raise HTTPException(400, _HOW)
        after = _identifier(asked.get("after"))
        where = self._where(asked)
        try:
            span = Span(
                since=_moment(asked.get("since")),
                until=_moment(asked.get("until", datetime.now(UTC).isoformat())),
                partitions=[partition],
            )
        except ConfigurationError as error:
            raise HTTPException(400, str(error)) from error

        def ask() -> Resent:
            deadline = time.monotonic() + _SECONDS
            done = Resent()
            engine = self._archive.engine
            for reached in resend(engine, span, where, dry_run=dry_run, after=after):
                done = reached
                if time.monotonic() >= deadline:
                    break
            return done

        return json_answer(_told(await self._archive.ask(ask)), 200 if dry_run else 202)

    def _where(self, asked: Mapping[str, Any]) -> ByRoutes | To:
        to, route, door = asked.get("to"), asked.get("route"), self._archive.deliveries
        if isinstance(to, str) and route is None:
            if to not in door.destinations:
                raise HTTPException(409, "no partner with an address is called so")
            return To(to)
        if isinstance(route, str) and to is None:
            try:
                return ByRoutes([route_named(door.routes, route)])
            except ConfigurationError as error:
                raise HTTPException(409, "no route is called so") from error
        raise HTTPException(400, _HOW)


def _told(done: Resent) -> dict[str, Any]:
    return {
        "received": done.objects,
        "studies": len(done.studies),
        "left_out": len(done.left_out),
        "instances": done.instances,
        "deliveries": sorted(done.deliveries),
        "after": done.reached,
    }


def _moment(text: object) -> datetime:
    try:
        read = datetime.fromisoformat(text) if isinstance(text, str) else None
        # Without a zone it is UTC; with one, it may be beyond the first or the last year of all.
        moment = read and (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise HTTPException(400, _HOW) from error
    if moment is None:
        raise HTTPException(400, _HOW)
    return moment


def _identifier(text: object) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text) if isinstance(text, str) else UUID("")
    except ValueError as error:
        raise HTTPException(400, "go on with the `after` of the answer before") from error

"""Those who are told of events, over HTTP: how far each is; paused, resumed, told again.

Not of the standard. What is told has names, numbers and times, and nothing of a patient.
"""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from sqlalchemy.engine import Connection
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gantry_query.archive import Archive
from gantry_query.failures import NotHere
from gantry_query.request_body import CLIENT_LEFT
from gantry_query.small_json import json_answer, small_json
from gantry_stores.index import subscribers as rows
from gantry_stores.index.database import transaction
from gantry_stores.index.subscribers import SubscriberLine

_LARGEST_NUMBER = 10**18

Act = Callable[[Connection], object]


def subscriber_router(archive: Archive) -> APIRouter:
    """The subscribers of all partitions."""
    router = APIRouter()
    subscribers, one = _Subscribers(archive), "/subscribers/{subscriber}"
    for path, handler, method, name in (
        ("/subscribers", subscribers.index, "GET", "subscribers"),
        (one, subscribers.change, "PUT", "subscriber"),
        (f"{one}/replay", subscribers.replay, "POST", "tell_again"),
        (f"{one}/retry", subscribers.retry, "POST", "retry"),
    ):
        router.add_api_route(path, handler, methods=[method], name=name)
    return router


class _Subscribers:
    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def index(self, request: Request) -> Response:
        """Each with its state: `told`, `paused`, `away` or `new`."""
        self._archive.partition(request)
        names = self._archive.deliveries.subscribers

        def ask() -> list[dict[str, Any]]:
            with transaction(self._archive.engine) as connection:
                lines = {line.name: line for line in rows.list_subscribers(connection, names)}
            return [{"subscriber": name, **_told(lines.get(name))} for name in names]

        return json_answer(await self._archive.ask(ask))

    async def change(self, request: Request) -> Response:
        """`{"paused": true}` or `{"paused": false}`: 204."""

        def wanted(body: Any, name: str) -> Act | None:
            match body.get("paused"):
                case True:
                    return lambda connection: rows.pause_subscriber(connection, name)
                case False:
                    return lambda connection: rows.resume_subscriber(connection, name)
            return None

        return await self._steer(request, wanted, 'send {"paused": true}')

    async def replay(self, request: Request) -> Response:
        """`{"after": 1764000000000}`: all events after this number are told again; 204."""

        def wanted(body: Any, name: str) -> Act | None:
            after = body.get("after")
            if type(after) is not int or not 0 <= after < _LARGEST_NUMBER:
                return None
            return lambda connection: rows.replay(connection, name, after=after)

        return await self._steer(request, wanted, 'send {"after": the number of an event}')

    async def retry(self, request: Request) -> Response:
        """What was refused is told again; 204."""
        name = self._name(request)
        await self._write(name, lambda connection: rows.retry_refused(connection, name))
        return Response(status_code=204)

    async def _steer(
        self, request: Request, wanted: Callable[[Any, str], Act | None], usage: str
    ) -> Response:
        name = self._name(request)
        try:
            body = await small_json(request, self._archive.door)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        act = wanted(body, name)
        if act is None:
            raise HTTPException(400, usage)
        await self._write(name, act)
        return Response(status_code=204)

    def _name(self, request: Request) -> str:
        self._archive.partition(request)
        if not self._archive.deliveries.open:
            raise HTTPException(403, "only clients that sign in (`auth`) may steer this")
        name = str(request.path_params["subscriber"])
        if name not in self._archive.deliveries.subscribers:
            raise NotHere("subscriber")
        return name

    async def _write(self, name: str, act: Act) -> None:
        def write() -> None:
            with transaction(self._archive.engine) as connection:
                # It may be that no worker has seen the configuration yet.
                rows.add_subscribers(connection, [name])
                act(connection)

        await self._archive.ask(write)


def _told(line: SubscriberLine | None) -> dict[str, Any]:
    if line is None:
        return {"state": "new"}
    state = "away" if line.failures else "told"
    return {
        "state": "paused" if line.paused_at else state,
        "paused_at": line.paused_at,
        "position": line.position,
        "last": line.last,
        "told_at": line.told_at,
        "oldest_untold": line.behind,
        "aside": line.aside,
        "refused": line.refused,
        "reason": line.reason,
    }

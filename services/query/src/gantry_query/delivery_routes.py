"""Deliveries over HTTP: pushed, followed, cancelled, tried again; destinations paused and resumed.

Not of the standard. What is told has UIDs and counts, and nothing of a patient.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from sqlalchemy.engine import Connection
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gantry_archive.delivery import NothingToPush, plan_push
from gantry_domain.deliveries import DeliveryState
from gantry_domain.json_model import valid_uid
from gantry_query.archive import Archive, Result
from gantry_query.failures import NotHere
from gantry_query.request_body import CLIENT_LEFT
from gantry_query.small_json import json_answer, small_json
from gantry_stores.index import delivery_lists as lists
from gantry_stores.index import lanes
from gantry_stores.index.database import transaction
from gantry_stores.index.delivery_lists import DeliveryLine, Selection

LARGEST_PAGE = 1000
_PAGE = 100
_MOST_DIGITS = 18

Handler = Callable[[Request], Awaitable[Response]]


def delivery_router(archive: Archive) -> APIRouter:
    """Deliveries of a partition, and the destinations of all."""
    router = APIRouter()
    deliveries, number = _Deliveries(archive), "/deliveries/{number}"
    destinations = _Destinations(archive)
    for path, handler, method, name in (
        ("/deliveries", deliveries.push, "POST", "push"),
        ("/deliveries", deliveries.index, "GET", "deliveries"),
        (number, deliveries.show, "GET", "delivery"),
        (number, deliveries.cancel, "DELETE", "cancel"),
        (f"{number}/retry", deliveries.retry, "POST", "retry"),
        ("/destinations", destinations.index, "GET", "destinations"),
        ("/destinations/{destination}", destinations.change, "PUT", "destination"),
    ):
        router.add_api_route(path, handler, methods=[method], name=name)
    return router


class _Deliveries:
    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def push(self, request: Request) -> Response:
        """`{"uid": "1.2.3", "to": "AE"}`: 202, and where its progress is told."""
        partition = self._archive.partition(request)
        check_open(self._archive)
        try:
            asked = await small_json(request, self._archive.door)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        uid, to = asked.get("uid"), asked.get("to")
        if not isinstance(uid, str) or not valid_uid(uid) or not isinstance(to, str):
            raise HTTPException(400, 'send {"uid": "1.2.3", "to": "AE"}')
        if to not in self._archive.deliveries.destinations:
            raise HTTPException(409, "no partner with an address is called so")
        try:
            pushed = await self._archive.ask(
                lambda: plan_push(self._archive.engine, uid, to, partitions=[partition])
            )
        except NothingToPush as error:
            raise HTTPException(409, str(error)) from error
        line = await self._line(partition, pushed.pk)
        where = f"{request.url.path}/{pushed.pk}"
        return json_answer(_told(line), 202, {"Location": where})

    async def index(self, request: Request) -> Response:
        """The newest first; `state`, `to`, `limit`, and `before` a number."""
        partition = self._archive.partition(request)
        query = request.query_params
        limit, before = _number(query.get("limit"), _PAGE), _number(query.get("before"), None)
        try:
            states = [DeliveryState(each) for each in query.getlist("state")]
        except ValueError as error:
            raise HTTPException(400, "there is no such state") from error
        selection = Selection(
            states=states or None, destination=query.get("to"), partition=partition
        )
        lines = await self._asked(
            lambda connection: lists.list_deliveries(
                connection, selection, limit=min(limit or _PAGE, LARGEST_PAGE), before=before
            )
        )
        return json_answer([_told(line) for line in lines])

    async def show(self, request: Request) -> Response:
        """One, as it is now."""
        partition = self._archive.partition(request)
        return json_answer(_told(await self._line(partition, _of_path(request))))

    async def cancel(self, request: Request) -> Response:
        """204; 409 where it is over."""
        return await self._steer(request, lists.cancel)

    async def retry(self, request: Request) -> Response:
        """204; 409 where nothing of it can be tried again."""
        return await self._steer(request, lists.retry)

    async def _steer(
        self, request: Request, act: Callable[[Connection, Selection], list[int]]
    ) -> Response:
        partition = self._archive.partition(request)
        check_open(self._archive)
        pk = _of_path(request)
        await self._line(partition, pk)
        done = await self._asked(
            lambda connection: act(connection, Selection(pks=[pk], partition=partition))
        )
        if not done:
            raise HTTPException(409, "this delivery cannot be, in its state")
        return Response(status_code=204)

    async def _line(self, partition: str, pk: int) -> DeliveryLine:
        selection = Selection(pks=[pk], partition=partition)
        lines = await self._asked(
            lambda connection: lists.list_deliveries(connection, selection, limit=1)
        )
        if not lines:
            raise NotHere("delivery")
        return lines[0]

    async def _asked(self, question: Callable[[Connection], Result]) -> Result:
        def ask() -> Result:
            with transaction(self._archive.engine) as connection:
                return question(connection)

        return await self._archive.ask(ask)


class _Destinations:
    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def index(self, request: Request) -> Response:
        """Each with its state: `sending`, `paused`, `drained` or `away`."""
        self._archive.partition(request)

        def ask() -> list[dict[str, Any]]:
            with transaction(self._archive.engine) as connection:
                lines = {line.destination: line for line in lanes.list_lanes(connection)}
            return [
                {"destination": title, **_state(lines.get(title))}
                for title in self._archive.deliveries.destinations
            ]

        return json_answer(await self._archive.ask(ask))

    async def change(self, request: Request) -> Response:
        """`{"paused": true, "drain": false}`, or `{"paused": false}`: 204."""
        self._archive.partition(request)
        check_open(self._archive)
        title = request.path_params["destination"]
        if title not in self._archive.deliveries.destinations:
            raise NotHere("destination")
        try:
            asked = await small_json(request, self._archive.door)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        paused, drain = asked.get("paused"), asked.get("drain", False)
        if not isinstance(paused, bool) or not isinstance(drain, bool):
            raise HTTPException(400, 'send {"paused": true, "drain": false}')

        def write() -> None:
            with transaction(self._archive.engine) as connection:
                if paused:
                    lanes.pause(connection, title, drain=drain)
                else:
                    lanes.resume(connection, title)

        await self._archive.ask(write)
        return Response(status_code=204)


def _state(line: lanes.LaneLine | None) -> dict[str, Any]:
    if line is None:
        return {"state": "sending"}
    if line.paused_at is not None:
        return {"state": "drained" if line.drained else "paused", "since": line.paused_at}
    if line.opened_at is not None:
        return {"state": "away", "since": line.opened_at, "reason": line.reason}
    return {"state": "sending", "reason": line.reason}


def _told(line: DeliveryLine) -> dict[str, Any]:
    return {
        "number": line.pk,
        "to": line.destination,
        "level": line.level.value,
        "uid": line.uid,
        "origin": line.origin,
        "state": line.state.value,
        "reason": line.reason or line.refusal,
        "instances": line.items,
        "arrived": line.sent,
        "warned": line.warned,
        "refused": line.refused,
        "withheld": line.withheld,
        "proof": line.proof,
        "created_at": line.created_at,
        "delivered_at": line.delivered_at,
    }


def check_open(archive: Archive) -> None:
    """403 where strangers come in."""
    if not archive.deliveries.open:
        raise HTTPException(403, "only clients that sign in (`auth`) may have something sent")


def _of_path(request: Request) -> int:
    number = _number(request.path_params["number"], None)
    if number is None:
        raise NotHere("delivery")
    return number


def _number(text: str | None, default: int | None) -> int | None:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise HTTPException(400, "a number is written in digits")
    return int(text)

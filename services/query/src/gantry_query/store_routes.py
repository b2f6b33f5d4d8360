"""The store transaction (STOW-RS, PS3.18 10.5): a body that streams, and what became of it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import orjson
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gantry_archive.contradicting import StagedObject, contradictions
from gantry_archive.reading import ReadingRules
from gantry_archive.staging import Refused, Staged
from gantry_domain.errors import GantryError
from gantry_domain.query import parse_uids
from gantry_query import metrics
from gantry_query.archive import Archive
from gantry_query.failures import RETRY_AFTER
from gantry_query.metadata_reception import MetadataReception
from gantry_query.negotiation import DICOM, DICOM_JSON, JSON, MULTIPART, parse_accept
from gantry_query.reception import Outcome, Reception, StoreDoor
from gantry_query.request_body import CLIENT_LEFT, pieces
from gantry_query.responses import accept_of
from gantry_query.store_answer import StoreAnswer, make_answer
from gantry_runtime.logs import get_logger

log = get_logger(__name__)

_RULES = ReadingRules()


def store_router(archive: Archive) -> APIRouter:
    """The two resources that instances are sent to."""
    router = APIRouter()
    handle = _handler(archive, archive.door)
    for path, name in (("/studies", "store"), ("/studies/{StudyInstanceUID}", "store in study")):
        router.add_api_route(path, handle, methods=["POST"], name=name)
    return router


def _handler(archive: Archive, door: StoreDoor) -> Callable[[Request], Awaitable[Response]]:
    in_hand = 0

    async def handle(request: Request) -> Response:
        nonlocal in_hand
        study = request.path_params.get("StudyInstanceUID", "")
        if study:
            (study,) = parse_uids(study, parameter="StudyInstanceUID")[:1]
        partition_name = archive.partition(request)
        if not door.open:
            raise HTTPException(403, "unknown_partners does not let strangers store")
        kind, boundary = _body(request)
        if door.congested(in_hand):
            headers = {"Retry-After": str(RETRY_AFTER)}
            raise HTTPException(503, "there is no room for more just now", headers)
        reception: Reception | MetadataReception
        if kind == DICOM_JSON:
            reception = MetadataReception(
                door, partition=partition_name, StudyInstanceUID=study, boundary=boundary or ""
            )
        else:
            reception = Reception(
                door, partition=partition_name, StudyInstanceUID=study, boundary=boundary
            )
        in_hand += 1
        try:
            outcomes = await _receive(request, reception, door)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)  # which nobody hears
        finally:
            in_hand -= 1
        answer = await door.threads.run(
            lambda: _answer(archive, outcomes, partition_name, archive.address.base(request))
        )
        return _response(request, reception, answer)

    return handle


def _body(request: Request) -> tuple[str, str | None]:
    """What the body is made of, and its boundary; None: it is one instance, and not in parts."""
    ranges = parse_accept(request.headers.get("content-type", ""))
    if ranges and ranges[0].type == MULTIPART and ranges[0].root in ("", DICOM, DICOM_JSON):
        return ranges[0].root or DICOM, ranges[0].parameters.get("boundary", "")
    if ranges and ranges[0].type == DICOM:
        return DICOM, None
    raise HTTPException(
        415, f'send {MULTIPART}; type="{DICOM}", or "{DICOM_JSON}" and bulk data, or {DICOM}'
    )


async def _receive(
    request: Request, reception: Reception | MetadataReception, door: StoreDoor
) -> list[Outcome]:
    """Hands the body over piece by piece; the next one comes while one is being stored."""
    pending: asyncio.Future[None] | None = None
    try:
        async for piece in pieces(request, door):
            if pending is not None:
                await pending
            pending = asyncio.ensure_future(door.threads.run(partial(reception.feed, piece)))
        if pending is not None:
            await pending
        return await door.threads.run(lambda: list(reception.finish()))
    except BaseException:  # the client's leaving too, and our own end
        with anyio.CancelScope(shield=True):
            if pending is not None:
                await asyncio.wait([pending])
            await door.threads.run(reception.abort)
        raise


def _answer(
    archive: Archive, outcomes: list[Outcome], partition_name: str, base: str
) -> StoreAnswer:
    staged = [
        StagedObject(outcome.result.receipt, outcome.found)
        for outcome in outcomes
        if isinstance(outcome.result, Staged) and outcome.found is not None
    ]
    try:
        relations = contradictions(
            staged,
            partition=partition_name,
            store=archive.store,
            engine=archive.engine,
            rules=_RULES,
        )
    except GantryError as error:
        # All are durable: the worker will find the same, and the client need not wait for it.
        log.warning("contradictions_not_sought", error=type(error).__name__)
        relations = {}
    for outcome in outcomes:
        result = outcome.result
        kind = "stored" if isinstance(result, Staged) else "unsupported"
        if isinstance(result, Refused):
            kind = result.refusal.value
            log.warning("object_refused", reason=kind)
        metrics.STORED.labels(kind).inc()
    return make_answer(outcomes, relations, base=base)


def _response(
    request: Request, reception: Reception | MetadataReception, answer: StoreAnswer
) -> Response:
    if reception.broken is not None:
        if not answer.referenced:
            raise reception.broken
        answer.add_rest()
    if answer.empty:
        raise HTTPException(400, "the body holds no instance")
    # Whatever the client accepts: a refusal here would say nothing of what has been stored.
    types = [r.type for r in parse_accept(accept_of(request) or "")]
    media_type = JSON if JSON in types and DICOM_JSON not in types else DICOM_JSON
    headers = {"Retry-After": str(RETRY_AFTER)} if answer.status == 503 else None
    response = Response(orjson.dumps(answer.document()), answer.status, headers)
    response.headers["Content-Type"] = media_type
    return response

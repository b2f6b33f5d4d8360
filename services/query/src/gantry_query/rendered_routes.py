"""Rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4), at every level.

One picture, unless the client wants parts: then one for each instance or frame. A study or a series
is shown by its middle image. What cannot be drawn is 406 and says why.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.keys import object_key
from gantry_domain.query import BadQuery
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_query.archive import Archive
from gantry_query.decoding import NotDecoded
from gantry_query.failures import NotHere
from gantry_query.frame_numbers import frame_numbers
from gantry_query.multipart import Multipart
from gantry_query.negotiation import NotAcceptable
from gantry_query.rendering_request import (
    PICTURES,
    Rendering,
    choose_picture,
    parse_rendering,
)
from gantry_query.responses import CACHE, Streamed, accept_of, unchanged
from gantry_query.retrieve_routes import SUBJECTS, kind_of, subject_of
from gantry_query.streams import joined
from gantry_stores.index.search import StoredInstance, instances_of

# A representative is looked for among so many.
_MOST_LOOKED_AT = 2000
_CANDIDATES = 5

_REASONS = {
    "no_pixel_data": "it has no pixel data",
    "too_large": "it is too large",
    "unsupported_photometric_interpretation": "its photometric interpretation is not supported",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A frame (from 1) of an instance."""

    stored: StoredInstance
    frame: int


def rendered_router(archive: Archive) -> APIRouter:
    """Pictures of studies, series, instances and frames."""
    router = APIRouter()
    paths = {**SUBJECTS, "frames": f"{SUBJECTS['instance']}/frames/{{frames}}"}
    for thumbnail, last in ((False, "rendered"), (True, "thumbnail")):
        handle = _handler(archive, thumbnail=thumbnail)
        for kind, path in paths.items():
            router.add_api_route(f"{path}/{last}", handle, name=f"{last} {kind}")
    return router


def _handler(archive: Archive, *, thumbnail: bool) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        subject = subject_of(request)
        sight = archive.sight(request)
        frames = frame_numbers(request.path_params.get("frames", "1"))
        in_parts, media_type = choose_picture(accept_of(request))
        parameters = request.query_params.multi_items()
        rendering = parse_rendering(parameters, media_type, thumbnail=thumbnail)
        found = await archive.ask(
            lambda: list(
                islice(instances_of(archive.engine, subject, sight=sight), _MOST_LOOKED_AT)
            )
        )
        if not found:
            raise NotHere(kind_of(subject))
        wanted = [Wanted(stored, frame) for stored in found for frame in frames]
        if not in_parts and len(frames) > 1:
            raise NotAcceptable([f'multipart/related; type="{t}"' for t in PICTURES])
        if not in_parts:
            wanted = _representatives(wanted)
        etag = rendering.version(*((w.stored.object_id, w.frame) for w in wanted), in_parts)
        headers = {"ETag": etag, "Vary": "Accept", "Cache-Control": CACHE}
        if unchanged(request, etag):
            return Response(status_code=304, headers=headers)
        if in_parts:
            body = Multipart(media_type)
            parts = _parts(archive, wanted, rendering, body)
            chunks = await archive.transfers.begin(joined(parts))
            return Streamed(chunks, media_type=body.media_type, headers=headers)
        picture = await archive.transfers.run(lambda: first_picture(archive, wanted, rendering))
        response = Response(picture, headers=headers)
        response.headers["Content-Type"] = media_type
        return response

    return handle


def _representatives(wanted: list[Wanted]) -> list[Wanted]:
    """The middle image, and a few others in case that it cannot be drawn."""

    def is_image(each: Wanted) -> bool:
        sop_class = STORAGE_CLASSES.get(each.stored.SOPClassUID)
        return sop_class is not None and sop_class.image

    images = [each for each in wanted if is_image(each)] or wanted
    middle = len(images) // 2
    return (images[middle:] + images[:middle][::-1])[:_CANDIDATES]


def _draw(archive: Archive, wanted: Wanted, rendering: Rendering) -> bytes:
    """One picture. Raises `NotDecoded`, and the transient errors of the store."""
    chunks = archive.store.chunks(object_key(wanted.stored.object_id))
    return archive.renditions.decoder.render(
        chunks, size=wanted.stored.size, frame=wanted.frame, rendering=rendering
    )


def first_picture(archive: Archive, wanted: list[Wanted], rendering: Rendering) -> bytes:
    """The first that can be drawn. Raises what the first of them says."""
    failure: Exception | None = None
    for each in wanted:
        try:
            return _draw(archive, each, rendering)
        except NotDecoded as error:
            failure = failure or _refusal(each, error.reason)
    assert failure is not None
    raise failure


def _parts(
    archive: Archive, wanted: list[Wanted], rendering: Rendering, body: Multipart
) -> Iterator[bytes]:
    """A part for each that can be drawn. Raises the first reason where none can."""
    failure: Exception | None = None
    drawn = False
    for each in wanted:
        try:
            picture = _draw(archive, each, rendering)
        except NotDecoded as error:
            failure = failure or _refusal(each, error.reason)
            continue
        drawn = True
        yield from body.part(rendering.media_type, iter([picture]))
    if not drawn and failure is not None:
        raise failure
    yield body.end()


def _refusal(wanted: Wanted, reason: str) -> Exception:
    """What the client is told."""
    match reason:
        case "no_such_frame":
            return NotHere("frame")
        case "viewport_outside":
            return BadQuery("viewport", "its region lies outside of the image")
        case _:
            syntax = TRANSFER_SYNTAXES.get(wanted.stored.TransferSyntaxUID)
            name = syntax.name if syntax is not None else wanted.stored.TransferSyntaxUID
            why = _REASONS.get(reason, f"its pixels ({name}) cannot be decoded")
            return NotAcceptable((), f"there is no picture of this instance: {why}")

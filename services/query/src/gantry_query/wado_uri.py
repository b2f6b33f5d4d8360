"""WADO-URI (PS3.18 9), which older viewers and records systems use: one instance by a query.

/wado?requestType=WADO&studyUID=...&seriesUID=...&objectUID=...&contentType=application/dicom
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.query import BadQuery, parse_uids
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_query.archive import Archive
from gantry_query.failures import NotHere
from gantry_query.frame_numbers import frame_numbers
from gantry_query.negotiation import DICOM, Accepted, NotAcceptable, parse_accept
from gantry_query.rendered_routes import Wanted, first_picture
from gantry_query.rendering_request import LARGEST_VIEWPORT, PICTURES, parse_rendering
from gantry_query.responses import CACHE, unchanged
from gantry_query.retrieve_routes import forms_for, single
from gantry_stores.index.search import StoredInstance, Subject, instances_of

_UIDS = {
    "studyuid": "StudyInstanceUID",
    "seriesuid": "SeriesInstanceUID",
    "objectuid": "SOPInstanceUID",
}


def uri_router(archive: Archive) -> APIRouter:
    """The one resource."""
    router = APIRouter()
    router.add_api_route("/wado", _handler(archive), name="uri")
    return router


def _handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        given = {k.lower(): v for k, v in request.query_params.multi_items() if v.strip()}
        if given.get("requesttype", "").upper() != "WADO":
            raise BadQuery("requestType", "is not WADO")
        if given.get("anonymize"):
            raise BadQuery("anonymize", "is not done here")
        subject = _subject(given)
        sight = archive.sight(request)
        content_type = _content_type(given.get("contenttype"))
        found = await archive.ask(
            lambda: next(instances_of(archive.engine, subject, sight=sight), None)
        )
        if found is None:
            raise NotHere("instance")
        if content_type == DICOM:
            syntax = given.get("transfersyntax")
            accepted = Accepted(False, frozenset({syntax or EXPLICIT_VR_LITTLE_ENDIAN}), not syntax)
            forms = forms_for({found.TransferSyntaxUID}, accepted)
            return await single(archive, iter([found]), forms, encoding=accepted.encoding)
        return await _picture(archive, request, found, given, content_type)

    return handle


async def _picture(
    archive: Archive,
    request: Request,
    found: StoredInstance,
    given: Mapping[str, str],
    content_type: str,
) -> Response:
    (frame,) = frame_numbers(given.get("framenumber", "1"))[:1]
    rendering = parse_rendering(_parameters(given), content_type, thumbnail=False)
    etag = rendering.version(found.object_id, frame)
    headers = {"ETag": etag, "Cache-Control": CACHE}
    if unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    wanted = [Wanted(found, frame)]
    picture = await archive.transfers.run(lambda: first_picture(archive, wanted, rendering))
    response = Response(picture, headers=headers)
    response.headers["Content-Type"] = content_type
    return response


def _subject(given: Mapping[str, str]) -> Subject:
    uids = {
        keyword: parse_uids(given[name], parameter=name)[0]
        for name, keyword in _UIDS.items()
        if name in given
    }
    # Some leave the series empty.
    for name in ("studyUID", "objectUID"):
        if name.lower() not in given:
            raise BadQuery(name, "is missing")
    return Subject(**uids)


def _content_type(text: str | None) -> str:
    """What is wanted: pictures, unless it says otherwise. Raises `NotAcceptable`."""
    for media_range in parse_accept(text or PICTURES[0]):
        for media_type in (*PICTURES, DICOM):
            if media_range.covers(media_type):
                return media_type
    raise NotAcceptable((*PICTURES, DICOM))


def _parameters(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """The same as those of rendered resources."""
    parameters = [("quality", given.get("imagequality", ""))]
    if "windowcenter" in given or "windowwidth" in given:
        window = f"{given.get('windowcenter', '')},{given.get('windowwidth', '')}"
        parameters.append(("window", window))
    if "rows" in given or "columns" in given:
        largest = str(LARGEST_VIEWPORT)
        size = f"{given.get('columns', largest)},{given.get('rows', largest)}"
        parameters.append(("viewport", size))
    return parameters

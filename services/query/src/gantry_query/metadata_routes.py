"""Retrieve metadata (PS3.18 10.4.1.1.2): stored headers alone, the object store is not touched."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.sight import Sight
from gantry_query.addresses import resource
from gantry_query.archive import Archive
from gantry_query.failures import NotHere
from gantry_query.negotiation import choose_json
from gantry_query.responses import CACHE, Streamed, accept_of, takes_gzip, unchanged
from gantry_query.retrieve_routes import SUBJECTS, kind_of, subject_of
from gantry_query.streams import gzipped, joined
from gantry_stores.index.search import (
    StoredInstance,
    StudyState,
    Subject,
    headers_of,
    study_state,
)

# Changed with the form of the answer, so that clients fetch it anew.
_FORM = 1

# As the JSON of a header says it; quotes in text are escaped there, so nothing else reads so.
_RELATIVE = b'"BulkDataURI":"bulk/'


def metadata_router(archive: Archive) -> APIRouter:
    """Metadata at the three levels."""
    router = APIRouter()
    handle = _handler(archive)
    for kind, path in SUBJECTS.items():
        router.add_api_route(f"{path}/metadata", handle, name=f"metadata of {kind}")
    return router


def _handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        media_type = choose_json(accept_of(request))
        subject = subject_of(request)
        sight = archive.sight(request)
        state = await archive.ask(lambda: study_state(archive.engine, subject, sight=sight))
        if state is None:
            raise NotHere(kind_of(subject))
        base = archive.address.base(request)
        etag = _etag(state, subject, base)
        headers = {"ETag": etag, "Vary": "Accept, Accept-Encoding", "Cache-Control": CACHE}
        if unchanged(request, etag):
            return Response(status_code=304, headers=headers)
        chunks = joined(_documents(archive, subject, sight=sight, base=base))
        if takes_gzip(request):
            headers["Content-Encoding"] = "gzip"
            chunks = gzipped(chunks)
        body = await archive.transfers.begin(chunks)
        return Streamed(body, media_type=media_type, headers=headers)

    return handle


def _etag(state: StudyState, subject: Subject, base: str) -> str:
    """Weak, for the same version goes out packed and not packed."""
    # A reindex counts revisions anew, but not at the same moment.
    facts = (_FORM, base, subject, state.source, state.revision, state.indexed_at)
    return f'W/"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}"'


def _documents(archive: Archive, subject: Subject, *, sight: Sight, base: str) -> Iterator[bytes]:
    before = b"["
    for found, header in headers_of(archive.engine, subject, sight=sight):
        yield before + _document(found, header, subject, base)
        before = b",\n"
    yield b"]" if before != b"[" else b"[]"


def _document(found: StoredInstance, header: bytes, subject: Subject, base: str) -> bytes:
    """The header as it is, its references made absolute and its transfer syntax added."""
    if _RELATIVE in header:
        whole = Subject(subject.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID)
        absolute = f'"BulkDataURI":"{resource(base, whole)}/bulk/'.encode()
        header = header.replace(_RELATIVE, absolute)
    syntax = f'"00083002":{{"vr":"UI","Value":["{found.TransferSyntaxUID}"]}}'.encode()
    return header[:-1] + (b"," if len(header) > 2 else b"") + syntax + b"}"

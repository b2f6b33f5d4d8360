"""Retrieve bulk data (PS3.18 10.4.1.1.5): values that metadata refer to, by ranged reads."""

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.header import BulkLocation, read_header
from gantry_domain.keys import object_key
from gantry_domain.sources import Fetch, Inflated
from gantry_domain.transfer_syntaxes import DEFLATED, EXPLICIT_VR_BIG_ENDIAN
from gantry_domain.value_representations import WORD_SIZES
from gantry_query.archive import Archive
from gantry_query.failures import NotHere
from gantry_query.multipart import Multipart
from gantry_query.negotiation import MULTIPART, OCTET_STREAM, NotAcceptable, parse_accept
from gantry_query.responses import Streamed, accept_of, unchanged
from gantry_query.retrieve_routes import SUBJECTS, subject_of
from gantry_stores.index.search import StoredInstance, instances_of

_CHUNK = 1 << 20
_PATH = re.compile(r"[0-9A-F]{8}(?:/[0-9]{1,9}/[0-9A-F]{8})*")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,127}")
_ENCAPSULATED_DOCUMENT = "00420011"
_PDF = "application/pdf"


@dataclass(frozen=True, slots=True)
class _Value:
    """A value: how to read it, the size of its words if they are to be turned, its media type."""

    fetch: Fetch
    location: BulkLocation
    swap: int
    media_type: str


def bulk_router(archive: Archive) -> APIRouter:
    """The addresses that stand in `BulkDataURI`."""
    router = APIRouter()
    path = f"{SUBJECTS['instance']}/bulk/{{path:path}}"
    router.add_api_route(path, _handler(archive), name="bulk data")
    return router


def _handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        subject = subject_of(request)
        sight = archive.sight(request)
        path = request.path_params["path"]
        if not _PATH.fullmatch(path):
            raise NotHere("bulk data")
        found = instances_of(archive.engine, subject, sight=sight)
        stored = await archive.ask(lambda: next(found, None))
        if stored is None:
            raise NotHere("instance")
        etag = f'"{stored.object_id}-{path}"'
        if unchanged(request, etag):
            return Response(status_code=304, headers={"ETag": etag, "Vary": "Accept"})
        value = await archive.transfers.run(lambda: _value(archive, stored, path))
        multipart, media_type = _choose(accept_of(request), value.media_type)
        size = value.location.length
        headers = {"ETag": etag}
        if multipart:
            body = Multipart(media_type)
            parts = _in_parts(body, media_type, _read(value, 0, size))
            chunks = await archive.transfers.begin(parts)
            return Streamed(chunks, media_type=body.media_type, headers=headers)
        start, stop = _span(request.headers.get("range", ""), size)
        headers |= {"Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
        if media_type != _PDF:
            # What a device sent is nothing that may run in our name; PDF viewers need no sandbox.
            headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        partial_answer = (start, stop) != (0, size)
        if partial_answer:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        chunks = await archive.transfers.begin(_read(value, start, stop))
        status = 206 if partial_answer else 200
        return Streamed(chunks, media_type=media_type, status_code=status, headers=headers)

    return handle


def _value(archive: Archive, stored: StoredInstance, path: str) -> _Value:
    """Finds a value by reading the object's header anew. Raises `NotHere`."""
    fetch: Fetch = partial(archive.store.read, object_key(stored.object_id))
    header = read_header(fetch, size=stored.size)
    location = next((bulk for bulk in header.bulk if bulk.path == path), None)
    if location is None:
        raise NotHere("bulk data")
    syntax = header.meta.TransferSyntaxUID
    if syntax in DEFLATED:
        fetch = Inflated(fetch, dataset_offset=header.dataset_offset)
    # Bulk data are little endian (PS3.18 8.7.3.1).
    swap = WORD_SIZES.get(location.vr, 1) if syntax == EXPLICIT_VR_BIG_ENDIAN else 1
    native = ""
    if path == _ENCAPSULATED_DOCUMENT:
        native = (header.text("MIMETypeOfEncapsulatedDocument") or "").strip().lower()
    media_type = native if _MEDIA_TYPE.fullmatch(native) else OCTET_STREAM
    return _Value(fetch, location, swap, media_type)


def _choose(accept: str | None, native: str) -> tuple[bool, str]:
    """Whether in parts, and the media type of the value. Raises `NotAcceptable`."""
    if accept is None or not accept.strip():
        return True, OCTET_STREAM
    for media_range in parse_accept(accept):
        if media_range.type == MULTIPART:
            if media_range.root in (native, OCTET_STREAM):
                return True, media_range.root
            if media_range.root in ("", "*/*"):
                return True, OCTET_STREAM
            continue
        for media_type in (native, OCTET_STREAM):
            if media_range.covers(media_type):
                return False, media_type
    raise NotAcceptable(
        dict.fromkeys((native, OCTET_STREAM, f'{MULTIPART}; type="{OCTET_STREAM}"'))
    )


def _span(header: str, size: int) -> tuple[int, int]:
    """The first byte and the one after the last (RFC 9110 14.2); all for what is not one range."""
    found = _RANGE.fullmatch(header.strip().lower())
    if found is None or not (found[1] or found[2]):
        return 0, size
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        stop = min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < start:
            return 0, size
    if start >= stop:
        raise HTTPException(416, "the range lies outside", {"Content-Range": f"bytes */{size}"})
    return start, stop


def _read(value: _Value, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from `start` to `stop`, words turned to little endian where needed."""
    position = start - start % value.swap
    while position < stop:
        wanted = min(_CHUNK, -(-(stop - position) // value.swap) * value.swap)
        chunk = value.fetch(value.location.offset + position, wanted)
        if not chunk:
            return  # the object ends early; the length that was promised tells the client
        if value.swap > 1:
            whole = len(chunk) - len(chunk) % value.swap
            words = np.frombuffer(chunk[:whole], dtype=f">u{value.swap}")
            chunk = words.astype(f"<u{value.swap}").tobytes() + chunk[whole:]
        yield chunk[max(0, start - position) : stop - position]
        position += wanted


def _in_parts(body: Multipart, media_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield from body.part(media_type, chunks)
    yield body.end()

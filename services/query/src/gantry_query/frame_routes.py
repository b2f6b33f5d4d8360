"""Retrieve frames (PS3.18 10.4.1.1.6): as they are stored, by ranged reads, or decompressed."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from uuid import UUID

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.frame_table import FrameTable, frame_table
from gantry_domain.header import read_header
from gantry_domain.keys import object_key
from gantry_domain.sources import Fetch, Inflated
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    PixelEncoding,
)
from gantry_query.archive import Archive
from gantry_query.decoding import NotDecoded
from gantry_query.failures import NotHere
from gantry_query.frame_numbers import frame_numbers
from gantry_query.multipart import Multipart
from gantry_query.negotiation import (
    ANY_SYNTAX,
    MULTIPART,
    OCTET_STREAM,
    NotAcceptable,
    parse_accept,
)
from gantry_query.responses import CACHE, Streamed, accept_of, unchanged
from gantry_query.retrieve_routes import SUBJECTS, subject_of
from gantry_query.streams import joined
from gantry_stores.index.database import transaction
from gantry_stores.index.frame_tables import decode_frames, stored_frames
from gantry_stores.index.search import StoredInstance, instances_of
from gantry_stores.objects import ObjectStore

_CHUNK = 1 << 20
_TABLES = 256

# PS3.18 Table 8.7.3-5, by the end of the UID after 1.2.840.10008.1.2.
_MEDIA_TYPES = {
    "image/jpeg": "4.50 4.51 4.57 4.70",
    "image/jls": "4.80 4.81",
    "image/jp2": "4.90 4.91",
    "image/jpx": "4.92 4.93",
    "image/jphc": "4.201 4.202 4.203",
    "image/jxl": "4.110 4.111 4.112",
    "image/dicom-rle": "5",
}
_MEDIA_TYPE_OF = {
    f"1.2.840.10008.1.2.{end}": media_type
    for media_type, ends in _MEDIA_TYPES.items()
    for end in ends.split()
}


@dataclass(frozen=True, slots=True)
class _Chosen:
    """How frames are sent: in parts or as one, decompressed or not, and under which name."""

    multipart: bool
    decoded: bool
    media_type: str

    @property
    def label(self) -> str:
        """For an ETag: each representation has its own."""
        form = "decoded" if self.decoded else "stored"
        return "-".join((form, "parts" if self.multipart else "one", self.media_type.split("/")[1]))


def frame_router(archive: Archive) -> APIRouter:
    """The frames of an instance, in the order asked."""
    router = APIRouter()
    router.add_api_route(
        f"{SUBJECTS['instance']}/frames/{{frames}}", _handler(archive), name="frames"
    )
    return router


def _handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    @lru_cache(maxsize=_TABLES)
    def table_of(stored: StoredInstance) -> FrameTable | None:
        with transaction(archive.engine) as connection:
            known = stored_frames(connection, stored.object_id)
        if known is not None:
            return decode_frames(known)
        fetch = _fetch(archive.store, stored.object_id)
        header = read_header(fetch, size=stored.size)
        if stored.TransferSyntaxUID in DEFLATED:
            fetch = Inflated(fetch, dataset_offset=header.dataset_offset)
        return frame_table(fetch, header)

    async def handle(request: Request) -> Response:
        subject = subject_of(request)
        sight = archive.sight(request)
        frames = frame_numbers(request.path_params["frames"])
        stored = await archive.ask(
            lambda: next(instances_of(archive.engine, subject, sight=sight), None)
        )
        if stored is None:
            raise NotHere("instance")
        chosen = _choose(accept_of(request), stored.TransferSyntaxUID, one=len(frames) == 1)
        etag = f'"{stored.object_id}-{chosen.label}"'
        headers = {"ETag": etag, "Vary": "Accept", "Cache-Control": CACHE}
        if unchanged(request, etag):
            return Response(status_code=304, headers=headers)
        bodies = await archive.transfers.run(
            lambda: _bodies(archive, stored, frames, chosen, table_of(stored))
        )
        syntax = stored.TransferSyntaxUID
        if chosen.decoded or not TRANSFER_SYNTAXES[syntax].encapsulated:
            syntax = EXPLICIT_VR_LITTLE_ENDIAN
        content_type = f"{chosen.media_type}; transfer-syntax={syntax}"
        if not chosen.multipart:
            chunks = await archive.transfers.begin(joined(next(bodies)))
            return Streamed(chunks, media_type=content_type, headers=headers)
        body = Multipart(chosen.media_type)
        chunks = await archive.transfers.begin(joined(_in_parts(body, content_type, bodies)))
        return Streamed(chunks, media_type=body.media_type, headers=headers)

    return handle


def _choose(accept: str | None, stored: str, *, one: bool) -> _Chosen:
    """Raises `NotAcceptable`."""
    syntax = TRANSFER_SYNTAXES.get(stored)
    encapsulated = syntax is not None and syntax.encapsulated
    lossy = syntax is not None and syntax.pixels is PixelEncoding.LOSSY
    own = _MEDIA_TYPE_OF.get(stored, OCTET_STREAM) if encapsulated else OCTET_STREAM
    if accept is None or not accept.strip():
        accept = f'{MULTIPART}; type="*/*"' if lossy else f'{MULTIPART}; type="{OCTET_STREAM}"'
    for media_range in parse_accept(accept):
        multipart = media_range.type in (MULTIPART, "multipart/*", "*/*")
        if not multipart and not one:
            continue
        root = (media_range.root or "*/*") if multipart else media_range.type
        wanted = media_range.syntax or (ANY_SYNTAX if root.endswith("/*") else None)
        if not encapsulated:
            native = wanted in (None, ANY_SYNTAX, EXPLICIT_VR_LITTLE_ENDIAN)
            if native and root in (OCTET_STREAM, "application/*", "*/*"):
                return _Chosen(multipart, False, OCTET_STREAM)
            continue
        as_stored = wanted in (ANY_SYNTAX, stored) or (wanted is None and root == own)
        if as_stored and root in (own, OCTET_STREAM, "image/*", "application/*", "*/*"):
            # Clients that ask for any octets look for the syntax in the part's header.
            return _Chosen(multipart, False, OCTET_STREAM if root == OCTET_STREAM else own)
        if wanted in (None, EXPLICIT_VR_LITTLE_ENDIAN) and root in (OCTET_STREAM, "*/*"):
            return _Chosen(multipart, True, OCTET_STREAM)
    parts = [f'{MULTIPART}; type="{OCTET_STREAM}"', f'{MULTIPART}; type="{own}"; transfer-syntax=*']
    raise NotAcceptable(dict.fromkeys(parts))


def _bodies(
    archive: Archive,
    stored: StoredInstance,
    frames: Sequence[int],
    chosen: _Chosen,
    table: FrameTable | None,
) -> Iterator[Iterator[bytes]]:
    """The bytes of each frame. Raises `NotHere`, `NotAcceptable`."""
    if table is not None and max(frames) > table.number:
        raise NotHere("frame")
    if chosen.decoded:
        chunks = archive.store.chunks(object_key(stored.object_id))
        try:
            made = archive.renditions.decoder.frames(chunks, size=stored.size, frames=frames)
        except NotDecoded as error:
            if error.reason == "no_such_frame":
                raise NotHere("frame") from error
            any_syntax = [f'{MULTIPART}; type="{OCTET_STREAM}"; transfer-syntax=*']
            raise NotAcceptable(any_syntax, "these frames cannot be decompressed") from error
        return (iter([frame]) for frame in made)
    if table is None:
        raise NotAcceptable((), "the frames of this instance cannot be told apart")
    syntax = stored.TransferSyntaxUID
    fetch = _fetch(archive.store, stored.object_id)
    if syntax in DEFLATED:
        fetch = Inflated(fetch, dataset_offset=stored.dataset_offset)
    swap = table.word if syntax == EXPLICIT_VR_BIG_ENDIAN else 1
    return (_read(fetch, table, frame, swap) for frame in frames)


def _fetch(store: ObjectStore, object_id: UUID) -> Fetch:
    return partial(store.read, object_key(object_id))


def _read(fetch: Fetch, table: FrameTable, frame: int, swap: int) -> Iterator[bytes]:
    if table.bits:
        offset = table.first[0]
        first = (frame - 1) * table.bits
        start, stop = first // 8, -(-(first + table.bits) // 8)
        octets = np.frombuffer(fetch(offset + start, stop - start), dtype=np.uint8)
        bits = np.unpackbits(octets, bitorder="little")[first % 8 :][: table.bits]
        yield np.packbits(bits, bitorder="little").tobytes()
        return
    for offset, length in table.pieces(frame):
        for position in range(0, length, _CHUNK):
            chunk = fetch(offset + position, min(_CHUNK, length - position))
            if swap > 1:
                chunk = np.frombuffer(chunk, dtype=f">u{swap}").astype(f"<u{swap}").tobytes()
            yield chunk


def _in_parts(
    body: Multipart, content_type: str, bodies: Iterator[Iterator[bytes]]
) -> Iterator[bytes]:
    for chunks in bodies:
        yield from body.part(content_type, chunks)
    yield body.end()

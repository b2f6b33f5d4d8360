"""Retrieve transactions (WADO-RS, PS3.18 10.4): studies, series and instances."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import chain, islice

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.query import parse_uids
from gantry_domain.sight import Sight
from gantry_query.archive import Archive
from gantry_query.failures import NotHere
from gantry_query.multipart import Multipart
from gantry_query.negotiation import (
    DICOM,
    MULTIPART,
    Accepted,
    Form,
    NotAcceptable,
    choose_instances,
    form_of,
)
from gantry_query.renditions import Rendition
from gantry_query.responses import Streamed, accept_of, unchanged
from gantry_query.streams import joined
from gantry_stores.index.search import (
    StoredInstance,
    Subject,
    instances_of,
    transfer_syntaxes_of,
)

_MOST_MEASURED = 2000

SUBJECTS = {
    "study": "/studies/{StudyInstanceUID}",
    "series": "/studies/{StudyInstanceUID}/series/{SeriesInstanceUID}",
    "instance": (
        "/studies/{StudyInstanceUID}/series/{SeriesInstanceUID}/instances/{SOPInstanceUID}"
    ),
}


def subject_of(request: Request) -> Subject:
    """What the path of a request names. Raises `BadQuery` for what is no UID."""
    uids = {
        keyword: parse_uids(request.path_params[keyword], parameter=keyword)[0]
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        if keyword in request.path_params
    }
    return Subject(**uids)


def kind_of(subject: Subject) -> str:
    """What a subject is called."""
    if subject.SOPInstanceUID is not None:
        return "instance"
    return "series" if subject.SeriesInstanceUID is not None else "study"


def retrieve_router(archive: Archive) -> APIRouter:
    """Instances as DICOM files, in several parts or one."""
    router = APIRouter()
    handle = _handler(archive)
    for kind, path in SUBJECTS.items():
        router.add_api_route(path, handle, name=f"retrieve {kind}")
    return router


def _handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        subject = subject_of(request)
        sight = archive.sight(request)
        one = subject.SOPInstanceUID is not None
        accepted = choose_instances(accept_of(request), one=one)
        found, held = await archive.ask(lambda: _look_up(archive, subject, sight))
        if not held:
            raise NotHere(kind_of(subject))
        forms = forms_for(held, accepted)
        etag = None
        if one:
            (stored,) = kept = list(found)
            found = iter(kept)
            etag = _etag(stored, forms, accepted)
            if unchanged(request, etag):
                return Response(status_code=304, headers={"ETag": etag, "Vary": "Accept"})
        if not accepted.multipart:
            return await single(archive, found, forms, etag=etag, encoding=accepted.encoding)
        body = Multipart(DICOM)
        headers = {"ETag": etag} if etag is not None else {}
        some = await archive.ask(lambda: list(islice(found, _MOST_MEASURED)))
        found = chain(some, found)
        length = _length(body, some, forms)
        if length is not None:
            headers["Content-Length"] = str(length)
        parts = _parts(archive, found, forms, accepted, body, one=one)
        chunks = await archive.transfers.begin(joined(parts))
        return Streamed(chunks, media_type=body.media_type, headers=headers)

    return handle


def _look_up(
    archive: Archive, subject: Subject, sight: Sight
) -> tuple[Iterator[StoredInstance], set[str]]:
    """The instances of a subject, and the transfer syntaxes that they are held in."""
    found = instances_of(archive.engine, subject, sight=sight)
    if subject.SOPInstanceUID is None:
        return found, transfer_syntaxes_of(archive.engine, subject, sight=sight)
    one = list(found)
    return iter(one), {stored.TransferSyntaxUID for stored in one}


def forms_for(held: set[str], accepted: Accepted) -> Mapping[str, Form]:
    """The form for each transfer syntax that is held. Raises `NotAcceptable`."""
    forms = {uid: form_of(uid, accepted) for uid in held}
    if None in forms.values():
        raise NotAcceptable(_available(uid for uid, form in forms.items() if form is None))
    return {uid: form for uid, form in forms.items() if form is not None}


def _available(syntaxes: Iterator[str]) -> list[str]:
    stored = [f'{MULTIPART}; type="{DICOM}"; transfer-syntax={uid}' for uid in sorted(syntaxes)]
    return [*stored, f'{MULTIPART}; type="{DICOM}"; transfer-syntax=*']


def _length(
    body: Multipart, found: Sequence[StoredInstance], forms: Mapping[str, Form]
) -> int | None:
    """The length of an answer of instances as they are stored; None where it is not known.

    A client shows by it how far it is, and the server need not frame and copy each piece.
    """
    if len(found) == _MOST_MEASURED or any(
        forms.get(stored.TransferSyntaxUID) is not Form.AS_STORED or stored.corrections
        for stored in found
    ):
        return None
    types = (f"{DICOM};transfer-syntax={stored.TransferSyntaxUID}" for stored in found)
    return body.length(zip(types, (stored.size for stored in found), strict=True))


def _parts(
    archive: Archive,
    found: Iterator[StoredInstance],
    forms: Mapping[str, Form],
    accepted: Accepted,
    body: Multipart,
    *,
    one: bool,
) -> Iterator[bytes]:
    for stored in found:
        # A syntax that came to the study since it was asked for its syntaxes goes as it is.
        form = forms.get(stored.TransferSyntaxUID) or form_of(stored.TransferSyntaxUID, accepted)
        rendition = archive.renditions.open(
            stored, form or Form.AS_STORED, encoding=accepted.encoding
        )
        if rendition is None:
            if one:
                raise _undecodable(stored)
            # Better as it is, and saying so, than a study without this instance.
            rendition = archive.renditions.open(stored, Form.AS_STORED)
            assert rendition is not None
        yield from body.part(_content_type(rendition), rendition.chunks)
    yield body.end()


def _etag(stored: StoredInstance, forms: Mapping[str, Form], accepted: Accepted) -> str:
    """Of one instance, which only corrections change: each representation has its own."""
    form = forms.get(stored.TransferSyntaxUID, Form.AS_STORED).value
    if form == Form.ENCODED.value:
        form = str(accepted.encoding)
    shape = "parts" if accepted.multipart else "one"
    corrected = f"-{stored.corrections[-1].id}" if stored.corrections else ""
    return f'"{stored.object_id}-{form}-{shape}{corrected}"'


async def single(
    archive: Archive,
    found: Iterator[StoredInstance],
    forms: Mapping[str, Form],
    *,
    etag: str | None = None,
    encoding: str | None = None,
) -> Response:
    """The first instance as a file. Raises `NotHere`, `NotAcceptable`."""

    def opened() -> Rendition:
        stored = next(found, None)
        if stored is None:
            raise NotHere("instance")
        form = forms.get(stored.TransferSyntaxUID, Form.AS_STORED)
        rendition = archive.renditions.open(stored, form, encoding=encoding)
        if rendition is None:
            raise _undecodable(stored)
        return rendition

    rendition = await archive.transfers.run(opened)
    chunks = await archive.transfers.begin(joined(rendition.chunks))
    headers = {"ETag": etag} if etag is not None else {}
    if rendition.size is not None:
        headers["Content-Length"] = str(rendition.size)
    return Streamed(chunks, media_type=_content_type(rendition), headers=headers)


def _undecodable(stored: StoredInstance) -> NotAcceptable:
    available = _available(iter([stored.TransferSyntaxUID]))
    return NotAcceptable(available, "this instance cannot be decompressed or encoded")


def _content_type(rendition: Rendition) -> str:
    return f"{DICOM};transfer-syntax={rendition.TransferSyntaxUID}"

"""Deleting studies, series and instances: hidden at once, purged later by the worker.

Not of the standard, but as other archives have it: DELETE of a resource that is retrieved.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gantry_archive.deleting import Subject, delete_subject
from gantry_query import metrics
from gantry_query.access import caller_of
from gantry_query.archive import Archive
from gantry_query.failures import NotHere
from gantry_query.retrieve_routes import SUBJECTS, kind_of, subject_of


def delete_router(archive: Archive) -> APIRouter:
    """The three levels; empty where clients may not delete, which is 405 then."""
    router = APIRouter()
    if archive.deletes:
        handle = _handler(archive)
        for kind, path in SUBJECTS.items():
            router.add_api_route(
                path, handle, methods=["DELETE"], status_code=204, name=f"delete {kind}"
            )
    return router


def _handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        named = subject_of(request)
        subject = Subject(
            sight=archive.sight(request),
            StudyInstanceUID=named.StudyInstanceUID,
            SeriesInstanceUID=named.SeriesInstanceUID,
            SOPInstanceUID=named.SOPInstanceUID,
            by=caller_of(request),
        )
        instances = await archive.ask(
            lambda: delete_subject(archive.store, archive.engine, subject)
        )
        if instances is None:
            raise NotHere(kind_of(named))
        metrics.DELETED.labels(kind_of(named)).inc(instances)
        return Response(status_code=204)

    return handle

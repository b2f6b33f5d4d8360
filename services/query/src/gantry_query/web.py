"""The web application: DICOMweb at /dicomweb, and each partition's at /p/NAME/dicomweb."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Scope

from gantry_domain.errors import GantryError
from gantry_query.access import Access, Gate
from gantry_query.archive import Archive
from gantry_query.bulk_routes import bulk_router
from gantry_query.delete_routes import delete_router
from gantry_query.delivery_routes import delivery_router
from gantry_query.door import Door, Origins
from gantry_query.event_routes import event_router
from gantry_query.failures import answer
from gantry_query.frame_routes import frame_router
from gantry_query.held_routes import held_router
from gantry_query.metadata_routes import metadata_router
from gantry_query.openapi_document import Json, openapi_document
from gantry_query.order_routes import order_router
from gantry_query.rendered_routes import rendered_router
from gantry_query.resend_routes import resend_router
from gantry_query.retrieve_routes import retrieve_router
from gantry_query.search_routes import search_router
from gantry_query.store_routes import store_router
from gantry_query.subscriber_routes import subscriber_router
from gantry_query.wado_uri import uri_router

HELD_PREFIXES = ("/held", "/p/{partition}/held")
PREFIXES = ("/dicomweb", "/p/{partition}/dicomweb")


Handler = Callable[[Request], Awaitable[Response]]


class _Direct(Route):
    """A route of DICOMweb below a prefix, straight to its handler.

    Handlers read requests and make answers themselves, and the routes are described for the OpenAPI
    document alone. What FastAPI does on the way to a handler took a third of a small search.
    """

    def __init__(self, route: APIRoute, prefix: str) -> None:
        super().__init__(f"{prefix}{route.path}", route.endpoint, name=route.name)
        self.methods = route.methods
        self._described = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As any route, and says which it is."""
        match, found = super().matches(scope)
        return match, {**found, "route": self._described} if found else found


def make_app(
    archive: Archive,
    *,
    origins: Sequence[str] = (),
    access: Access | None = None,
    pages: Mapping[str, Handler] = MappingProxyType({}),
) -> ASGIApp:
    """The application over an archive; `origins` are the web pages that may read its answers.

    `access` says who may do what; None: anyone everything. `pages`: what is served besides
    DICOMweb, by path.
    """
    # Interactive pages would load scripts from elsewhere.
    app = FastAPI(title="Gantry", docs_url=None, redoc_url=None, openapi_url=None)
    made = _routers(archive)
    routes = _routes(made)
    held = held_router(archive)
    held_routes = _routes([held])
    for prefix, held_prefix in zip(PREFIXES, HELD_PREFIXES, strict=True):
        app.router.routes.extend(_Direct(route, prefix) for route in routes)
        app.include_router(held, prefix=held_prefix)
        document = openapi_document({prefix: routes, held_prefix: held_routes})
        app.add_route(f"{prefix}/openapi.json", _answering(document))
    for path, handler in pages.items():
        app.add_route(path, handler)
    for error in (GantryError, HTTPException, Exception):
        app.add_exception_handler(error, answer)
    return Door(Gate(app, access=access) if access else app, origins=Origins(origins))


def dicomweb_routes(archive: Archive) -> list[APIRoute]:
    """The routes of DICOMweb, without their prefix."""
    return _routes(_routers(archive))


def _routers(archive: Archive) -> list[APIRouter]:
    routers = (
        search_router,
        metadata_router,
        bulk_router,
        frame_router,
        rendered_router,
        retrieve_router,
        store_router,
        delete_router,
        delivery_router,
        resend_router,
        event_router,
        subscriber_router,
        order_router,
        uri_router,
    )
    return [router(archive) for router in routers]


def _routes(made: Iterable[APIRouter]) -> list[APIRoute]:
    return [route for each in made for route in each.routes if isinstance(route, APIRoute)]


def _answering(document: Json) -> Handler:
    async def handle(_request: Request) -> Response:
        return JSONResponse(document)

    return handle

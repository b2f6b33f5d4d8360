"""`/conformance`: our conformance statement, as a page that prints, as Markdown or as JSON."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from gantry_domain.query import BadQuery
from gantry_runtime.settings import Settings

PATH = "/conformance"

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "markdown": "text/markdown; charset=utf-8",
    "json": "application/json",
}
_OUTLINES = ("n", "a")


def conformance_page(settings: Settings) -> Callable[[Request], Awaitable[Response]]:
    """Answers for `?format=html|markdown|json&outline=n|a`, of which the first are usual."""

    @cache  # what it is made of changes with the process alone
    def made(form: str, outline: str) -> str:
        # It brings pynetdicom, which processes of the web door do without until somebody asks.
        from gantry_domain.conformance.forms import rendered
        from gantry_query.own_web import whole_statement

        return rendered(whole_statement(settings), form=form, outline=outline)

    async def handle(request: Request) -> Response:
        form = _chosen(request, "format", tuple(_MEDIA_TYPES))
        outline = _chosen(request, "outline", _OUTLINES)
        text = await asyncio.to_thread(made, form, outline)
        # A page of text and one drawing: nothing in it is to run or to be loaded.
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(text, media_type=_MEDIA_TYPES[form], headers=headers)

    return handle


def _chosen(request: Request, name: str, known: tuple[str, ...]) -> str:
    value = request.query_params.get(name, known[0])
    if value not in known:
        raise BadQuery(name, f"it is one of {', '.join(known)}")
    return value

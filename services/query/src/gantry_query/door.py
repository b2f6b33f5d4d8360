"""The door: what every HTTP answer has in common. Metrics, and the headers browsers ask for."""

import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gantry_query import metrics
from gantry_query.failures import answer, route_of
from gantry_runtime.logs import get_logger

log = get_logger(__name__)

METHODS = ("GET", "POST", "DELETE", "OPTIONS")
# What a page of any origin may ask for; only those that are known by name may delete.
_OF_ANYBODY = ("GET", "POST", "OPTIONS")
_ALLOWED_HEADERS = "authorization, content-type, accept, range, if-none-match"
_EXPOSED_HEADERS = (
    "Content-Type, Content-Location, ETag, Warning, Content-Range, Location, Link, "
    "Retry-After, X-Total-Count"
)
_LOOPBACK = ("http://localhost", "http://127.0.0.1", "http://[::1]")


class Origins:
    """Which web pages of other origins may read answers (the Fetch standard's CORS).

    `*` is any. Pages that this machine itself serves over loopback always may.
    """

    def __init__(self, configured: Sequence[str]) -> None:
        self._configured = frozenset(configured)

    def allowed(self, origin: str) -> bool:
        """Whether a page of this origin may."""
        return "*" in self._configured or self.known(origin)

    def known(self, origin: str) -> bool:
        """Whether this origin is one of those that are named, or of this machine."""
        if origin in self._configured:
            return True
        host, colon, port = origin.rpartition(":")
        return origin in _LOOPBACK or (bool(colon) and port.isdigit() and host in _LOOPBACK)


class Door:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; an error that nobody named becomes an answer here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = sent = 0
        finished = False
        headers = self._headers(Headers(scope=scope).get("origin", ""))

        async def observed(message: Message) -> None:
            nonlocal status, sent, finished
            if message["type"] == "http.response.start":
                status = message["status"]
                own = MutableHeaders(raw=message["headers"])
                for name, value in headers.items():
                    own[name] = value
                own.add_vary_header("Origin")
                message["headers"] = own.raw
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                finished = not message.get("more_body", False)
            await send(message)

        metrics.ACTIVE.inc()
        try:
            if scope["method"] == "OPTIONS":
                await Response(status_code=204)(scope, receive, observed)
            else:
                await self._app(scope, receive, observed)
        except Exception as error:
            if not status:
                await answer(Request(scope), error)(scope, receive, observed)
            elif not finished:
                # The server cuts a connection whose answer is not complete, so the client knows.
                log.error("answer_broken", route=route_of(Request(scope)), exc_info=error)
        finally:
            metrics.ACTIVE.dec()
            route = route_of(Request(scope))
            method = scope["method"] if scope["method"] in METHODS else "other"
            metrics.REQUESTS.labels(route, method, str(status)).inc()
            metrics.SECONDS.labels(route).observe(time.perf_counter() - started)
            metrics.SENT_BYTES.labels(route).inc(sent)

    def _headers(self, origin: str) -> dict[str, str]:
        headers = {
            "Cross-Origin-Resource-Policy": "cross-origin",
            "X-Content-Type-Options": "nosniff",
        }
        if origin and self._origins.allowed(origin):
            methods = METHODS if self._origins.known(origin) else _OF_ANYBODY
            headers |= {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Methods": ", ".join(methods),
                "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
                "Access-Control-Expose-Headers": _EXPOSED_HEADERS,
                "Access-Control-Max-Age": "86400",
            }
        return headers

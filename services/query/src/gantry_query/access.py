"""Who may use the web door, and for what: clients with bearer tokens, or users of a proxy.

A token comes in `Authorization: Bearer` (RFC 6750) and is compared by its hash. A proxy that signs
users in is believed by its address, and names the user in a header.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gantry_domain.entries import DEFAULT_PARTITION
from gantry_query import metrics
from gantry_query.addresses import comes_from
from gantry_query.failures import answer
from gantry_runtime.auth_section import Grant
from gantry_runtime.logs import get_logger
from gantry_runtime.rarely import Rarely
from gantry_runtime.settings import Settings

log = get_logger(__name__)

_REALM = 'Bearer realm="gantry"'
_READING = frozenset({"GET", "HEAD"})
_PARTITIONED = "/p/"
_ORDERS = "/dicomweb/orders"
_HELD = "held"
_FORWARDING = re.compile(r"/dicomweb/(deliveries|destinations|subscribers)(/|$)")
# They are those of all partitions.
_OF_ALL = re.compile(r"/dicomweb/(destinations|subscribers)/")
_CALLER = "gantry.caller"
NOBODY_IN_PARTICULAR = "anyone on loopback"
_SEES_HELD = "gantry.sees_held"


class Right(StrEnum):
    """What a request needs; the scopes of a token. Who has `review` reads held studies too."""

    READ = "read"
    REVIEW = "review"
    DECIDE = "decide"
    STORE = "store"
    DELETE = "delete"
    ORDER = "order"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls, and what he may do: in `partitions` alone, None: in all."""

    name: str
    rights: frozenset[Right]
    partitions: frozenset[str] | None = None

    @classmethod
    def granted(cls, name: str, grant: Grant) -> "Client":
        """As the configuration says."""
        partitions = None if grant.partitions is None else frozenset(grant.partitions)
        return cls(name, frozenset(map(Right, grant.scopes)), partitions)


class Refused(HTTPException):
    """A request that its caller has no right to; `reason` is one of a few words."""

    def __init__(self, status: int, reason: str, text: str, challenge: str | None = None) -> None:
        super().__init__(status, text, {"WWW-Authenticate": challenge} if challenge else None)
        self.reason = reason


class Access(Protocol):
    """Finds out who calls."""

    def client(self, headers: Headers, host: str | None) -> Client:
        """Who sent a request with these headers from this address. Raises `Refused`."""


class TokenAccess:
    """Clients that show a token."""

    def __init__(self, clients: Iterable[tuple[Client, Sequence[str]]]) -> None:
        """The clients, each with its tokens."""
        self._clients = {_digest(token): client for client, tokens in clients for token in tokens}

    def client(self, headers: Headers, host: str | None) -> Client:
        """See `Access`."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.casefold() != "bearer" or not token:
            raise Refused(401, "no_token", "a bearer token is needed", _REALM)
        client = self._clients.get(_digest(token.strip()))
        if client is None:
            challenge = f'{_REALM}, error="invalid_token"'
            raise Refused(401, "wrong_token", "this token is not known", challenge)
        return client


class ProxyAccess:
    """Users whom a trusted proxy has signed in."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        *,
        others: Grant | None,
        header: str,
        proxies: Sequence[IPv4Network | IPv6Network],
    ) -> None:
        """`header` names the user in requests from `proxies`; `others` is for unlisted ones."""
        self._clients = clients
        self._others = others
        self._header = header
        self._proxies = proxies

    def client(self, headers: Headers, host: str | None) -> Client:
        """See `Access`."""
        if not comes_from(host, self._proxies):
            raise Refused(403, "no_proxy", "requests are taken from the proxy alone")
        names = [name.strip() for name in headers.getlist(self._header)]
        # Two may be one that the user wrote and one of the proxy.
        if len(names) != 1 or not names[0]:
            raise Refused(401, "no_user", "the proxy does not say who asks")
        if names[0] in self._clients:
            return self._clients[names[0]]
        if self._others is None:
            raise Refused(403, "unknown_user", "this user may do nothing here")
        return Client.granted(names[0], self._others)


def access_of(settings: Settings) -> Access | None:
    """The access that the settings describe; None: anyone may do anything.

    :raises ConfigurationError: clients and tokens do not fit together.
    """
    auth, grants = settings.auth, settings.web_clients
    clients = {name: Client.granted(name, grant) for name, grant in grants.items()}
    if auth is not None and auth.kind == "token":
        return TokenAccess(
            (client, [token.get_secret_value() for token in settings.http_tokens[name]])
            for name, client in clients.items()
        )
    if auth is not None and auth.kind == "proxy":
        return ProxyAccess(
            clients,
            others=auth.others,
            header=auth.user_header,
            proxies=settings.http.trusted_proxies,
        )
    return None


class Gate:
    """ASGI middleware: lets through what the caller has a right to."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._access = access
        self._rarely = Rarely()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or answers 401 or 403."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except Refused as refused:
                metrics.REFUSED.labels(refused.reason).inc()
                await answer(Request(scope), refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        caller = scope.get("client")
        client = self._access.client(Headers(scope=scope), caller[0] if caller else None)
        refused = _refusal(client, scope)
        if refused is None:
            scope[_CALLER] = client.name
            scope[_SEES_HELD] = Right.REVIEW in client.rights
            return
        left_out = self._rarely.due(client.name, refused.reason)
        if left_out is not None:
            log.warning(
                "web_client_refused", client=client.name, reason=refused.reason, left_out=left_out
            )
        raise refused


def caller_of(request: Request) -> str:
    """The name of the client that sent a request which was let through."""
    return str(request.scope.get(_CALLER, NOBODY_IN_PARTICULAR))


def sees_held(request: Request) -> bool:
    """Whether whoever asks may see studies that are held out of sight."""
    return bool(request.scope.get(_SEES_HELD, False))


def _refusal(client: Client, scope: Scope) -> Refused | None:
    right = Right.DELETE if scope["method"] == "DELETE" else Right.STORE
    if scope["method"] in _READING:
        right = Right.READ
    elif scope["path"].endswith(_ORDERS):
        right = Right.ORDER
    elif _FORWARDING.search(scope["path"]):
        right = Right.FORWARD
    if _is_held(scope["path"]):
        right = Right.REVIEW if right is Right.READ else Right.DECIDE
    if right not in client.rights:
        challenge = f'{_REALM}, error="insufficient_scope", scope="{right}"'
        return Refused(403, "scope", f"this needs the right to {right}", challenge)
    if client.partitions is not None and right is Right.FORWARD and _OF_ALL.search(scope["path"]):
        return Refused(403, "partition", "there is no right to what concerns all partitions")
    if client.partitions is not None and _partition(scope["path"]) not in client.partitions:
        return Refused(403, "partition", "there is no right to this partition")
    return None


def _is_held(path: str) -> bool:
    """Whether it is within /held or /p/NAME/held."""
    parts = path.split("/")
    return _HELD in (parts[3:4] if path.startswith(_PARTITIONED) else parts[1:2])


def _partition(path: str) -> str:
    if not path.startswith(_PARTITIONED):
        return DEFAULT_PARTITION
    return path.removeprefix(_PARTITIONED).partition("/")[0]


def _digest(token: str) -> bytes:
    # Looked up by the hash, the time of a comparison tells nothing of a token.
    return hashlib.sha256(token.encode()).digest()

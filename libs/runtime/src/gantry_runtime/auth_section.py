"""What the configuration says of who may use the web door, and what each may do there."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from gantry_domain.errors import ConfigurationError
from gantry_runtime.section import Section
from gantry_runtime.values import PartitionName

_SHORTEST_TOKEN = 16
# RFC 6750 2.1: what can follow `Bearer` in a header.
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/-]{{{_SHORTEST_TOKEN},}}=*", re.ASCII)


def _check_header(value: str) -> str:
    # RFC 9110 5.1; the names that the web door itself reads cannot say who calls.
    if not re.fullmatch(r"[A-Za-z0-9-]+", value, re.ASCII):
        raise ValueError(f"{value!r} is no name of a header, such as X-Forwarded-User")
    return value


class Grant(Section):
    """What a client may do."""

    scopes: Annotated[
        tuple[Literal["read", "review", "decide", "store", "delete", "order", "forward"], ...],
        Field(strict=False, min_length=1),
    ] = ("read",)
    partitions: Annotated[tuple[PartitionName, ...] | None, Field(strict=False, min_length=1)] = (
        None
    )
    """In these alone; None: in all."""

    @field_validator("scopes")
    @classmethod
    def _review_is_reading(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "review" in scopes and "read" not in scopes:
            raise ValueError("review is of no use without read")
        if "decide" in scopes and "review" not in scopes:
            raise ValueError("decide is of no use without review")
        return scopes


class Auth(Section):
    """How clients of the web door say who they are: by a bearer token, or through a proxy."""

    kind: Literal["none", "token", "proxy"]
    clients: dict[str, Grant] = Field(default_factory=dict)
    """By the name of a token, or of a user; empty with tokens: each may read everything."""
    others: Grant | None = None
    """Users of the proxy who are not among the clients; None: they may do nothing."""
    user_header: Annotated[str, AfterValidator(_check_header)] = "X-Forwarded-User"
    """In which the proxy names the user."""

    @model_validator(mode="after")
    def _each_key_has_a_use(self) -> Self:
        useful = {"none": {"kind"}, "token": {"kind", "clients"}}.get(self.kind)
        for key in sorted(self.model_fields_set):
            if useful is not None and key not in useful:
                raise ValueError(f"{key} is of no use with the kind {self.kind}")
        if self.kind == "proxy" and not self.clients and self.others is None:
            raise ValueError("nobody may do anything: write clients, or others")
        return self

    def granted(self, tokens: Mapping[str, object]) -> Mapping[str, Grant]:
        """What each client may do who can sign in; `tokens` are by the client's name.

        :raises ConfigurationError: there is a client without a token, or a token without a client.
        """
        if self.kind != "token":
            if tokens:
                raise ConfigurationError(
                    "GANTRY_HTTP_TOKENS is set, and would be of no use: write `auth: token`"
                )
            return self.clients
        if not tokens:
            raise ConfigurationError("auth: nobody has a token: set GANTRY_HTTP_TOKENS")
        clients = self.clients or dict.fromkeys(tokens, Grant())
        for name in sorted(clients.keys() ^ tokens.keys()):
            missing = (
                "has no token in GANTRY_HTTP_TOKENS"
                if name in clients
                else ("has a token in GANTRY_HTTP_TOKENS, but is not among auth.clients")
            )
            raise ConfigurationError(f"auth: the client {name} {missing}")
        return clients


def expand_kind(value: Any) -> Any:
    """``token`` alone stands for that kind and nothing else."""
    return {"kind": value} if isinstance(value, str) else value


def parse_tokens(text: str) -> dict[str, tuple[SecretStr, ...]]:
    """The tokens of each client from a JSON object; two while one replaces the other.

    :raises ConfigurationError: without showing any of it.
    """
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if not isinstance(read, dict) or not read:
        raise ConfigurationError(
            'GANTRY_HTTP_TOKENS must be a JSON object such as {"viewer": "a long random text"}'
        )
    found: dict[str, tuple[SecretStr, ...]] = {}
    seen: set[str] = set()
    for name, value in read.items():
        tokens = value if isinstance(value, list) else [value]
        if not name or not tokens or not all(_is_token(each) for each in tokens):
            raise ConfigurationError(
                f"GANTRY_HTTP_TOKENS: the token of {name or 'a client without a name'} must have "
                f"at least {_SHORTEST_TOKEN} characters: letters, digits and -._~+/"
            )
        if len({*tokens}) < len(tokens) or not seen.isdisjoint(tokens):
            raise ConfigurationError(f"GANTRY_HTTP_TOKENS: a token of {name} is there twice")
        seen.update(tokens)
        found[name] = tuple(map(SecretStr, tokens))
    return found


def _is_token(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None

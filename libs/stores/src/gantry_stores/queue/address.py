"""The broker's URL as the settings write it, and what kombu and redis-py make of it.

redis://host:6379/0                          redis+socket:///path
rediss://host:6380/0?ca_file=/etc/ca.pem     with TLS; without ca_file the system's authorities
sentinel://one:26379,two:26379/0?master=name              where Sentinel says that Redis is
sentinel://one:26379,two:26379/0?master=name&tls=yes      the same, with TLS to all of them
"""

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from gantry_domain.errors import ConfigurationError

_KNOWN = {
    "redis": frozenset[str](),
    "redis+socket": frozenset({"virtual_host"}),
    "rediss": frozenset({"ca_file"}),
    "sentinel": frozenset({"master", "ca_file", "tls"}),
}
_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """What a kombu `Connection` is given: the URL, with its password, and options."""

    url: str = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    """More options for its transport."""
    tls: dict[str, Any] | None = None
    """How TLS is spoken; None: not at all."""


def broker_address(url: str) -> BrokerAddress:
    """Reads a URL. Raises `ConfigurationError` for what it does not know."""
    parts = urlsplit(url)
    known = _KNOWN.get(parts.scheme)
    if known is None:
        raise ConfigurationError("the broker's URL must begin with redis, rediss or sentinel")
    told = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    for key in told:
        if key not in known:
            raise ConfigurationError(f"the broker's URL: {key} means nothing for {parts.scheme}")
    bare = parts._replace(query="").geturl() if parts.scheme != "redis+socket" else url
    if parts.scheme == "rediss":
        # kombu takes the parameters of TLS apart from the URL.
        return BrokerAddress(bare, tls=_tls(told))
    if parts.scheme != "sentinel":
        return BrokerAddress(bare)
    return _sentinel(parts.netloc, parts.path.strip("/") or "0", told)


def _sentinel(netloc: str, database: str, told: dict[str, str]) -> BrokerAddress:
    if "master" not in told:
        raise ConfigurationError("the broker's URL: write the name of the master, ?master=name")
    tls = _tls(told) if told.get("tls") == "yes" else None
    login, _, hosts = netloc.rpartition("@")
    _, _, password = login.partition(":")
    login = f"{login}@" if login else ""
    urls = [
        f"sentinel://{login}{host if ':' in host else f'{host}:{_SENTINEL_PORT}'}/{quote(database)}"
        for host in hosts.split(",")
    ]
    options: dict[str, Any] = {"master_name": told["master"]}
    asking: dict[str, Any] = {"socket_timeout": 3, "socket_connect_timeout": 3}
    if password:
        asking["password"] = unquote(password)
    if tls:
        asking |= {"ssl": True, **tls}
    return BrokerAddress(";".join(urls), options | {"sentinel_kwargs": asking}, tls=tls)


def _tls(told: dict[str, str]) -> dict[str, Any]:
    tls: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    if "ca_file" in told:
        tls["ssl_ca_certs"] = told["ca_file"]
    return tls

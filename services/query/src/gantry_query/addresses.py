"""The address by which a client reaches us, for the URLs that answers hold.

It is the configured one; else what a trusted proxy says (`Forwarded`, RFC 7239, or
`X-Forwarded-*`); else what the client itself wrote in `Host`. Such headers of strangers are not
believed.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import quote

from starlette.requests import Request

from gantry_stores.index.search import Subject

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PAIR = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"([^"\\]*)"|([^\s;,"]*))\s*')
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


class PublicAddress:
    """Where clients find us: `https://pacs.example/gantry` for instance."""

    def __init__(
        self, configured: str | None, trusted_proxies: Sequence[IPv4Network | IPv6Network]
    ) -> None:
        self._configured = configured.rstrip("/") if configured else None
        self._trusted = tuple(trusted_proxies)

    def base(self, request: Request) -> str:
        """The URL below which `/studies` lies, in the partition that the request is about."""
        partition = request.path_params.get("partition")
        inner = f"/p/{partition}/dicomweb" if partition is not None else "/dicomweb"
        return f"{self._configured or self._told(request)}{inner}"

    def _told(self, request: Request) -> str:
        scheme, host, prefix = request.url.scheme, request.headers.get("host", ""), ""
        if self._is_proxy(request):
            forwarded = _forwarded(request.headers.get("forwarded", ""))
            x_forwarded = {
                name: request.headers.get(f"x-forwarded-{name}", "").split(",")[0].strip()
                for name in ("proto", "host", "prefix")
            }
            scheme = forwarded.get("proto") or x_forwarded["proto"] or scheme
            host = forwarded.get("host") or x_forwarded["host"] or host
            prefix = x_forwarded["prefix"].rstrip("/")
        if scheme not in ("http", "https"):
            scheme = request.url.scheme
        if not _HOST.fullmatch(host):
            address, port = request.scope.get("server") or ("localhost", None)
            host = f"[{address}]" if ":" in address else address
            host = f"{host}:{port}" if port else host
        return f"{scheme}://{host}{prefix if _PREFIX.fullmatch(prefix) else ''}"

    def _is_proxy(self, request: Request) -> bool:
        return comes_from(request.client.host if request.client else None, self._trusted)


def comes_from(host: str | None, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether a caller's address is in one of these networks; None: it has none."""
    if host is None or not networks:
        return False
    try:
        caller = ip_address(host)
    except ValueError:
        return False
    return any(caller in network for network in networks)


def _forwarded(header: str) -> dict[str, str]:
    """The pairs of the first element of `Forwarded`: what the outermost proxy saw."""
    first = header.split(",", maxsplit=1)[0]
    pairs = (_PAIR.fullmatch(part) for part in first.split(";"))
    return {pair[1].lower(): pair[2] or pair[3] or "" for pair in pairs if pair}


def resource(base: str, subject: Subject) -> str:
    """The URL of a study, series or instance below `base`."""
    parts = [f"{base}/studies/{quote(subject.StudyInstanceUID, safe='')}"]
    if subject.SeriesInstanceUID is not None:
        parts.append(f"series/{quote(subject.SeriesInstanceUID, safe='')}")
    if subject.SOPInstanceUID is not None:
        parts.append(f"instances/{quote(subject.SOPInstanceUID, safe='')}")
    return "/".join(parts)

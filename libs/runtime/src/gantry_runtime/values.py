"""The value types of the configuration file: durations, sizes, AE titles, networks, addresses."""

import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, PlainValidator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d+)\s*(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)")
_BYTES: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KiB": 2**10,
    "MB": 10**6,
    "MiB": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
    "TB": 10**12,
    "TiB": 2**40,
}

# PS3.3 C.12.1.1.2, the defined terms of Specific Character Set.
CHARACTER_SETS = frozenset(
    [f"ISO_IR {n}" for n in (6, 13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 192, 203)]
    + [
        f"ISO 2022 IR {n}"
        for n in (6, 13, 58, 87, 100, 101, 109, 110, 126, 127, 138, 144, 148, 149, 159, 166, 203)
    ]
    + ["GB18030", "GBK"]
)


def parse_duration(value: object) -> timedelta:
    """A positive time from text such as ``500ms``, ``30s``, ``5m``, ``1h`` or ``2d``."""
    if isinstance(value, timedelta):
        duration = value
    else:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError("write a duration with its unit, such as 500ms, 30s, 5m, 1h or 2d")
        duration = timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    if not timedelta(0) < duration <= timedelta(days=3650):
        raise ValueError("a duration is more than zero and at most ten years")
    return duration


def parse_size(value: object) -> int:
    """A positive number of bytes from text such as ``8GiB``, or a plain number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"write a size such as 8GiB; units are {', '.join(_BYTES)}")
        size = int(match[1]) * _BYTES[match[2]]
    if size <= 0:
        raise ValueError("a size is more than zero")
    return size


def parse_minimum_rate(value: object) -> int:
    """The fewest bytes a second, written as a size; 0 is any."""
    return 0 if type(value) is int and value == 0 else parse_size(value)


def parse_largest_pdu(value: object) -> int:
    """The largest PDU that a peer may send, written as a size; 0 is unlimited (PS3.8 Annex D.1)."""
    size = 0 if type(value) is int and value == 0 else parse_size(value)
    if size and not 4096 <= size <= 16 * 2**20:
        raise ValueError("write 4KiB to 16MiB, or 0 for unlimited")
    return size


def check_ae_title(value: str) -> str:
    """PS3.5 table 6.2-1, AE: 1 to 16 characters of ISO 646, no backslash, no control character.

    Spaces at the ends are not significant there; here they would only hide a difference.
    """
    if not 1 <= len(value) <= 16:
        raise ValueError(f"an AE title has 1 to 16 characters, this has {len(value)}")
    if not all(" " <= c <= "~" and c != "\\" for c in value):
        raise ValueError("an AE title has only printable ASCII characters and no backslash")
    if value != value.strip(" "):
        raise ValueError("an AE title neither begins nor ends with a space")
    return value


def check_uid(value: str) -> str:
    """PS3.5 9.1: components of digits without leading zeros, at most 64 characters."""
    if len(value) > 64 or not re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", value, re.ASCII):
        raise ValueError(f"{value!r} is no UID; write one such as 1.2.840.10008.5.1.4.1.1.2")
    return value


def check_partition(value: str) -> str:
    """A partition's name is part of URLs: small letters, digits and hyphens."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", value):
        raise ValueError("a partition has 1 to 64 small letters, digits or hyphens")
    return value


def check_charset(value: str) -> str:
    """One or more defined terms of Specific Character Set, separated by a backslash."""
    for term in value.split("\\"):
        if term not in CHARACTER_SETS:
            raise ValueError(
                f"{term!r} is no defined term of Specific Character Set (PS3.3 C.12.1.1.2); "
                "for example ISO_IR 192 (UTF-8), GB18030, ISO_IR 100"
            )
    return value


def check_timezone(value: str) -> str:
    """A name of the IANA time zone database."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{value!r} is no time zone; write one such as Asia/Hong_Kong") from error
    return value


def check_ip_address(value: str) -> str:
    """An address to listen on. A host name is refused: it may mean several addresses."""
    try:
        ip_address(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is no IP address; write one such as 0.0.0.0") from error
    return value


def check_host_and_port(value: str) -> str:
    """``host:port``, with brackets round an IPv6 address."""
    split_host_and_port(value)
    return value


def split_host_and_port(value: str) -> tuple[str, int]:
    """The two parts of ``host:port`` or ``[address]:port``; a ValueError says what is wrong."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:\[\]/@]+)):(\d{1,5})", value)
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise ValueError(f"{value!r} is not host:port, such as pacs.example:11112")
    return match[1] or match[2], int(match[3])


def check_web_address(value: str) -> str:
    """The start of a URL, up to and without a slash at its end."""
    if not re.fullmatch(r"https?://[A-Za-z0-9._~:\[\]-]+(?:/[A-Za-z0-9._~-]+)*", value):
        raise ValueError(
            f"{value!r} is not the start of a web address, such as https://pacs.example/gantry"
        )
    return value


def check_web_origin(value: str) -> str:
    """Scheme, host and port of a web page, or `*`."""
    if value != "*" and not re.fullmatch(r"https?://[a-z0-9.\[\]:-]+", value):
        raise ValueError(f"{value!r} is no origin of a web page, such as https://viewer.example")
    return value


def parse_network(value: object) -> IPv4Network | IPv6Network:
    """One address or a network such as ``10.1.2.0/24``."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError("write an address or a network such as 10.1.2.0/24, in quotes if need be")
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}; write an address or a network such as 10.1.2.0/24") from error


def expand_shorthand(value: Any) -> Any:
    """``accept`` or ``refuse`` alone stands for that answer to everything."""
    names = ("store", "query", "worklist")
    return dict.fromkeys(names, value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
MinimumRate = Annotated[int, BeforeValidator(parse_minimum_rate)]
LargestPDU = Annotated[int, BeforeValidator(parse_largest_pdu)]
AETitle = Annotated[str, AfterValidator(check_ae_title)]
UniqueIdentifier = Annotated[str, AfterValidator(check_uid)]
PartitionName = Annotated[str, AfterValidator(check_partition)]
CharacterSet = Annotated[str, AfterValidator(check_charset)]
TimeZoneName = Annotated[str, AfterValidator(check_timezone)]
IPAddress = Annotated[str, AfterValidator(check_ip_address)]
HostAndPort = Annotated[str, AfterValidator(check_host_and_port)]
WebAddress = Annotated[str, AfterValidator(check_web_address)]
WebOrigin = Annotated[str, AfterValidator(check_web_origin)]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(parse_network)]

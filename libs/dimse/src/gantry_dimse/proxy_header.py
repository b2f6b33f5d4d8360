"""Reads the header by which a proxy names the caller behind it: PROXY protocol, versions 1 and 2.

version 1 | PROXY TCP4 192.0.2.1 192.0.2.2 56324 11112 CR LF
version 2 | signature 12 | version, command 1 | family 1 | length 2 | addresses ... | TLVs ...

Nothing is read beyond the header: what follows belongs to the caller. A proxy that is configured
must send one, so that nobody can leave it out or write it himself.
"""

import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct

from gantry_dimse.connection import Connection, ConnectionLost
from gantry_dimse.observer import Fault
from gantry_dimse.request import NoRequest

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIRST_WORD = b"PROXY "
_LONGEST_LINE = 107

HEAD = Struct(">BBH")
_VERSION = 0x20
_LOCAL = _VERSION
PROXY = _VERSION | 1
INET = 0x11
INET6 = 0x21
# Two addresses and two ports.
ADDRESSES = {INET: 12, INET6: 36}
# Whatever a proxy adds: a certificate fits.
_LONGEST_BODY = 4096


def read_proxy_header(connection: Connection, *, timeout: float) -> str | None:
    """The caller's address; None where the proxy speaks for itself, as to see whether we live.

    Raises `NoRequest`.
    """
    deadline = time.monotonic() + timeout
    start = _exactly(connection, len(SIGNATURE), deadline)
    if start == SIGNATURE:
        return _version_2(connection, deadline)[0]
    if start.startswith(_FIRST_WORD):
        return _version_1(connection, start, deadline)
    raise NoRequest(Fault.NOT_DICOM)


def read_version_2(connection: Connection, *, timeout: float) -> tuple[str | None, bytes]:
    """The caller's address, and the header after its signature. Raises `NoRequest`."""
    deadline = time.monotonic() + timeout
    if _exactly(connection, len(SIGNATURE), deadline) != SIGNATURE:
        raise NoRequest(Fault.NOT_DICOM)
    return _version_2(connection, deadline)


def _version_1(connection: Connection, line: bytes, deadline: float) -> str | None:
    while not line.endswith(b"\r\n"):
        if len(line) >= _LONGEST_LINE:
            raise NoRequest(Fault.NOT_DICOM)
        line += _exactly(connection, 1, deadline)
    words = line.decode("latin-1").split()
    if words[1:2] == ["UNKNOWN"]:
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise NoRequest(Fault.NOT_DICOM)
    try:
        return str(ip_address(words[2]))
    except ValueError:
        raise NoRequest(Fault.NOT_DICOM) from None


def _version_2(connection: Connection, deadline: float) -> tuple[str | None, bytes]:
    head = _exactly(connection, HEAD.size, deadline)
    command, family, length = HEAD.unpack(head)
    if command not in (_LOCAL, PROXY) or length > _LONGEST_BODY:
        raise NoRequest(Fault.NOT_DICOM)
    body = _exactly(connection, length, deadline)
    if command == _LOCAL:
        return None, head + body
    if length < ADDRESSES.get(family, _LONGEST_BODY + 1):
        raise NoRequest(Fault.NOT_DICOM)
    host = IPv4Address(body[:4]) if family == INET else IPv6Address(body[:16])
    return str(host), head + body


def _exactly(connection: Connection, size: int, deadline: float) -> bytes:
    view = memoryview(bytearray(size))
    received = 0
    while received < size:
        if time.monotonic() >= deadline:
            raise NoRequest(Fault.SILENT)
        try:
            received += connection.receive_into(view[received:], more_expected=False)
        except ConnectionLost:
            raise NoRequest(Fault.LOST) from None
    return bytes(view)

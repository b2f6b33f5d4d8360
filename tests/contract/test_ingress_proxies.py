"""Behind a proxy that speaks the PROXY protocol: the caller's address is the one that it names."""

import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from gantry_dimse.observer import Fault, Peer
from gantry_dimse.partners import Caller, Partners
from gantry_testkit.door import (
    ABORT_BY_USER,
    Door,
    association_request,
    exchange,
    receive,
)
from gantry_testkit.waiting import until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.fixture
def door(open_door: Callable[..., Door]) -> Door:
    partners = Partners(
        own_titles=["GANTRY"],
        callers=[Caller("RAW", (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")), "main")],
        accept_unknown=False,
    )
    return open_door(proxies=[ip_network("127.0.0.0/8")], admit=partners.admit, acse_timeout=1.5)


def version_2(host: str, *, command: int = 0x21, more: bytes = b"") -> bytes:
    if ":" in host:
        family, addresses = 0x21, IPv6Address(host).packed + IPv6Address("::1").packed
    else:
        family, addresses = 0x11, IPv4Address(host).packed + IPv4Address("127.0.0.1").packed
    body = addresses + struct.pack(">HH", 50000, 11112) + more
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


NAMED = {
    "version 1": (b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 11112\r\n", "192.0.2.7"),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::7 ::1 50000 11112\r\n", "2001:db8::7"),
    "version 2": (version_2("192.0.2.8"), "192.0.2.8"),
    "version 2, IPv6": (version_2("2001:db8::8"), "2001:db8::8"),
    "version 2 and more": (version_2("192.0.2.9", more=b"\x04\0\3abc"), "192.0.2.9"),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("whole", [True, False])
def test_the_caller_is_whom_the_proxy_names(door: Door, name: str, whole: bool) -> None:
    header, host = NAMED[name]
    with door.connect() as sock:
        if whole:
            sock.sendall(header + association_request())
        else:
            for n in range(len(header)):
                sock.sendall(header[n : n + 1])
            sock.sendall(association_request())
        assert sock.recv(1, socket.MSG_WAITALL) == b"\2"
    until(lambda: door.notes.opened == [Peer("RAW", "GANTRY", host)])


def test_an_address_outside_of_its_network_is_rejected(door: Door) -> None:
    header = b"PROXY TCP4 198.51.100.1 127.0.0.1 50000 11112\r\n"
    assert exchange(door, header + association_request())[:10] == bytes(
        (3, 0, 0, 0, 0, 4, 0, 1, 1, 3)
    )
    assert door.notes.rejections[0][0].host == "198.51.100.1"


@pytest.mark.parametrize(
    "header",
    [b"PROXY UNKNOWN\r\n", version_2("192.0.2.1", command=0x20)],
    ids=["unknown", "local"],
)
def test_a_proxy_that_speaks_for_itself(door: Door, header: bytes) -> None:
    exchange(door, header + association_request())
    assert door.notes.rejections[0][0].host == "127.0.0.1"


@pytest.mark.parametrize(
    "content",
    [
        association_request(),
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
        b"PROXY TCP4 300.0.2.7 127.0.0.1 50000 11112\r\n",
        b"PROXY TCP4 192.0.2.7\r\nxxxxxxx",
        SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x31\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(1000),
    ],
)
def test_without_a_good_header_nobody_is_let_in(door: Door, content: bytes) -> None:
    assert exchange(door, content) == ABORT_BY_USER
    assert door.notes.faults == [Fault.NOT_DICOM]
    assert door.notes.opened == []


def test_a_header_that_does_not_come(door: Door) -> None:
    with door.connect() as sock:
        sock.sendall(SIGNATURE)
        assert receive(sock) == b""
    assert door.notes.faults == [Fault.SILENT]


def test_a_stranger_cannot_name_himself(open_door: Callable[..., Door]) -> None:
    door = open_door(proxies=[ip_network("192.0.2.0/24")])
    header = b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 11112\r\n"
    assert exchange(door, header + association_request()) == ABORT_BY_USER
    assert door.notes.faults == [Fault.NOT_DICOM]
    assert door.echo() == 0

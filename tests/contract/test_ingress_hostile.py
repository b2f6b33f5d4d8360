"""Hostile and odd input to the ingress as it runs: no memory is lost, and the next one is served.

Each ends in a rejection, an abort or a status; a counter and one line of the log tell.
"""

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from pynetdicom import build_context
from pynetdicom.sop_class import Verification

from gantry_dimse.pdu import HEADER, PDV_HEADER
from gantry_testkit.door import (
    ABORT_BY_USER,
    aborted_by_provider,
    associated,
    association_request,
    established,
    exchange,
    p_data,
    pdv,
    receive,
    store_request,
)
from gantry_testkit.ingress_process import Ingress
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.waiting import until

MEMORY = 24 * 2**20
UNPARSEABLE = bytes((3, 0, 0, 0, 0, 4, 0, 1, 2, 1))
CONFIGURATION = """
ingress: {processes: 1, acse_timeout: 2s, dimse_timeout: 2s, network_timeout: 4s, send_timeout: 2s}
"""


@pytest.fixture(scope="module")
def ingress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingress]:
    broker = RedisServer()
    made = Ingress(tmp_path_factory.mktemp("ingress"), broker, CONFIGURATION, partner="RAW")
    made.start()
    yield made
    assert made.stop() == 0
    assert "Traceback" not in made.log.read_text()
    broker.close()


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Explicit VR Little Endian; `length`: what is declared, whatever there is."""
    length = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in (b"OB", b"OW", b"SQ", b"UN"):
        return head + struct.pack("<HL", 0, length) + value
    return head + struct.pack("<H", length) + value


UIDS = (
    element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
    element(0x00080018, b"UI", b"1.2.3\0"),
    element(0x0020000D, b"UI", b"1.2.30"),
    element(0x0020000E, b"UI", b"1.2.31"),
)
NESTED = b"".join(
    (element(0x00081140, b"SQ", b"", 0xFFFFFFFF), struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF))
)


def message(data_set: bytes, *, pieces: int = 100_000) -> bytes:
    """A C-STORE request."""
    fragments = [data_set[n : n + pieces] for n in range(0, len(data_set), pieces)]
    *first, last = fragments
    return b"".join(
        (p_data(pdv(3, store_request())), *(p_data(pdv(0, f)) for f in first), p_data(pdv(2, last)))
    )


def in_implicit() -> bytes:
    """The identifying elements in another syntax than was accepted."""
    head = b"".join(
        struct.pack("<HHL", 8, number, len(value)) + value
        for number, value in ((0x16, b"1.2.840.10008.5.1.4.1.1.2\0"), (0x18, b"1.2.3\0"))
    )
    return head + b"".join(
        struct.pack("<HHL", 0x20, number, 6) + b"1.2.30" for number in (0x0D, 0x0E)
    )


def requested(*, contexts: int, items: int = 0) -> bytes:
    """A request with more presentation contexts, or other items, than anybody needs."""
    request = association_request()
    begin = request.index(b"\x20\0", 74)
    end = begin + 4 + int.from_bytes(request[begin + 2 : begin + 4])
    context = request[begin:end]
    many = b"".join(context[:4] + bytes((n * 2 % 256 | 1,)) + context[5:] for n in range(contexts))
    request = request[:begin] + many + b"\x99\0\0\0" * items + request[end:]
    return request[:2] + (len(request) - 6).to_bytes(4) + request[6:]


STATUS = "status"
ENDED = 'gantry_ingress_associations_ended_total{ending="%s",partner="RAW"}'
ANSWERED = 'gantry_ingress_instances_total{partner="RAW",status="%s"}'
REJECTED = 'gantry_ingress_associations_rejected_total{partner="other",reason="unparseable"}'
FAULT = 'gantry_ingress_connections_faulted_total{fault="%s"}'


@dataclass(frozen=True)
class Attack:
    """What is sent on an association, what ends it, and what counts it and tells it."""

    content: bytes
    answer: bytes | str
    counter: str
    told: str | None


ATTACKS = {
    "100,000 nested sequences": Attack(
        b"".join(UIDS) + NESTED * 100_000, "0000", ANSWERED % "0000", None
    ),
    "100,000 nested sequences before any UID": Attack(
        NESTED.replace(b"\x40\x11", b"\x06\0") * 100_000 + b"".join(UIDS),
        "C000",
        ANSWERED % "C000",
        "object_refused",
    ),
    "3 GB of pixels declared, 10 bytes sent": Attack(
        b"".join(UIDS) + element(0x7FE00010, b"OW", bytes(10), 3 * 10**9),
        "0000",
        ANSWERED % "0000",
        None,
    ),
    "a UID longer than the data": Attack(
        UIDS[0] + element(0x00080018, b"UI", b"1.2.3", 65534),
        "C000",
        ANSWERED % "C000",
        "object_refused",
    ),
    "an item longer than the data": Attack(
        UIDS[0] + element(0x00081140, b"SQ", b"\xfe\xff\0\xe0\xff\xff\xff\x7f", 0xFFFFFFF0),
        "C000",
        ANSWERED % "C000",
        "object_refused",
    ),
    "another syntax than accepted": Attack(in_implicit(), "0000", ANSWERED % "0000", None),
    "no DICOM at all": Attack(b"\xff" * 500_000, "C000", ANSWERED % "C000", "object_refused"),
    "noise": Attack(
        b"\x00\x00\x00\x00" + bytes(range(256)) * 4000, "C000", ANSWERED % "C000", "object_refused"
    ),
}

BREACHES = {
    "an endless command": Attack(
        p_data(pdv(1, bytes(30_000))) * 1000,
        aborted_by_provider(6),
        ENDED % "protocol_error",
        "association_broken",
    ),
    "a context that nobody accepted": Attack(
        p_data(pdv(3, store_request(), 99)),
        aborted_by_provider(6),
        ENDED % "protocol_error",
        "association_broken",
    ),
    "a PDV of 4 GB in a small PDU": Attack(
        HEADER.pack(4, 5000) + PDV_HEADER.pack(2**32 - 1, 1, 3),
        aborted_by_provider(6),
        ENDED % "protocol_error",
        "association_broken",
    ),
    "a hundred thousand empty fragments": Attack(
        p_data(*[pdv(1, b"")] * 100_000),
        ABORT_BY_USER,
        ENDED % "idle",
        "association_broken",
    ),
    "a command of garbage": Attack(
        p_data(pdv(3, os.urandom(1000))),
        aborted_by_provider(6),
        ENDED % "protocol_error",
        "association_broken",
    ),
    "an unknown PDU": Attack(
        b"\xee" * 100_000,
        aborted_by_provider(1),
        ENDED % "protocol_error",
        "association_broken",
    ),
}


class Watch:
    """Compares the service before and after."""

    def __init__(self, ingress: Ingress, counter: str) -> None:
        self.ingress, self.counter = ingress, counter
        self.counted = ingress.metric(counter)
        self.lines = len(ingress.log.read_text().splitlines())
        self.processes = ingress.children()
        ingress.forget_peak()
        self.memory = ingress.peak_memory()

    def told(self) -> list[str]:
        lines = self.ingress.log.read_text().splitlines()[self.lines :]
        return [json.loads(line)["event"] for line in lines]

    def check(self, told: str | None, *, times: int = 1) -> None:
        """It was counted and told, cost nothing, and the next caller is served."""
        until(lambda: self.ingress.metric(self.counter) == self.counted + times, self.counter)
        if told is not None:
            until(lambda: self.told().count(told) == 1, f"{told} in {self.told()}")
        assert len(self.told()) <= 1, self.told()
        assert self.ingress.peak_memory() - self.memory < MEMORY
        assert self.ingress.children() == self.processes
        contexts = [build_context(Verification)]
        with associated(self.ingress, contexts=contexts, calling_ae="RAW") as assoc:
            assert assoc.send_c_echo().Status == 0


@pytest.mark.parametrize("name", ATTACKS)
def test_an_object_gets_a_status(ingress: Ingress, name: str) -> None:
    attack = ATTACKS[name]
    watch = Watch(ingress, attack.counter)
    with established(ingress) as sock:
        sock.sendall(message(attack.content))
        pdu_type, length = HEADER.unpack(sock.recv(6, socket.MSG_WAITALL))
        assert pdu_type == 4
        response = sock.recv(length, socket.MSG_WAITALL)
        found = response.index(b"\0\0\0\x09\2\0\0\0")
        assert response[found + 8 : found + 10][::-1].hex().upper() == attack.answer
        sock.sendall(bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
        receive(sock)
    watch.check(attack.told)


@pytest.mark.parametrize("name", BREACHES)
def test_an_association_is_aborted(ingress: Ingress, name: str) -> None:
    attack = BREACHES[name]
    watch = Watch(ingress, attack.counter)
    with established(ingress) as sock:
        with suppress(ConnectionError):
            sock.sendall(attack.content)
        assert receive(sock) == attack.answer
    watch.check(attack.told)


def test_a_stream_that_ends_in_the_middle_of_an_object(ingress: Ingress) -> None:
    watch = Watch(ingress, ENDED % "lost")
    with established(ingress) as sock:
        sock.sendall(message(b"".join(UIDS) + bytes(3_000_000))[:1_000_000])
    watch.check("association_broken")
    assert list((ingress.objects / ".tmp").iterdir()) == []


def test_one_pdu_of_64_megabytes(ingress: Ingress) -> None:
    """Longer than announced, which is the peer's fault and nobody's harm."""
    watch = Watch(ingress, ANSWERED % "0000")
    with established(ingress) as sock:
        pixels = element(0x7FE00010, b"OW", b"", 64_000_000)
        sock.sendall(p_data(pdv(3, store_request())))
        size = len(b"".join(UIDS) + pixels) + 64_000_000
        sock.sendall(HEADER.pack(4, size + 6) + PDV_HEADER.pack(size + 2, 1, 2))
        sock.sendall(b"".join(UIDS) + pixels)
        piece = bytes(1_000_000)
        for _ in range(64):
            sock.sendall(piece)
        assert HEADER.unpack(sock.recv(6, socket.MSG_WAITALL))[0] == 4
        sock.sendall(ABORT_BY_USER)
        receive(sock)
    watch.check("association_broken")


TRICKLES = {
    "in the request": (association_request(), FAULT % "silent"),
    "in a command": (p_data(pdv(3, store_request())), ENDED % "idle"),
}


@pytest.mark.parametrize("name", TRICKLES)
def test_a_byte_now_and_then_buys_no_time(ingress: Ingress, name: str) -> None:
    content, counter = TRICKLES[name]
    watch = Watch(ingress, counter)
    sock = ingress.connect() if name == "in the request" else established(ingress)
    begun = time.monotonic()
    with sock, suppress(OSError):
        for n in range(len(content)):
            sock.sendall(content[n : n + 1])
            threading.Event().wait(0.2)
            if ingress.metric(counter) > watch.counted:
                break
    assert time.monotonic() - begun < 15
    watch.check(None)


def test_one_that_asks_and_never_listens(ingress: Ingress) -> None:
    watch = Watch(ingress, ENDED % "lost")
    question = p_data(pdv(3, store_request(field=0x30, data_set=0x0101)))
    with established(ingress) as sock:
        sock.settimeout(1)
        with suppress(OSError):
            for _ in range(100_000):
                sock.sendall(question * 100)
        watch.check("association_broken")


REQUESTS = {
    "garbage": (os.urandom(5000).replace(b"\1", b"\2"), ABORT_BY_USER, FAULT % "not_dicom"),
    "a web page": (b"GET / HTTP/1.1\r\n\r\n", ABORT_BY_USER, FAULT % "not_dicom"),
    "4 GB declared": (HEADER.pack(1, 2**32 - 1), ABORT_BY_USER, FAULT % "not_dicom"),
    "129 contexts": (requested(contexts=129), UNPARSEABLE, REJECTED),
    "15,000 contexts": (requested(contexts=15_000), UNPARSEABLE, REJECTED),
    "no content": (HEADER.pack(1, 0), UNPARSEABLE, REJECTED),
    "a UID of no letters": (
        association_request()[:-1] + b"\xff",
        UNPARSEABLE,
        REJECTED.replace("other", "RAW"),
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_no_good_request_is_turned_away(ingress: Ingress, name: str) -> None:
    content, answer, counter = REQUESTS[name]
    watch = Watch(ingress, counter)
    assert exchange(ingress, content) == answer
    watch.check(None)


def test_a_quarter_of_a_million_items_that_nobody_knows(ingress: Ingress) -> None:
    with ingress.connect() as sock:
        sock.sendall(requested(contexts=1, items=250_000))
        assert sock.recv(1) == b"\2"


def test_five_hundred_strangers_do_not_fill_the_log(ingress: Ingress) -> None:
    before = len(ingress.log.read_text().splitlines())
    counter = FAULT % "not_dicom"
    counted = ingress.metric(counter)
    for _ in range(500):
        with ingress.connect() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            receive(sock)
    until(lambda: ingress.metric(counter) == counted + 500, "all are counted")
    assert len(ingress.log.read_text().splitlines()) - before <= 2

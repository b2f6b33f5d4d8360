"""Associations that do not come about: each failure has its name, and none of them hangs us."""

import socket
import struct
import time

import pytest

from gantry_dimse.peer_errors import (
    NoAcceptedContext,
    PeerBrokeProtocol,
    PeerClosed,
    PeerTimedOut,
    RejectedForNow,
    RejectedPermanently,
    Unreachable,
)
from gantry_dimse.send import StorageAssociation
from gantry_domain.errors import PermanentError, TransientError
from gantry_testkit.hostile_peer import (
    CONTEXT,
    CT,
    Hostile,
    accept,
    associate,
    receive,
)
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.ports import free_port
from gantry_testkit.waiting import until


def test_nobody_listens() -> None:
    with pytest.raises(Unreachable, match="Connection refused") as failure:
        associate(free_port())
    assert isinstance(failure.value, TransientError)


def test_an_unknown_host() -> None:
    with pytest.raises(Unreachable):
        StorageAssociation.open(
            host="nowhere.invalid", port=104, calling_ae="A", called_ae="B", contexts=[CONTEXT]
        )


def test_it_accepts_connections_and_says_nothing(hostile: Hostile) -> None:
    peer = hostile(lambda connection: peer.over.wait(30) and None)
    started = time.monotonic()
    with pytest.raises(PeerTimedOut, match=r"answer the association request within 0\.5 s"):
        associate(peer.port)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("garbage", "what"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak DICOM"),
        (struct.pack(">BxL", 2, 0xFFFFFFFF), "a PDU of 4294967295 bytes"),
        (struct.pack(">BxL", 2, 20) + bytes(20), "cannot be decoded"),
        (struct.pack(">BxL", 4, 4) + bytes(4), "no answer to the association request"),
    ],
)
def test_it_answers_garbage(hostile: Hostile, garbage: bytes, what: str) -> None:
    def behave(connection: socket.socket) -> None:
        receive(connection)
        connection.sendall(garbage)
        peer.over.wait(30)

    peer = hostile(behave)
    with pytest.raises(PeerBrokeProtocol, match=what):
        associate(peer.port)


def test_a_maximum_that_holds_nothing_ends_the_association(hostile: Hostile) -> None:
    heard: list[object] = []

    def behave(connection: socket.socket) -> None:
        accept(connection, maximum=7)
        heard.append(receive(connection)[0])
        heard.append(connection.recv(1))

    peer = hostile(behave)
    with pytest.raises(PeerBrokeProtocol, match="maximum PDU length of 7"):
        associate(peer.port)
    until(lambda: heard == [7, b""], "an A-ABORT, and the end of the connection")


def test_it_closes_instead_of_an_answer(hostile: Hostile) -> None:
    peer = hostile(lambda connection: receive(connection) and None)
    with pytest.raises(PeerClosed):
        associate(peer.port)


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        ((1, 1, 7), RejectedPermanently, "1/1/7: called AE title not recognised"),
        ((1, 1, 3), RejectedPermanently, "1/1/3: calling AE title not recognised"),
        ((2, 3, 2), RejectedForNow, "2/3/2: local limit exceeded"),
        ((2, 3, 1), RejectedForNow, "2/3/1: temporary congestion"),
        ((9, 9, 9), RejectedPermanently, "9/9/9: unknown reason"),
    ],
)
def test_rejections(
    hostile: Hostile, reply: tuple[int, int, int], kind: type[Exception], text: str
) -> None:
    def behave(connection: socket.socket) -> None:
        receive(connection)
        connection.sendall(struct.pack(">BxLBBBB", 3, 4, 0, *reply))
        peer.over.wait(1)

    peer = hostile(behave)
    with pytest.raises(kind, match=text) as failure:
        associate(peer.port)
    assert isinstance(failure.value, TransientError if reply[0] == 2 else PermanentError)


def test_pynetdicoms_rejection_of_an_unknown_title() -> None:
    ae = PeerAE("OTHER")
    ae.require_called_aet = True
    ae.add_supported_context(CT)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(RejectedPermanently, match="1/1/7"):
            associate(server.server_address[1])
    finally:
        server.shutdown()


def test_it_accepts_no_context() -> None:
    ae = PeerAE("PEER")
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.4")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(NoAcceptedContext) as failure:
            associate(server.server_address[1])
        assert isinstance(failure.value, PermanentError)
    finally:
        server.shutdown()

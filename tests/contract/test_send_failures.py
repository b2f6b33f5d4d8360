"""The storage SCU against peers that fail: each failure has its name, and none of them hangs us."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from pynetdicom import evt

from gantry_dimse.peer_errors import (
    Interrupted,
    PeerAborted,
    PeerBrokeProtocol,
    PeerClosed,
    PeerTimedOut,
)
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation, StoreResponse
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_testkit.hostile_peer import (
    ABORT,
    CT,
    Hostile,
    accept,
    answer,
    associate,
    receive,
)
from gantry_testkit.peer_ae import PeerAE


def store(association: StorageAssociation, size: int = 1000) -> StoreResponse:
    context = association.accepts(CT, EXPLICIT_VR_LITTLE_ENDIAN)
    assert context is not None
    return association.store(
        SOPClassUID=CT,
        SOPInstanceUID="1.2.3",
        context=context,
        chunks=(bytes(1 << 16) for _ in range(max(1, size >> 16))),
    )


def test_it_hangs_after_the_object(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        peer.over.wait(30)

    peer = hostile(behave)
    association = associate(peer.port)
    with pytest.raises(PeerTimedOut, match=r"did not answer within 0\.5 s"):
        store(association)
    with pytest.raises(PeerClosed, match="has ended"):
        store(association)


def test_it_stops_reading_in_mid_object(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        connection.recv(4096)
        peer.over.wait(30)

    peer = hostile(behave)
    started = time.monotonic()
    with pytest.raises(PeerTimedOut, match=r"take more data within 0\.5 s"):
        store(associate(peer.port), size=64 << 20)
    assert time.monotonic() - started < 10


def test_it_aborts_in_mid_object_and_reads_no_more(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        connection.recv(100_000)
        connection.sendall(ABORT)
        peer.over.wait(30)

    peer = hostile(behave)
    started = time.monotonic()
    slow = Timeouts(connect=2.0, acse=2.0, dimse=30.0, network=30.0)
    with pytest.raises(PeerAborted) as failure:
        store(associate(peer.port, slow), size=64 << 20)
    assert (failure.value.source, failure.value.reason) == (2, 6)
    assert time.monotonic() - started < 10  # it was heard, not waited out


def test_it_aborts_instead_of_an_answer(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        receive(connection)
        receive(connection)
        connection.sendall(ABORT)
        peer.over.wait(30)

    peer = hostile(behave)
    with pytest.raises(PeerAborted):
        store(associate(peer.port))


def test_it_drops_the_link_in_mid_object(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        connection.recv(100_000)

    peer = hostile(behave)
    with pytest.raises(PeerClosed):
        store(associate(peer.port), size=64 << 20)


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (answer(0, message_id=9), "an answer to something else"),
        (answer(0, field=0x8030), "an answer to something else"),
        (struct.pack(">BxLLBB", 4, 6, 2, 1, 2), "a data set without a command set"),
        (struct.pack(">BxLLBB", 4, 10, 6, 1, 3) + b"\xff\xff\xff\xff", "ends within an element"),
        (struct.pack(">BxLLBB", 4, 6, 99, 1, 3), "beyond its PDU"),
        (struct.pack(">BxL", 4, 3) + bytes(3), "without a header"),
        (struct.pack(">BxL", 2, 4) + bytes(4), "not expected"),
        (struct.pack(">BxL", 99, 4) + bytes(4), "does not speak DICOM"),
    ],
)
def test_it_answers_a_store_with_garbage(hostile: Hostile, reply: bytes, what: str) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        receive(connection)
        receive(connection)
        connection.sendall(reply)
        peer.over.wait(30)

    peer = hostile(behave)
    with pytest.raises(PeerBrokeProtocol, match=what):
        store(associate(peer.port))


def test_an_answer_that_comes_early_counts_once_the_object_is_sent(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        connection.sendall(answer(0xA700))
        with suppress(TimeoutError):
            connection.settimeout(3)
            while connection.recv(1 << 20):
                pass

    peer = hostile(behave)
    association = associate(peer.port)
    assert store(association, size=32 << 20).status == 0xA700
    association.abort()


def test_an_answer_in_many_pieces_is_read(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        receive(connection)  # the command set
        while not receive(connection)[1][11] & 2:  # the fragments up to the last
            pass
        for byte in answer(0xB000):
            connection.sendall(bytes([byte]))
        peer.over.wait(30)

    peer = hostile(behave)
    association = associate(peer.port)
    assert store(association, size=10).status == 0xB000
    association.abort()


def test_what_the_store_cannot_read_ends_the_association(hostile: Hostile) -> None:
    ended = threading.Event()

    def behave(connection: socket.socket) -> None:
        accept(connection)
        content = b""
        while piece := connection.recv(1 << 16):
            content += piece
        if content[-10:] == struct.pack(">BxLBBBB", 7, 4, 0, 0, 0, 0):
            ended.set()

    peer = hostile(behave)
    association = associate(peer.port)
    context = association.accepts(CT, EXPLICIT_VR_LITTLE_ENDIAN)
    assert context is not None

    def chunks() -> Iterator[bytes]:
        yield bytes(100_000)
        raise OSError("the store is away")

    with pytest.raises(OSError, match="the store is away"):
        association.store(SOPClassUID=CT, SOPInstanceUID="1.2.3", context=context, chunks=chunks())
    assert ended.wait(5)


def test_it_is_interrupted_from_another_thread(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        peer.over.wait(30)

    peer = hostile(behave)
    association = associate(peer.port, Timeouts(dimse=30.0))
    threading.Timer(0.2, association.interrupt).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        store(association)
    assert time.monotonic() - started < 5


def test_a_peer_that_never_answers_a_release_costs_its_time_alone(hostile: Hostile) -> None:
    def behave(connection: socket.socket) -> None:
        accept(connection)
        peer.over.wait(30)

    peer = hostile(behave)
    started = time.monotonic()
    associate(peer.port).release()
    assert 0.4 < time.monotonic() - started < 3


def test_a_slow_peer_that_makes_progress_is_waited_for() -> None:
    ae = PeerAE("PEER")
    ae.add_supported_context(CT, EXPLICIT_VR_LITTLE_ENDIAN)

    def slow(event: evt.Event) -> int:
        time.sleep(1.0)  # what a slow archive takes
        return 0x0000

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, slow)])
    try:
        port = server.server_address[1]
        with associate(port, Timeouts(dimse=10.0)) as association:
            assert store(association).status == 0
    finally:
        server.shutdown()

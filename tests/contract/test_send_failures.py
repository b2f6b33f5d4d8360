"""The storage SCU against peers that fail: each failure has its name, and none of them hangs us."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from pynetdicom import evt
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import MaximumLengthNotification

from gantry_dimse import command_sets as cs
from gantry_dimse.peer_errors import (
    Interrupted,
    NoAcceptedContext,
    PeerAborted,
    PeerBrokeProtocol,
    PeerClosed,
    PeerTimedOut,
    RejectedForNow,
    RejectedPermanently,
    Unreachable,
)
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation, StoreResponse
from gantry_domain.errors import PermanentError, TransientError
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.ports import free_port
from gantry_testkit.waiting import until

CT = "1.2.840.10008.5.1.4.1.1.2"
CONTEXT = ProposedContext(CT, (EXPLICIT_VR_LITTLE_ENDIAN,))
QUICK = Timeouts(connect=2.0, acse=0.5, dimse=0.5, network=0.5)


def receive(connection: socket.socket) -> tuple[int, bytes]:
    """One PDU: its type and the whole of it."""
    head = connection.recv(6, socket.MSG_WAITALL)
    kind, length = struct.unpack(">BxL", head)
    return kind, head + connection.recv(length, socket.MSG_WAITALL)


def accept(connection: socket.socket, *, maximum: int = 16384) -> None:
    """Read the A-ASSOCIATE-RQ and accept its first context."""
    kind, encoded = receive(connection)
    assert kind == 1
    request = A_ASSOCIATE_RQ()
    request.decode(encoded)
    primitive = request.to_primitive()
    context = primitive.presentation_context_definition_list[0]
    context.result = 0
    context.transfer_syntax = context.transfer_syntax[:1]
    length = MaximumLengthNotification()
    length.maximum_length_received = maximum
    primitive.presentation_context_definition_list = []
    primitive.presentation_context_definition_results_list = [context]
    primitive.user_information = [
        item
        for item in primitive.user_information
        if type(item).__name__.startswith("Implementation")
    ] + [length]
    primitive.result = 0
    connection.sendall(A_ASSOCIATE_AC(primitive).encode())


def answer(status: int, message_id: int = 1, field: int = 0x8001) -> bytes:
    """A whole C-STORE response."""
    command = cs.encode_command_set(
        {
            cs.COMMAND_FIELD: cs.us(field),
            cs.MESSAGE_ID_BEING_RESPONDED_TO: cs.us(message_id),
            cs.COMMAND_DATA_SET_TYPE: cs.us(0x0101),
            cs.STATUS: cs.us(status),
        }
    )
    return struct.pack(">BxLLBB", 4, len(command) + 6, len(command) + 2, 1, 3) + command


ABORT = struct.pack(">BxLBBBB", 7, 4, 0, 0, 2, 6)


class HostilePeer:
    """Listens on loopback and does to each connection what it is told."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self._behave(connection)

    def close(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


Hostile = Callable[[Callable[[socket.socket], None]], HostilePeer]


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    peers: list[HostilePeer] = []

    def start(behave: Callable[[socket.socket], None]) -> HostilePeer:
        peers.append(HostilePeer(behave))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def associate(port: int, timeouts: Timeouts = QUICK) -> StorageAssociation:
    return StorageAssociation.open(
        host="127.0.0.1",
        port=port,
        calling_ae="GANTRY",
        called_ae="PEER",
        contexts=[CONTEXT],
        timeouts=timeouts,
    )


def store(association: StorageAssociation, size: int = 1000) -> StoreResponse:
    context = association.accepts(CT, EXPLICIT_VR_LITTLE_ENDIAN)
    assert context is not None
    return association.store(
        SOPClassUID=CT,
        SOPInstanceUID="1.2.3",
        context=context,
        chunks=(bytes(1 << 16) for _ in range(max(1, size >> 16))),
    )


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

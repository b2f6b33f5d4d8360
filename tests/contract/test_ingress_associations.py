"""Established associations over real sockets: objects, breaches, time-outs, drain, hand-over."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    Verification,
)

from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.negotiation import Negotiated
from gantry_dimse.observer import Ending, Fault
from gantry_dimse.pdu import HEADER, PDV_HEADER
from gantry_dimse.storage import StoreRequest
from gantry_testkit.door import (
    ABORT_BY_USER,
    EXPLICIT,
    RELEASE,
    RELEASED,
    Door,
    Incoming,
    Memory,
    aborted_by_provider,
    associated,
    association_request,
    ct,
    data_set_bytes,
    established,
    exchange,
    p_data,
    pdv,
    receive,
    store_request,
)
from gantry_testkit.waiting import until


@pytest.fixture
def door(open_door: Callable[..., Door]) -> Door:
    return open_door()


class SlowMemory(Memory):
    """A store that takes its time for each piece."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.taken = 0

    def begin(self, request: StoreRequest) -> Incoming:
        return SlowIncoming(self, request)


class SlowIncoming(Incoming):
    def write(self, fragment: memoryview) -> None:
        assert isinstance(self.memory, SlowMemory)
        threading.Event().wait(self.memory.seconds)
        super().write(fragment)
        self.memory.taken += 1


class TestStorage:
    def test_the_bytes_as_sent(self, door: Door) -> None:
        path = get_testdata_file("CT_small.dcm")
        with associated(door) as assoc:
            for _ in range(3):
                assert assoc.send_c_store(path).Status == 0
        assert [content for _request, content in door.storage.stored] == [data_set_bytes(path)] * 3
        request = door.storage.stored[0][0]
        assert request.SOPClassUID == CTImageStorage
        assert request.SOPInstanceUID == ct().SOPInstanceUID
        assert request.transfer_syntax == EXPLICIT
        assert (request.calling_ae, request.called_ae) == ("CT01", "GANTRY")

    @pytest.mark.parametrize("pdu", ["4096", "131072"])
    def test_dcmtk(self, door: Door, pdu: str) -> None:
        path = get_testdata_file("CT_small.dcm")
        environ = os.environ | {"TCP_NODELAY": "1"}
        server = ["-aec", "GANTRY", "-aet", "DCMTK", "127.0.0.1", str(door.port)]
        for command in (["echoscu", *server], ["storescu", "-pdu", pdu, *server, *[path] * 5]):
            done = subprocess.run(
                command, env=environ, capture_output=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
        contents = [content for _request, content in door.storage.stored]
        assert len(contents) == 5
        # storescu leaves the trailing padding out.
        assert all(len(c) > 30_000 and data_set_bytes(path).startswith(c) for c in contents)
        assert door.storage.stored[0][0].calling_ae == "DCMTK"

    def test_a_sender_with_nagle_does_not_stall(self, door: Door) -> None:
        path = get_testdata_file("CT_small.dcm")
        plain = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
        command = ["storescu", "-aec", "GANTRY", "127.0.0.1", str(door.port), *[path] * 200]
        took = []
        for environ in (plain | {"TCP_NODELAY": "1"}, plain):
            begun = time.monotonic()
            done = subprocess.run(
                command, env=environ, capture_output=True, timeout=60, check=False
            )
            took.append(time.monotonic() - begun)
            assert done.returncode == 0, done.stderr
        assert len(door.storage.stored) == 400
        # Delayed ACKs would cost 40 ms for each of 200; the machine may be busy with other things.
        assert took[1] < took[0] + 5

    def test_messages_and_pdus_in_any_order_of_sizes(self, door: Door) -> None:
        """Two messages in one PDU, a command in two, tiny PDUs, an empty last fragment."""
        first, second = store_request(message_id=1), store_request(message_id=2)
        stream = p_data(pdv(3, first), pdv(0, b"one "), pdv(2, b"object"), pdv(1, second[:30]))
        stream += p_data(pdv(3, second[30:]))
        stream += b"".join(p_data(pdv(0, bytes((n,)))) for n in range(200))
        stream += p_data(pdv(2, b"")) + RELEASE
        for cut in (1, 7, 13, 1000):
            door.storage.stored.clear()
            with established(door) as sock:
                for offset in range(0, len(stream), cut):
                    sock.sendall(stream[offset : offset + cut])
                answer = receive(sock)
            assert [content for _request, content in door.storage.stored] == [
                b"one object",
                bytes(range(200)),
            ]
            assert answer.count(b"\x00\x01\x02\x00\x00\x00\x01\x80") == 2
            assert answer.endswith(RELEASED)

    def test_other_services_are_not_recognised(self, door: Door) -> None:
        with established(door) as sock:
            sock.sendall(p_data(pdv(3, store_request(field=0x20))) + p_data(pdv(2, b"query")))
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(2, b"x")) + RELEASE)
            answer = receive(sock)
        assert answer.index(b"\x00\x09\x02\x00\x00\x00\x11\x02") < answer.index(
            b"\x00\x09\x02\x00\x00\x00\x00\x00"
        )
        assert [content for _request, content in door.storage.stored] == [b"x"]

    def test_an_abort_in_the_middle_of_an_object(self, door: Door) -> None:
        with established(door) as sock:
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(0, bytes(5000))))
            sock.sendall(ABORT_BY_USER)
            assert receive(sock) == b""
        until(lambda: door.notes.endings == [(Ending.PEER_ABORTED, "")])
        assert door.storage.aborted == [5000]
        assert door.storage.stored == []

    def test_a_killed_connection_in_the_middle_of_an_object(self, door: Door) -> None:
        sock = established(door)
        sock.sendall(p_data(pdv(3, store_request())) + HEADER.pack(4, 100_000))
        sock.sendall(PDV_HEADER.pack(99_996, 1, 2) + bytes(777))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        until(lambda: door.server.active == 1)
        sock.close()
        until(lambda: door.notes.endings)
        assert door.notes.endings[0][0] is Ending.LOST
        assert len(door.storage.aborted) == 1
        assert door.storage.stored == []

    def test_a_busy_association_does_not_hold_up_others(self, door: Door) -> None:
        door.storage.gate.clear()
        with established(door) as sock:
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(2, b"x")))
            until(lambda: door.storage.waiting == 1)
            assert door.echo() == 0
            door.storage.gate.set()
            assert HEADER.unpack(sock.recv(6, socket.MSG_WAITALL))[0] == 4


BREACHES = {
    "an unknown PDU": (b"\xee\0\0\0\0\x04\0\0\0\0", 1),
    "garbage": (b"GET / HTTP/1.1\r\nHost: gantry\r\n\r\n", 1),
    "a second request": (association_request(), 2),
    "a context that was not accepted": (p_data(pdv(3, store_request(), 7)), 6),
    "a PDV longer than its PDU": (HEADER.pack(4, 20) + PDV_HEADER.pack(2**32 - 1, 1, 3), 6),
    "a PDV shorter than its header": (HEADER.pack(4, 20) + PDV_HEADER.pack(0, 1, 3), 6),
    "a data set without a command": (p_data(pdv(2, b"data")), 2),
    "a command in a data set": (p_data(pdv(3, store_request()), pdv(3, store_request())), 2),
    "a release in a message": (p_data(pdv(3, store_request())) + RELEASE, 2),
    "a command without end": (p_data(pdv(1, bytes(40_000))) * 2, 6),
    "a command of garbage": (p_data(pdv(3, b"\1\2\3\4\5\6\7\x08" * 9)), 6),
}


class TestBreaches:
    @pytest.mark.parametrize("name", BREACHES)
    def test_an_association_is_aborted(self, door: Door, name: str) -> None:
        content, reason = BREACHES[name]
        with established(door) as sock:
            sock.sendall(content)
            assert receive(sock) == aborted_by_provider(reason)
        until(lambda: door.notes.endings)
        assert door.notes.endings[0][0] is Ending.PROTOCOL_ERROR
        assert door.notes.endings[0][1]
        assert door.echo() == 0

    @pytest.mark.parametrize(
        "content",
        [
            b"GET / HTTP/1.1\r\nHost: gantry\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS
            p_data(pdv(3, store_request())),
            HEADER.pack(1, 2**32 - 1) + bytes(1000),
            os.urandom(1000)[1:].join((b"\xaa", b"")),
        ],
    )
    def test_what_is_no_request_is_aborted(self, door: Door, content: bytes) -> None:
        assert exchange(door, content) == ABORT_BY_USER
        assert door.notes.faults == [Fault.NOT_DICOM]
        assert door.echo() == 0

    def test_probes_and_silent_connections(self, open_door: Callable[..., Door]) -> None:
        door = open_door(acse_timeout=0.5)
        for _ in range(20):
            door.connect().close()
        until(lambda: door.notes.faults == [Fault.LOST] * 20)
        with door.connect() as silent, door.connect() as slow:
            request = association_request()
            # A byte now and then does not buy more time.
            begun = time.monotonic()
            with suppress(OSError):
                for n in range(100):
                    slow.sendall(request[n : n + 1])
                    threading.Event().wait(0.1)
                    if len(door.notes.faults) == 22:
                        break
            assert time.monotonic() - begun < 5
            assert receive(silent) == b""
        assert door.notes.faults[20:] == [Fault.SILENT] * 2
        assert door.notes.opened == []

    def test_idle_associations(self, open_door: Callable[..., Door]) -> None:
        door = open_door(network_timeout=0.5, dimse_timeout=20)
        with established(door) as sock:
            assert receive(sock) == ABORT_BY_USER
        until(lambda: door.notes.endings == [(Ending.IDLE, "between messages")])

    def test_messages_that_stop(self, open_door: Callable[..., Door]) -> None:
        door = open_door(network_timeout=20, dimse_timeout=0.5)
        with established(door) as sock:
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(0, bytes(100))))
            assert receive(sock) == ABORT_BY_USER
        until(lambda: door.notes.endings == [(Ending.IDLE, "in the middle of a message")])
        assert door.storage.aborted == [100]

    @pytest.mark.parametrize("interval", [0.05, 1.5])
    def test_objects_that_never_end(self, open_door: Callable[..., Door], interval: float) -> None:
        """The sweep counts on it; pieces that come in time do not buy more, nor does silence."""
        door = open_door(longest_reception=1.0)
        with established(door) as sock:
            message = p_data(pdv(3, store_request())) + p_data(pdv(2, b"whole"))
            for _ in range(4):  # each in time, together longer
                threading.Event().wait(0.3)
                sock.sendall(message)
            sock.sendall(p_data(pdv(3, store_request())))
            begun = time.monotonic()
            with suppress(OSError):
                while not door.notes.endings and time.monotonic() - begun < 10:
                    sock.sendall(p_data(pdv(0, b"x")))
                    threading.Event().wait(interval)
            assert 0.9 < time.monotonic() - begun < 5
            assert receive(sock).endswith(ABORT_BY_USER)
        until(lambda: door.notes.endings)
        assert door.notes.endings == [(Ending.TOO_SLOW, "an object took longer than 1 s")]
        assert len(door.storage.stored) == 4
        assert len(door.storage.aborted) == 1

    def test_objects_that_come_too_slowly(self, open_door: Callable[..., Door]) -> None:
        door = open_door(minimum_rate=1000, rate_window=1.0, dimse_timeout=20)
        with established(door) as sock:
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(0, bytes(500))))
            begun = time.monotonic()
            with suppress(OSError):
                while not door.notes.endings and time.monotonic() - begun < 10:
                    sock.sendall(p_data(pdv(0, b"x")))
                    threading.Event().wait(0.1)
            assert receive(sock) == ABORT_BY_USER
        until(lambda: door.notes.endings)
        detail = "fewer than 1000 bytes of an object a second"
        assert door.notes.endings == [(Ending.TOO_SLOW, detail)]
        assert len(door.storage.aborted) == 1

    def test_a_slow_store_is_not_the_peers_fault(self, open_door: Callable[..., Door]) -> None:
        storage = SlowMemory(0.3)
        door = open_door(handler=storage, minimum_rate=1000, rate_window=0.5)
        with established(door) as sock:
            sock.sendall(p_data(pdv(3, store_request())))
            for _ in range(5):
                sock.sendall(p_data(pdv(0, bytes(100))))
                until(lambda taken=storage.taken: storage.taken > taken)
            sock.sendall(p_data(pdv(2, b"end")) + RELEASE)
            assert receive(sock).endswith(RELEASED)
        # Between messages nobody is too slow.
        with established(door) as sock:
            threading.Event().wait(1.2)
            sock.sendall(RELEASE)
            assert receive(sock) == RELEASED
        assert len(storage.stored) == 1
        until(lambda: len(door.notes.endings) == 2)
        assert {ending for ending, _ in door.notes.endings} == {Ending.RELEASED}

    def test_a_declared_size_costs_no_memory(self, door: Door) -> None:
        before = resident()
        socks = [established(door) for _ in range(8)]
        for sock in socks:
            sock.sendall(p_data(pdv(3, store_request())))
            sock.sendall(HEADER.pack(4, 2**32 - 1) + PDV_HEADER.pack(2**32 - 5, 1, 0) + b"x")
        until(lambda: door.server.active == 8)
        assert resident() - before < 20 * 2**20
        for sock in socks:
            sock.close()


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


class TestDrain:
    def test_new_requests_are_turned_away_and_quiet_ones_end(self, door: Door) -> None:
        with established(door) as sock:
            drained: list[bool] = []
            thread = threading.Thread(target=lambda: drained.append(door.server.drain(20)))
            thread.start()
            until(
                lambda: (
                    exchange(door, association_request())[:10]
                    == bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 1))
                )
            )
            assert receive(sock) == ABORT_BY_USER
            thread.join(10)
            assert drained == [True]
        assert door.notes.endings == [(Ending.DRAINED, "")]

    def test_a_sender_goes_on_until_the_deadline_and_gets_its_last_answer(self, door: Door) -> None:
        message = p_data(pdv(3, store_request())) + p_data(pdv(2, b"x"))
        answered = 0
        with established(door) as sock:
            thread = threading.Thread(target=lambda: door.server.drain(1.5))
            thread.start()
            begun = time.monotonic()
            while True:
                sock.sendall(message)
                pdu_type, length = HEADER.unpack(sock.recv(6, socket.MSG_WAITALL))
                sock.recv(length, socket.MSG_WAITALL)
                if pdu_type == 7:
                    break
                answered += 1
                threading.Event().wait(0.05)
            assert 1.4 < time.monotonic() - begun < 4
            thread.join(10)
        # What was stored was answered, but for what crossed our abort on its way.
        assert answered <= len(door.storage.stored) <= answered + 1
        assert answered > 10

    def test_an_object_in_hand_is_finished(self, door: Door) -> None:
        door.storage.gate.clear()
        with established(door) as sock:
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(2, b"x")))
            until(lambda: door.storage.waiting == 1)
            thread = threading.Thread(target=lambda: door.server.drain(10))
            thread.start()
            door.storage.gate.set()
            answer = receive(sock)
            thread.join(10)
        assert HEADER.unpack(answer[:6])[0] == 4
        assert answer.endswith(ABORT_BY_USER)

    def test_close_breaks_what_is_left(self, open_door: Callable[..., Door]) -> None:
        door = open_door()
        with established(door) as sock:
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(0, b"half")))
            until(lambda: door.server.active == 1)
            door.server.close()
            receive(sock)
        assert door.storage.aborted == [4]
        with pytest.raises(OSError, match="refused"):
            door.connect()


class TestHandOver:
    def test_pynetdicoms_services_take_an_association_over(
        self, open_door: Callable[..., Door]
    ) -> None:
        def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
            for number in range(3):
                ds = Dataset()
                ds.PatientID = f"{event.identifier.PatientID}{number}"
                ds.QueryRetrieveLevel = "PATIENT"
                yield 0xFF00, ds

        model = PatientRootQueryRetrieveInformationModelFind

        def is_query(negotiated: Negotiated) -> bool:
            return any(cx.abstract_syntax == model for cx in negotiated.contexts.values())

        door = open_door(
            supported=SupportedContexts(others=[build_context(model)]),
            handlers=[(evt.EVT_C_FIND, find)],
            taken_by_pynetdicom=is_query,
        )
        query = Dataset()
        query.QueryRetrieveLevel = "PATIENT"
        query.PatientID = "P"
        contexts = [build_context(model), build_context(Verification)]
        for _ in range(2):
            with associated(door, contexts=contexts) as assoc:
                assert assoc.send_c_echo().Status == 0
                answers = list(assoc.send_c_find(query, model))
            assert [status.Status for status, _ds in answers] == [0xFF00] * 3 + [0]
            assert [ds.PatientID for _status, ds in answers[:3]] == ["P0", "P1", "P2"]
        # Others are served here meanwhile.
        with associated(door) as assoc:
            assert assoc.send_c_store(ct()).Status == 0
        until(lambda: len(door.notes.endings) == 3)
        assert {ending for ending, _detail in door.notes.endings} == {Ending.RELEASED}

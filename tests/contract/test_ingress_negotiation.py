"""Associations over real sockets: what is accepted, in which syntax, and what is rejected how."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pynetdicom import build_context, build_role
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
)

from gantry_dimse.observer import Ending, Fault, Peer
from gantry_dimse.pdu import HEADER
from gantry_dimse.slots import AssociationSlots
from gantry_dimse.storage import StoreOutcome
from gantry_domain.file_meta import IMPLEMENTATION_CLASS_UID
from gantry_domain.statuses import (
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    CANNOT_UNDERSTAND,
    Rejection,
)
from gantry_testkit.door import (
    EXPLICIT,
    IMPLICIT,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    RELEASE,
    RELEASED,
    Door,
    associated,
    association_request,
    ct,
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


class TestNegotiation:
    def test_echo(self, door: Door) -> None:
        assert door.echo() == 0
        until(lambda: door.notes.endings)
        assert door.notes.opened == [Peer("CT01", "GANTRY", "127.0.0.1")]
        assert door.notes.endings == [(Ending.RELEASED, "")]
        assert door.server.active == 0

    def test_who_we_are_and_what_we_take(self, door: Door) -> None:
        with associated(door) as assoc:
            assert assoc.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
            assert assoc.acceptor.maximum_length == 131072

    @pytest.mark.parametrize("max_pdu", [0, 49152])
    def test_other_pdu_lengths(self, open_door: Callable[..., Door], max_pdu: int) -> None:
        door = open_door(max_pdu=max_pdu)
        with associated(door) as assoc:
            assert assoc.acceptor.maximum_length == max_pdu
            assert assoc.send_c_store(ct()).Status == 0
        ((_, content),) = door.storage.stored
        assert len(content) > 32_000

    def test_unlimited_is_meant(self, open_door: Callable[..., Door]) -> None:
        """A data set of 24 MB in one PDU, and the next one in another."""
        door = open_door(max_pdu=0)
        content = os.urandom(24 << 20)
        with established(door) as sock:
            for message_id in (1, 2):
                sock.sendall(p_data(pdv(3, store_request(message_id=message_id))))
                sock.sendall(p_data(pdv(2, content)))
                pdu_type, length = HEADER.unpack(sock.recv(6, socket.MSG_WAITALL))
                assert pdu_type == 4
                sock.recv(length, socket.MSG_WAITALL)
            sock.sendall(RELEASE)
            assert receive(sock) == RELEASED
        assert [stored for _, stored in door.storage.stored] == [content, content]

    @pytest.mark.parametrize("max_pdu", [0, 128, 4096])
    def test_small_and_unlimited_pdus_of_the_peer(self, door: Door, max_pdu: int) -> None:
        door.storage.outcome = StoreOutcome(CANNOT_UNDERSTAND, "x" * 64)
        with associated(door, max_pdu=max_pdu) as assoc:
            response = assoc.send_c_store(ct())
            assert (response.Status, response.ErrorComment) == (0xC000, "x" * 64)

    def test_our_order_of_transfer_syntaxes_decides(self, door: Door) -> None:
        lossy_first = build_context(
            CTImageStorage, [JPEG_BASELINE, JPEG_LOSSLESS, IMPLICIT, EXPLICIT]
        )
        compressed = build_context(MRImageStorage, [JPEG_BASELINE, JPEG_LOSSLESS])
        with associated(door, contexts=[lossy_first, compressed]) as assoc:
            accepted = [cx.transfer_syntax[0] for cx in assoc.accepted_contexts]
            assert accepted == [EXPLICIT, JPEG_LOSSLESS]

    def test_unknown_classes_are_refused_alone(self, door: Door) -> None:
        contexts = [build_context("1.2.3.4.5"), build_context(CTImageStorage, [EXPLICIT])]
        with associated(door, contexts=contexts) as assoc:
            assert [cx.result for cx in assoc.rejected_contexts] == [3]
            assert assoc.send_c_store(ct()).Status == 0

    def test_no_accepted_context_is_no_crash(self, door: Door) -> None:
        with associated(door, contexts=[build_context("1.2.3.4.5")]) as assoc:
            assert not assoc.is_established
        assert door.echo() == 0

    def test_extended_negotiation_breaks_nothing(self, door: Door) -> None:
        asynchronous = AsynchronousOperationsWindowNegotiation()
        asynchronous.maximum_number_operations_invoked = 5
        asynchronous.maximum_number_operations_performed = 5
        extended = SOPClassExtendedNegotiation()
        extended.sop_class_uid = CTImageStorage
        extended.service_class_application_information = b"\x02\x00\x03\x00\x01\x00"
        common = SOPClassCommonExtendedNegotiation()
        common.sop_class_uid = CTImageStorage
        common.service_class_uid = "1.2.840.10008.4.2"
        identity = UserIdentityNegotiation()
        identity.user_identity_type = 2
        identity.primary_field, identity.secondary_field = b"user", b"passcode"
        identity.positive_response_requested = True
        role = build_role(CTImageStorage, scu_role=True, scp_role=True)
        items = [asynchronous, extended, common, identity, role]
        with associated(door, ext_neg=items) as assoc:
            assert assoc.is_established
            # Answered, it makes some devices drop the connection.
            assert assoc.acceptor.asynchronous_operations == (1, 1)
            answered = [type(item) for item in assoc.acceptor.primitive.user_information]
            assert AsynchronousOperationsWindowNegotiation not in answered
            assert assoc.send_c_store(ct()).Status == 0


class TestRejections:
    def admit(self, peer: Peer) -> Rejection | None:
        if peer.called_ae != "GANTRY":
            return CALLED_AE_NOT_RECOGNIZED
        return CALLING_AE_NOT_RECOGNIZED if peer.calling_ae == "STRANGER" else None

    @pytest.mark.parametrize(
        ("called", "calling", "expected"),
        [("OTHER", "CT01", (1, 1, 7)), ("GANTRY", "STRANGER", (1, 1, 3))],
    )
    def test_titles(
        self,
        open_door: Callable[..., Door],
        called: str,
        calling: str,
        expected: tuple[int, int, int],
    ) -> None:
        door = open_door(admit=self.admit)
        with associated(door, called_ae=called, calling_ae=calling) as assoc:
            assert assoc.is_rejected
            answer = assoc.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == expected
        assert [rejection[:3] for _peer, rejection in door.notes.rejections] == [expected]
        assert door.echo() == 0

    def test_the_application_context(self, door: Door) -> None:
        request = association_request(application_context=b"1.2.3")
        assert exchange(door, request)[:10] == bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 2))

    def test_a_request_that_cannot_be_parsed(self, door: Door) -> None:
        request = bytearray(association_request())
        request[76:78] = b"\xff\xff"  # an item that is longer than the request
        assert exchange(door, bytes(request))[:10] == bytes((3, 0, 0, 0, 0, 4, 0, 1, 2, 1))
        # An even context id, which only pynetdicom's decoder minds.
        request = bytearray(association_request())
        request[request.index(b"\x20\x00", 74) + 4] = 2
        assert exchange(door, bytes(request))[:10] == bytes((3, 0, 0, 0, 0, 4, 0, 1, 2, 1))
        assert door.echo() == 0

    def test_the_limit_of_associations(
        self, open_door: Callable[..., Door], tmp_path: Path
    ) -> None:
        slots = AssociationSlots(tmp_path / "slots", count=2)
        door = open_door(slots=slots)
        idle = [established(door) for _ in range(2)]
        # Connections that are no association take no slot, and a third association gets none.
        silent = [door.connect() for _ in range(5)]
        assert exchange(door, association_request())[:10] == bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))
        assert [rejection.label for _peer, rejection in door.notes.rejections] == ["limit"]
        idle[0].close()
        until(lambda: slots.held == 1)
        assert door.echo() == 0
        for sock in (idle[1], *silent):
            sock.close()
        until(lambda: slots.held == 0)
        door.server.close()  # its threads may still have the slots in hand
        slots.close()

    def test_too_many_connections_are_closed_at_once(self, open_door: Callable[..., Door]) -> None:
        door = open_door(max_connections=3)
        held = [established(door) for _ in range(3)]
        with door.connect() as fourth:
            assert fourth.recv(10) == b""
        # The peer sees the end before the server has noted it.
        until(lambda: door.notes.faults == [Fault.TOO_MANY])
        for sock in held:
            sock.close()
        until(lambda: door.echo() == 0)

    def test_slots_are_shared_by_processes_and_outlive_none(self, tmp_path: Path) -> None:
        file = tmp_path / "slots"
        slots = AssociationSlots(file, count=3)
        script = (
            "import sys, time; from pathlib import Path\n"
            "from gantry_dimse.slots import AssociationSlots\n"
            "slots = AssociationSlots(Path(sys.argv[1]), count=3)\n"
            "print(slots.take() is not None, slots.take() is not None, flush=True)\n"
            "time.sleep(60)\n"
        )
        child = subprocess.Popen(
            [os.sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"True True\n"
        mine = slots.take()
        assert mine is not None
        assert slots.take() is None
        child.kill()
        child.wait()
        child.stdout.close()
        assert [slots.take() is None for _ in range(3)] == [False, False, True]
        mine.release()
        assert slots.take() == mine
        slots.close()

"""What is granted to a caller, over real sockets: how many associations, in which syntaxes."""

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from pynetdicom import build_context
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification

from gantry_dimse.limits import Terms
from gantry_dimse.observer import Fault, Peer
from gantry_dimse.partners import Caller, Partners
from gantry_dimse.pdu import HEADER
from gantry_dimse.slots import AssociationSlots, claims_of
from gantry_testkit.door import (
    EXPLICIT,
    IMPLICIT,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    RELEASE,
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


def rejected(result: int, source: int, reason: int) -> bytes:
    return bytes((3, 0, 0, 0, 0, 4, 0, result, source, reason))


class TestProtocolVersion:
    def test_another_version_is_rejected(self, open_door: Callable[..., Door]) -> None:
        door = open_door()
        request = bytearray(association_request())
        request[6:8] = b"\0\2"
        assert exchange(door, bytes(request)) == rejected(1, 2, 2)
        assert door.echo() == 0

    def test_only_the_first_bit_counts(self, open_door: Callable[..., Door]) -> None:
        door = open_door()
        request = bytearray(association_request())
        request[6:8] = b"\x80\3"
        assert exchange(door, bytes(request))[0] == 2


class TestLimitOfOneCaller:
    @pytest.fixture
    def slots(self, tmp_path: Path) -> Iterator[AssociationSlots]:
        slots = AssociationSlots(tmp_path / "slots", count=10)
        yield slots
        slots.close()

    def test_a_greedy_caller_leaves_room_for_others(
        self, slots: AssociationSlots, open_door: Callable[..., Door]
    ) -> None:
        partners = Partners(
            own_titles=["GANTRY"],
            callers=[Caller("RAW", None, "main", max_associations=2)],
            accept_unknown=True,
            max_associations=1,
        )
        door = open_door(slots=slots, terms=partners.terms)
        held = [established(door) for _ in range(2)]
        assert exchange(door, association_request()) == rejected(2, 3, 2)
        assert slots.held == 2
        # A stranger has the limit of all, and case makes no second caller of one.
        with associated(door, calling_ae="CT01") as first:
            assert first.is_established
            with associated(door, calling_ae="ct01") as second:
                assert second.is_rejected
        held[0].close()
        until(lambda: slots.held == 1)
        held[0] = established(door)
        for sock in held:
            sock.close()
        until(lambda: slots.held == 0)

    def test_the_limit_of_all_holds_for_those_with_their_own(
        self, open_door: Callable[..., Door], tmp_path: Path
    ) -> None:
        slots = AssociationSlots(tmp_path / "few", count=1)
        door = open_door(slots=slots, terms=lambda _peer: Terms(max_associations=5))
        with established(door):
            assert exchange(door, association_request()) == rejected(2, 3, 2)
        until(lambda: slots.held == 0)
        door.server.close()  # its threads may still have the slots in hand
        slots.close()

    def test_processes_count_one_caller_together(self, tmp_path: Path) -> None:
        mine = AssociationSlots(tmp_path / "slots", count=10)
        terms = Terms(max_associations=1)
        first, same, other = (
            claims_of(Peer(title, "GANTRY", "192.0.2.1"), terms) for title in ("CT01", "ct01", "B")
        )
        taken = mine.take(first)
        assert taken is not None
        assert mine.take(same) is None
        assert mine.take(other) is not None
        taken.release()
        assert mine.take(first) is not None
        assert mine.held == 2
        mine.close()


class TestLimitOfOneHost:
    def test_whatever_the_titles(self, open_door: Callable[..., Door], tmp_path: Path) -> None:
        slots = AssociationSlots(tmp_path / "slots", count=10)
        partners = Partners(
            own_titles=["GANTRY"], callers=[], accept_unknown=True, max_associations_per_host=2
        )
        # Behind a balancer every caller is the host that it names.
        door = open_door(
            slots=slots, terms=partners.terms, proxies=[ip_network("127.0.0.1")], acse_timeout=5
        )

        def ask(host: str) -> tuple[socket.socket, bytes]:
            sock = door.connect()
            sock.sendall(f"PROXY TCP4 {host} 127.0.0.1 5000 11112\r\n".encode())
            sock.sendall(association_request())
            return sock, sock.recv(10, socket.MSG_WAITALL)

        # Those that have not asked yet do not count.
        silent = [door.connect() for _ in range(5)]
        held = [ask("192.0.2.1") for _ in range(2)]
        assert [answer[0] for _, answer in held] == [2, 2]
        last, answer = ask("192.0.2.1")
        assert answer == rejected(2, 3, 2)
        other, answer = ask("192.0.2.2")
        assert answer[0] == 2
        held[0][0].close()
        until(lambda: slots.held == 2)
        again, answer = ask("192.0.2.1")
        assert answer[0] == 2
        for sock in (last, other, again, held[1][0], *silent):
            sock.close()
        until(lambda: slots.held == 0)
        door.server.close()  # its threads may still have the slots in hand
        slots.close()

    def test_one_that_only_connects_leaves_room_for_others(
        self, open_door: Callable[..., Door]
    ) -> None:
        door = open_door(max_pending_per_host=3)
        silent = [door.connect() for _ in range(3)]
        with door.connect() as fourth:
            assert fourth.recv(10) == b""
        until(lambda: door.notes.faults == [Fault.TOO_MANY])
        assert door.notes.fault_details == ["from one host, without a request"]
        # Those that ask are no longer among them.
        silent[0].sendall(association_request())
        assert silent[0].recv(1) == b"\2"
        assert door.echo() == 0
        for sock in silent:
            sock.close()


class TestSyntaxesOfOneCaller:
    def test_a_partners_order_replaces_ours(self, open_door: Callable[..., Door]) -> None:
        partners = Partners(
            own_titles=["GANTRY"],
            callers=[
                Caller("CT01", None, "main", transfer_syntaxes=(JPEG_BASELINE, IMPLICIT)),
            ],
            accept_unknown=True,
        )
        door = open_door(terms=partners.terms)
        contexts = [
            build_context(CTImageStorage, [EXPLICIT, IMPLICIT, JPEG_BASELINE]),
            build_context(CTImageStorage, [EXPLICIT, IMPLICIT]),
            build_context(CTImageStorage, [EXPLICIT, JPEG_LOSSLESS]),
            build_context(Verification, [EXPLICIT]),
        ]
        chosen = {}
        for title in ("CT01", "OTHER"):
            with associated(door, contexts=contexts, calling_ae=title) as assoc:
                chosen[title] = [str(cx.transfer_syntax[0]) for cx in assoc.accepted_contexts]
                assert assoc.send_c_echo().Status == 0
        assert chosen["CT01"] == [JPEG_BASELINE, IMPLICIT, EXPLICIT]
        assert chosen["OTHER"] == [EXPLICIT] * 4


class TestClassesOfOneCaller:
    def test_those_alone_are_taken(self, open_door: Callable[..., Door]) -> None:
        partners = Partners(
            own_titles=["GANTRY"],
            callers=[Caller("CT01", None, "main", storage_classes=frozenset({MRImageStorage}))],
            accept_unknown=True,
        )
        door = open_door(terms=partners.terms)
        contexts = [build_context(each) for each in (CTImageStorage, MRImageStorage)]
        taken = {}
        for title in ("CT01", "OTHER"):
            with associated(door, contexts=contexts, calling_ae=title) as assoc:
                taken[title] = {str(cx.abstract_syntax) for cx in assoc.accepted_contexts}
                # A class that is named in a context of another is still none of its classes.
                image = ct()
                image.SOPClassUID = MRImageStorage
                assert assoc.send_c_store(image).Status == 0
        assert taken == {"CT01": {MRImageStorage}, "OTHER": {CTImageStorage, MRImageStorage}}

    def test_another_class_in_its_context_is_none_of_them(
        self, open_door: Callable[..., Door]
    ) -> None:
        door = open_door(terms=lambda _peer: Terms(storage_classes={str(MRImageStorage)}))
        with door.connect() as sock:
            sock.sendall(association_request(SOPClassUID=MRImageStorage.encode()))
            assert sock.recv(1) == b"\2"
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(2, b"x")) + RELEASE)
            answer = receive(sock)
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x22\x01" in answer  # Status 0122
        assert not door.storage.stored


def test_no_longer_pdu_is_sent_than_configured(open_door: Callable[..., Door]) -> None:
    door = open_door(max_pdu_sent=64)
    with established(door) as sock:
        sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(2, b"x")) + RELEASE)
        answer = receive(sock)
    lengths = []
    while answer[0] == 4:
        length = HEADER.unpack(answer[:6])[1]
        lengths.append(length)
        answer = answer[6 + length :]
    assert len(lengths) > 1
    assert max(lengths) <= 64


def test_hosts_and_titles_decide_before_the_limits(open_door: Callable[..., Door]) -> None:
    asked: list[Peer] = []

    def terms(peer: Peer) -> Terms:
        asked.append(peer)
        return Terms()

    partners = Partners(own_titles=["GANTRY"], callers=[], accept_unknown=False)
    door = open_door(admit=partners.admit, terms=terms)
    assert exchange(door, association_request()) == rejected(1, 1, 3)
    assert asked == []

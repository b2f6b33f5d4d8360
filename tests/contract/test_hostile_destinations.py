"""Destinations that misbehave for a while: in the end both sides have counted the same.

Those that refuse for good, hang for ever or take one transfer syntax alone are in the tests of
forwarding; here each comes to its senses, and has every instance, once where it was answered.
"""

import socket
import struct
import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy.engine import Engine

from gantry_domain.deliveries import DeliveryState
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.hostile_peer import ABORT, Hostile, accept, answer, receive, receive_store

P_DATA, RELEASE_REQUEST, RELEASE_RESPONSE = b"\4", b"\5", struct.pack(">BxL4x", 6, 4)
IMAGES = 6
ROUNDS = 5


class Peer:
    """Misbehaves as `trouble` says: called before each instance, it returns the status of its
    answer; None: nothing more is done on this association."""

    def __init__(self, trouble: Callable[["Peer", socket.socket], int | None]) -> None:
        self.trouble = trouble
        self.begun: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.associations = 0

    def __call__(self, connection: socket.socket) -> None:
        accept(connection)
        self.associations += 1
        while (kind := connection.recv(1, socket.MSG_PEEK)) == P_DATA:
            if self.troubled(connection):
                return
        if kind == RELEASE_REQUEST:
            connection.sendall(RELEASE_RESPONSE)

    def troubled(self, connection: socket.socket) -> bool:
        """Take one instance; whether that was the end of the association."""
        status = self.trouble(self, connection)
        if status is None:
            return True
        message_id, uid = receive_store(connection)
        self.begun[uid] += 1
        if status in (0x0000, 0xB000):
            self.taken[uid] += 1
        connection.sendall(answer(status, message_id))
        return False


def never_answers(peer: Peer, connection: socket.socket) -> int | None:
    if peer.associations > 2:
        return 0x0000
    _, uid = receive_store(connection)
    peer.begun[uid] += 1
    connection.settimeout(20)
    connection.recv(1)  # until the other side has had enough
    return None


def aborts_at_the_third(peer: Peer, connection: socket.socket) -> int | None:
    if peer.begun.total() != 2:
        return 0x0000
    _, uid = receive_store(connection)
    peer.begun[uid] += 1
    connection.sendall(ABORT)
    return None


def drops_the_link_in_mid_object(peer: Peer, connection: socket.socket) -> int | None:
    if peer.associations != 2 and peer.begun.total() != 3:
        return 0x0000
    receive(connection)  # the command, and not what follows
    peer.begun["cut"] += 1
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return None


def has_no_room_for_a_while(peer: Peer, _connection: socket.socket) -> int:
    return 0xA700 if peer.begun.total() < 4 else 0x0000


def warns(_peer: Peer, _connection: socket.socket) -> int:
    return 0xB000


def is_slow_as_a_modem(_peer: Peer, connection: socket.socket) -> int:
    waiting = 0
    while waiting < 512 and waiting != (waiting := len(connection.recv(1 << 16, socket.MSG_PEEK))):
        time.sleep(0.05)
    return 0x0000


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


@pytest.mark.parametrize(
    ("trouble", "rounds", "repeated"),
    [
        (never_answers, 3, 2),
        (aborts_at_the_third, 2, 1),
        (drops_the_link_in_mid_object, 2, 0),
        (has_no_room_for_a_while, 3, 4),
        (warns, 1, 0),
        (is_slow_as_a_modem, 1, 0),
    ],
)
def test_both_sides_have_counted_the_same_in_the_end(
    archive: ForwardingArchive,
    hostile: Hostile,
    trouble: Callable[[Peer, socket.socket], int | None],
    rounds: int,
    repeated: int,
) -> None:
    study, uids = archive.study(images=IMAGES)
    peer = Peer(trouble)
    port = hostile(peer).port
    pk = archive.push(study)
    took = 0
    while archive.line(pk).state.open and took < ROUNDS:
        archive.send(port)
        archive.due_now()
        took += 1
        there = {uid for uid, (state, _, _) in archive.items(pk).items() if state != "failed"}
        assert archive.line(pk).sent == len(peer.taken)
        assert {uid for uid in there if uid in peer.taken} == set(peer.taken)
    assert archive.line(pk).state is DeliveryState.DELIVERED
    assert (took, peer.taken) == (rounds, Counter(uids))
    assert sum(peer.begun[uid] for uid in uids) == IMAGES + repeated
    assert archive.line(pk).warned == (IMAGES if trouble is warns else 0)

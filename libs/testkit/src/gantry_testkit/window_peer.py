"""A peer to which several instances may be on their way at once (PS3.7 D.3.3.3)."""

import socket
import struct
from collections.abc import Callable

from gantry_testkit.hostile_peer import ABORT, accept, answer, receive_store

_RELEASE_REQUEST, _RELEASE_RESPONSE = 5, struct.pack(">BxL4x", 6, 4)


class WindowPeer:
    """A peer that reads `window` requests before it answers, the last one first."""

    def __init__(self, window: int | None, *, instances: int, at_once: int = 1) -> None:
        self.window, self.left, self.at_once = window, instances, at_once
        self.asked: list[int] = []
        self.uids: list[str] = []
        self.statuses: dict[str, int] = {}
        self.abort_at: Callable[[str], bool] = lambda _uid: False

    def __call__(self, connection: socket.socket) -> None:
        self.asked.append(accept(connection, window=self.window))
        # Where nothing is granted, or no more than one asked for, each waits for its answer.
        at_once = min(self.at_once, self.asked[-1])
        waiting: list[tuple[int, str]] = []
        while connection.recv(1, socket.MSG_PEEK) not in (b"", bytes([_RELEASE_REQUEST])):
            message_id, uid = receive_store(connection)
            if self.abort_at(uid):
                connection.sendall(ABORT)
                return
            self.uids.append(uid)
            waiting.append((message_id, uid))
            self.left -= 1
            if len(waiting) == at_once or not self.left:
                for number, name in reversed(waiting):
                    connection.sendall(answer(self.statuses.get(name, 0), number))
                waiting.clear()
        connection.sendall(_RELEASE_RESPONSE)

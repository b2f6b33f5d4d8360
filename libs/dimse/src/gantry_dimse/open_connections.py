"""The connections of one process: how many at all, and how many of a host that ask for nothing yet.

Who only connects holds no association's slot. So that one host cannot take all the room that is
left for such connections, each has a share of it.
"""

import threading
from collections import Counter

from gantry_dimse.connection import Connection


class OpenConnections:
    """Safe for many threads."""

    def __init__(self, *, most: int, most_pending_of_host: int) -> None:
        """`most_pending_of_host`: connections of one host that brought no request yet."""
        self._most = most
        self._most_pending = most_pending_of_host
        self._changed = threading.Condition()
        self._open: set[Connection] = set()
        self._pending: dict[Connection, str] = {}
        self._pending_of: Counter[str] = Counter()

    def add(self, connection: Connection, host: str | None) -> str:
        """Take a new connection in. Empty, or why there is no room for it.

        `host`: None where that is not known yet, behind a proxy.
        """
        with self._changed:
            if len(self._open) >= self._most:
                return "from all hosts together"
            if host is not None:
                if self._pending_of[host] >= self._most_pending:
                    return "from one host, without a request"
                self._pending_of[host] += 1
                self._pending[connection] = host
            self._open.add(connection)
            return ""

    def requested(self, connection: Connection) -> None:
        """It brought a request for an association."""
        with self._changed:
            self._forget_pending(connection)

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        with self._changed:
            self._forget_pending(connection)
            self._open.discard(connection)
            self._changed.notify_all()

    def break_off(self, *, patience: float) -> None:
        """Break all of them, and wait until they are closed."""
        with self._changed:
            for connection in self._open:
                connection.break_off()
            self._changed.wait_for(lambda: not self._open, patience)

    def _forget_pending(self, connection: Connection) -> None:
        host = self._pending.pop(connection, None)
        if host is not None:
            self._pending_of[host] -= 1
            if not self._pending_of[host]:
                del self._pending_of[host]

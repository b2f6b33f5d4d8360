"""Hints that a delivery is due, so that what a person pushed need not wait for the next look.

PostgreSQL passes them on when the transaction commits (LISTEN, NOTIFY). They are hints and no more:
whoever listens looks by itself now and then. Behind a pooler that shares connections none arrive.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import psycopg
from sqlalchemy.engine import Connection, Engine

from gantry_domain.errors import TransientError

_CHANNEL = "gantry_deliveries"

# How soon a stop is noticed, in seconds.
_BREATH = 0.25


def hint_due(connection: Connection) -> None:
    """Tell those who listen, once this transaction is committed."""
    connection.exec_driver_sql(f"NOTIFY {_CHANNEL}")


class DueHints:
    """Waits for hints on a connection of its own, which `engine` has to have to spare."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float, *, stopped: Callable[[], bool]) -> None:
        """Return at a hint, or after so many seconds, or soon after something is `stopped`.

        Without a database it waits, and raises nothing.
        """
        until = time.monotonic() + seconds
        try:
            if self._connection is None:
                self._connection = self._listen()
            while not stopped() and (left := until - time.monotonic()) > 0:
                if any(self._connection.notifies(timeout=min(left, _BREATH), stop_after=1)):
                    return
        except (psycopg.Error, TransientError):
            self.close()
            while not stopped() and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, _BREATH))

    def close(self) -> None:
        """Give the connection up; another `wait` makes a new one."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _listen(self) -> psycopg.Connection[Any]:
        pooled = self._engine.raw_connection()
        connection = cast("psycopg.Connection[Any]", pooled.driver_connection)
        pooled.detach()
        connection.autocommit = True
        connection.execute(f"LISTEN {_CHANNEL}")
        return connection

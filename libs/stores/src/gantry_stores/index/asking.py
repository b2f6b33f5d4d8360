"""One question to the index: one message there, one back, and no thread that waits in between.

    statement_timeout │ the statement │ sync ──▶ PostgreSQL ──▶ rows

What is sent in one pipeline without a BEGIN is one transaction of its own, in which the limit is
set and with which it ends. libpq is spoken to directly (`psycopg.pq`): so whoever asks may look up
now and then, and a small question costs a third of what it does by a cursor.
"""

import select
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from sqlalchemy.engine import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gantry_stores.index.database import (
    STATEMENT_LIMIT,
    IndexRefused,
    IndexUnavailable,
    named,
    named_state,
)
from gantry_stores.index.values import Values

Row = tuple[Any, ...]

_SET_LIMIT = b"SELECT set_config('statement_timeout', $1, true)"
# An answer wakes who waits for it: this is only how often a loop comes round.
_LOOK_SECONDS = 60.0
# That it is no longer wanted is worth telling the server, but not worth waiting long for.
_CANCEL_SECONDS = 2.0


def ask(engine: Engine, text: str, values: Values) -> list[Row]:
    """The rows of one statement that only reads, within the time that a transaction's may take.

    Raises `IndexUnavailable`, `IndexRefused`.
    """
    with Asking(engine, text, values) as asking:
        return asking.rows()


class Asking:
    """A question under way, with a connection of its own until it is closed.

    One that is closed before it is answered is cancelled.
    """

    def __init__(self, engine: Engine, text: str, values: Values) -> None:
        """Send it. Raises `IndexUnavailable`."""
        try:
            self._pooled = engine.raw_connection()
        except PoolTimeout as error:
            raise IndexUnavailable() from error
        except psycopg.Error as error:
            raise named(error) from error
        self._session: psycopg.Connection[Any] = self._pooled.driver_connection  # type: ignore[assignment]
        self._results: list[pq.abc.PGresult] = []
        self._answered = False
        try:
            self._send(engine.get_execution_options()[STATEMENT_LIMIT], text, values)
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                raise named(error) from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def answered(self, patience: float) -> bool:
        """Whether the answer is here, after so many seconds at most. Raises `IndexUnavailable`."""
        deadline = time.monotonic() + patience
        try:
            while not self._take():
                left = deadline - time.monotonic()
                if left <= 0 or not self._wait(left):
                    return False
                self._session.pgconn.consume_input()
        except psycopg.Error as error:
            raise named(error) from error
        return True

    def rows(self) -> list[Row]:
        """The answer, once it is here. Raises `IndexUnavailable`, `IndexRefused`."""
        while not self.answered(_LOOK_SECONDS):
            pass
        for result in self._results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise _refusal(result)
        found = self._results[-1]
        reader = Transformer(self._session)
        reader.set_pgresult(found)
        return reader.load_rows(0, found.ntuples, tuple)

    def close(self) -> None:
        """Give the connection back."""
        if not self._answered:
            self._cancel()
            self._pooled.invalidate()
        self._pooled.close()

    def _send(self, limit: str, text: str, values: Values) -> None:
        server = self._session.pgconn
        server.enter_pipeline_mode()
        server.send_query_params(_SET_LIMIT, [limit.encode()])
        server.send_query_params(text.encode(), values.encoded)
        server.pipeline_sync()
        while server.flush():
            # There is more than fits into the socket; what comes back has to be taken from it.
            self._wait(_LOOK_SECONDS, sending=True)
            server.consume_input()

    def _take(self) -> bool:
        """Whether all of the answer has been taken from what has come."""
        server = self._session.pgconn
        while not self._answered and not server.is_busy():
            result = server.get_result()
            if result is None:
                # The end of one of the statements, or of the connection.
                if server.status == pq.ConnStatus.BAD:
                    raise psycopg.OperationalError("the connection is lost")
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                server.exit_pipeline_mode()
                self._answered = True
            else:
                self._results.append(result)
        return self._answered

    def _wait(self, seconds: float, *, sending: bool = False) -> bool:
        poll = select.poll()
        wanted = select.POLLIN | select.POLLOUT if sending else select.POLLIN
        poll.register(self._session.pgconn.socket, wanted)
        return bool(poll.poll(seconds * 1000))

    def _cancel(self) -> None:
        # Where that fails, it is gone or ends by its limit of time.
        with suppress(psycopg.Error):
            self._session.cancel_safe(timeout=_CANCEL_SECONDS)


def _refusal(result: pq.abc.PGresult) -> IndexUnavailable | IndexRefused:
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    constraint = result.error_field(pq.DiagnosticField.CONSTRAINT_NAME)
    if state is None:  # of libpq, not of the server
        return IndexUnavailable()
    return named_state(state.decode(), None if constraint is None else constraint.decode())

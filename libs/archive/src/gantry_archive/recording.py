"""Writes down what became of instances while the next are sent.

Answers that come soon after each other are written by one statement; none waits for longer than a
blink. At most a few are not written yet: so many may be sent again after a kill, and no more.
"""

import threading

from sqlalchemy.engine import Engine

from gantry_stores.index.database import one_statement
from gantry_stores.index.delivery_leases import Claim, ItemOutcome, record_all

MOST_UNWRITTEN = 8
"""Answers that may wait to be written, or be on their way; who sends waits then."""

_TOGETHER = MOST_UNWRITTEN // 2
_BLINK_SECONDS = 0.01


class Recorder:
    """The outcomes of one round, written by a thread that is there from the first one on."""

    def __init__(self, engine: Engine, claim: Claim) -> None:
        self._engine = engine
        self._claim = claim
        self._changed = threading.Condition()
        self._waiting: list[tuple[str, ItemOutcome]] = []
        self._writing = 0
        self._closed = False
        self._flushing = False
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def put(self, SOPInstanceUID: str, outcome: ItemOutcome) -> None:
        """Have it written; waits while too much is not. Raises what writing raised: `LeaseLost`, or
        the errors of the index."""
        with self._changed:
            self._check()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
                self._thread.start()
            self._waiting.append((SOPInstanceUID, outcome))
            self._changed.notify_all()
            while len(self._waiting) + self._writing > MOST_UNWRITTEN and self._error is None:
                self._changed.wait()
            self._check()

    def flush(self) -> None:
        """Return when all is written. Raises as `put` does."""
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            while (self._waiting or self._writing) and self._error is None:
                self._changed.wait()
            self._flushing = False
            self._check()

    def close(self) -> None:
        """Write what waits, if that can be, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _is_time(self) -> bool:
        return self._closed or self._flushing or len(self._waiting) >= _TOGETHER

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._changed.wait_for(self._is_time, _BLINK_SECONDS)
                if not self._waiting:
                    return
                some, self._waiting = self._waiting, []
                self._writing = len(some)
            error: Exception | None = None
            try:
                with one_statement(self._engine) as connection:
                    record_all(connection, self._claim, some)
            # The thread's door: it is raised again where the instances are sent.
            except Exception as raised:  # noqa: BLE001
                error = raised
            with self._changed:
                self._writing, self._error = 0, error
                self._changed.notify_all()
            if error is not None:
                return

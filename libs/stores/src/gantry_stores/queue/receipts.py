"""Publishes receipts of staged objects to the workers, many per message, from a thread of its own.

Whoever stages an object never waits for the broker: receipts go to a bounded buffer. The sweep
repairs what the broker or this buffer loses.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from gantry_domain.receipts import Receipt, encode_receipts
from gantry_stores.queue.names import INDEX_QUEUE, INDEX_TASK

_SOON = 0.05
_SHORTEST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


def _ignore(_number: int) -> None:
    pass


class ReceiptPublisher:
    """Receipts on their way to the broker, in the order in which they came.

    A batch is sent when it is full, or `linger` seconds after the one before it: what a worker does
    for a batch costs more than what it does for an object, so many small ones keep it busy. After
    some quiet it goes almost at once. While the broker is away the buffer fills; beyond `capacity`
    receipts are dropped and counted.
    """

    def __init__(
        self,
        app: Celery,
        *,
        capacity: int = 10_000,
        batch: int = 100,
        linger: float = 0.2,
        on_published: Callable[[int], None] = _ignore,
        on_dropped: Callable[[int], None] = _ignore,
        on_waiting: Callable[[int], None] = _ignore,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        """Start the thread.

        `on_published` and `on_dropped` get numbers of receipts as they happen, `on_waiting` the
        number in the buffer, `on_failure` each failed attempt; all are called from any thread.
        """
        self._app = app
        self._capacity = capacity
        self._batch = batch
        self._linger = linger
        self._on_published = on_published
        self._on_dropped = on_dropped
        self._on_waiting = on_waiting
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._buffer: deque[Receipt] = deque()
        self._closing = False
        self._deadline = float("inf")
        self._sent_at = time.monotonic()
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many receipts are in the buffer."""
        return len(self._buffer)

    def publish(self, receipt: Receipt) -> None:
        """Hand a receipt over; never blocks and never fails."""
        with self._changed:
            # The sweep finds the object of a receipt that is dropped, so an image that is safe
            # in the store is never refused because the broker is away.
            accepted = len(self._buffer) < self._capacity and not self._closing
            if accepted:
                self._buffer.append(receipt)
                waiting = len(self._buffer)
                if waiting in (1, self._batch):
                    self._changed.notify_all()
        if accepted:
            self._on_waiting(waiting)
        else:
            self._on_dropped(1)

    def close(self, timeout: float) -> None:
        """Send what waits, for at most `timeout` seconds; what is left then counts as dropped."""
        with self._changed:
            self._closing = True
            self._deadline = time.monotonic() + timeout
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            left = len(self._buffer)
            self._buffer.clear()
        if left:
            self._on_dropped(left)
            self._on_waiting(0)

    def _run(self) -> None:
        pause = _SHORTEST_PAUSE
        while batch := self._next_batch():
            try:
                self._send(batch)
            except (OperationalError, RedisError, OSError) as error:
                self._disconnect()
                if self._on_failure is not None:
                    self._on_failure(error)
                if not self._pause(pause):
                    break
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _SHORTEST_PAUSE
            self._sent_at = time.monotonic()
            with self._changed:
                # `close` may have given up and cleared the buffer meanwhile.
                for _ in range(min(len(batch), len(self._buffer))):
                    self._buffer.popleft()
                waiting = len(self._buffer)
            self._on_published(len(batch))
            self._on_waiting(waiting)
        self._disconnect()

    def _next_batch(self) -> list[Receipt]:
        """Wait for a batch that is due; it stays in the buffer. Empty when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._buffer or self._closing)
            if not self._closing:
                self._changed.wait_for(
                    lambda: len(self._buffer) >= self._batch or self._closing,
                    max(_SOON, self._sent_at + self._linger - time.monotonic()),
                )
            return [self._buffer[n] for n in range(min(self._batch, len(self._buffer)))]

    def _pause(self, seconds: float) -> bool:
        """Wait before the next attempt; False when there is no time for one."""
        with self._changed:
            if not self._closing:
                self._changed.wait_for(lambda: self._closing, seconds)
                return True
            seconds = min(seconds, _SHORTEST_PAUSE)
            self._changed.wait(seconds)
            return time.monotonic() < self._deadline

    def _send(self, batch: list[Receipt]) -> None:
        if self._connection is None:
            # A channel of our own: the one that Celery's pool would make retries for ever.
            self._connection = self._app.connection_for_write()
            self._producer = self._app.amqp.Producer(self._connection.channel())
        self._app.send_task(
            INDEX_TASK,
            args=[encode_receipts(batch)],
            queue=INDEX_QUEUE,
            producer=self._producer,
            retry=False,
            ignore_result=True,
        )

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()

"""What a worker asks of the broker itself: how long a queue is, and to take receipts."""

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu import Connection

from gantry_domain.errors import TransientError
from gantry_domain.receipts import Receipt, encode_receipts
from gantry_stores.queue.names import INDEX_QUEUE, INDEX_TASK


class BrokerUnavailable(TransientError):
    """The broker does not answer."""

    def __init__(self) -> None:
        super().__init__("the broker is not available")


class Broker:
    """A connection of this process's own, opened when first used and after each failure."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None

    def length(self, queue: str) -> int:
        """How many messages wait in a queue. Raises `BrokerUnavailable`."""
        connection = self._open()
        try:
            channel: Any = connection.default_channel
            return int(channel.client.llen(queue))  # the queue is a list of Redis
        except self._errors(connection) as error:
            self.close()
            raise BrokerUnavailable from error

    def publish(self, receipts: Sequence[Receipt]) -> None:
        """Send receipts to be indexed. Raises `BrokerUnavailable`."""
        connection = self._open()
        try:
            self._app.send_task(
                INDEX_TASK,
                args=[encode_receipts(receipts)],
                queue=INDEX_QUEUE,
                producer=self._app.amqp.Producer(connection.default_channel),
                retry=False,
                ignore_result=True,
            )
        except self._errors(connection) as error:
            self.close()
            raise BrokerUnavailable from error

    def close(self) -> None:
        """End the connection; another is opened when needed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def _open(self) -> Connection:
        if self._connection is None:
            connection = self._app.connection_for_write()
            try:
                connection.ensure_connection(
                    max_retries=1, timeout=5, reraise_as_library_errors=False
                )
            except self._errors(connection) as error:
                connection.release()
                raise BrokerUnavailable from error
            self._connection = connection
        return self._connection

    @staticmethod
    def _errors(connection: Connection) -> tuple[type[BaseException], ...]:
        return (*connection.connection_errors, *connection.channel_errors, OSError)

"""Short questions to the broker's Redis on the way of an object: answered at once or not at all."""

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from gantry_domain.errors import TransientError
from gantry_stores.queue.address import broker_address

ScriptsT = TypeVar("ScriptsT")

_PATIENCE_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_MOST_ASKING = 64
_AWAY = (OperationalError, RedisError, OSError)


class PlacesAway(TransientError):
    """The broker does not answer: nobody knows how many images a study has."""

    def __init__(self) -> None:
        super().__init__("the broker does not answer")


class BrokerAsked(ABC, Generic[ScriptsT]):
    """A connection for such questions. Safe for many threads; made when first asked, after a
    fork."""

    def __init__(self, broker_url: str) -> None:
        """`broker_url`: as `gantry_stores.queue.address` reads it, with its password."""
        self._address = broker_address(broker_url)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._scripts: ScriptsT | None = None
        self._not_before = 0.0

    @abstractmethod
    def _scripts_of(self, client: Any) -> ScriptsT:
        """What is asked, made for a client."""

    def close(self) -> None:
        """Leave the broker."""
        with self._lock:
            connection, self._connection, self._scripts = self._connection, None, None
        if connection is not None:
            connection.release()

    def _ask(self, question: Callable[[ScriptsT], Any]) -> Any:
        scripts = self._reach()
        try:
            answer = question(scripts)
            return 0 if answer is None else answer
        except _AWAY as error:
            with self._lock:
                if self._scripts is scripts:
                    self._scripts = None
                    self._not_before = time.monotonic() + _RETRY_SECONDS
            raise PlacesAway from error

    def _reach(self) -> ScriptsT:
        with self._lock:
            if self._scripts is not None:
                return self._scripts
            # Images must not wait one after the other for a broker that is away.
            if time.monotonic() < self._not_before:
                raise PlacesAway
            try:
                self._scripts = self._connect()
            except _AWAY as error:
                self._not_before = time.monotonic() + _RETRY_SECONDS
                raise PlacesAway from error
            return self._scripts

    def _connect(self) -> ScriptsT:
        if self._connection is not None:
            self._connection.release()
        self._connection = Connection(
            self._address.url,
            ssl=self._address.tls or False,
            transport_options={
                **self._address.options,
                "socket_timeout": _PATIENCE_SECONDS,
                "socket_connect_timeout": _PATIENCE_SECONDS,
                "socket_keepalive": True,
                "max_connections": _MOST_ASKING,
            },
        )
        # Left to itself kombu waits for two seconds between its two attempts.
        self._connection.ensure_connection(
            max_retries=1, interval_start=0, interval_step=0, reraise_as_library_errors=False
        )
        channel: Any = self._connection.channel()
        client = channel.client
        return self._scripts_of(client)


def number_of(uid: str) -> int:
    """A number that stands for a UID: of a hundred thousand two have the same by a chance of 1 in a
    billion."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big") >> 1

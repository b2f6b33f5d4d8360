"""How many images each study has, counted by all machines together, in the broker's Redis.

A study is a set of its images, each a number that follows from the SOP Instance UID, and a member
that says that the set was filled from the index.

    gantry:images:main:1.2.3     -  5577006791947779410  8674665223082153551

Nothing is lost with it: a set that is gone is filled anew.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple

from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from gantry_domain.errors import TransientError
from gantry_stores.queue.address import broker_address

_KEY = "gantry:images:{}:{}"
_EXPIRY = timedelta(days=1)

# KEYS: the study. ARGV: the image, the limit, for how many milliseconds the study is remembered.
_RESERVE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 2 end
if redis.call('SCARD', KEYS[1]) > tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
return 1
"""

# KEYS: the study. ARGV: for how many milliseconds, and its images. The second changes nothing.
_FILL = """
if redis.call('EXISTS', KEYS[1]) == 1 then return end
redis.call('SADD', KEYS[1], '-')
for i = 2, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""

_PATIENCE_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_MOST_ASKING = 64
_AWAY = (OperationalError, RedisError, OSError)


class PlacesAway(TransientError):
    """The broker does not answer: nobody knows how many images a study has."""

    def __init__(self) -> None:
        super().__init__("the broker does not answer")


class Place(Enum):
    """What becomes of asking for the place of an image."""

    FULL = 0
    TAKEN = 1
    KNOWN = 2
    """The image has had it before: it is sent again."""


class _Scripts(NamedTuple):
    reserve: Any
    fill: Any
    client: Any


class ImagePlaces:
    """The places of images. Safe for many threads; connects when first asked, after a fork."""

    def __init__(self, broker_url: str) -> None:
        """`broker_url`: as `gantry_stores.queue.address` reads it, with its password."""
        self._address = broker_address(broker_url)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._scripts: _Scripts | None = None
        self._not_before = 0.0

    def reserve(
        self,
        partition: str,
        StudyInstanceUID: str,
        SOPInstanceUID: str,
        *,
        limit: int,
        images: Callable[[], Iterable[str]],
    ) -> Place:
        """A place among at most `limit`; one round trip, three for the first image of a study.

        `images` gives those that the study has, if nobody knows. Raises `PlacesAway`, and what
        `images` raises.
        """
        key = _KEY.format(partition, StudyInstanceUID)
        arguments = [_number(SOPInstanceUID), limit, _milliseconds()]
        answer = self._ask(lambda scripts: scripts.reserve(keys=[key], args=arguments))
        if answer < 0:
            filling = [_milliseconds(), *map(_number, images())]
            self._ask(lambda scripts: scripts.fill(keys=[key], args=filling))
            answer = self._ask(lambda scripts: scripts.reserve(keys=[key], args=arguments))
        if answer < 0:
            raise PlacesAway
        return Place(answer)

    def release(self, partition: str, StudyInstanceUID: str, SOPInstanceUID: str) -> None:
        """Give a place back that was taken and not used. Raises `PlacesAway`."""
        key = _KEY.format(partition, StudyInstanceUID)
        self._ask(lambda scripts: scripts.client.srem(key, _number(SOPInstanceUID)))

    def close(self) -> None:
        """Leave the broker."""
        with self._lock:
            connection, self._connection, self._scripts = self._connection, None, None
        if connection is not None:
            connection.release()

    def _ask(self, question: Callable[[_Scripts], Any]) -> int:
        scripts = self._reach()
        try:
            return int(question(scripts) or 0)
        except _AWAY as error:
            with self._lock:
                if self._scripts is scripts:
                    self._scripts = None
                    self._not_before = time.monotonic() + _RETRY_SECONDS
            raise PlacesAway from error

    def _reach(self) -> _Scripts:
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

    def _connect(self) -> _Scripts:
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
        return _Scripts(client.register_script(_RESERVE), client.register_script(_FILL), client)


def _number(SOPInstanceUID: str) -> int:
    # Of a hundred thousand images two have the same by a chance of 1 in a billion.
    return int.from_bytes(hashlib.sha256(SOPInstanceUID.encode()).digest()[:8], "big") >> 1


def _milliseconds() -> int:
    return round(_EXPIRY.total_seconds() * 1000)

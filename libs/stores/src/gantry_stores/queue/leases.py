"""Places that many machines share, so many at a time of each name, as leases in the broker's Redis.

A name is a sorted set of leases by the time at which they expire, in milliseconds by the clock of
Redis. Whoever holds one renews it; those of a machine that died expire.

    gantry:places:ingress:ae ct01     0a3f... 1795284000123     81c2... 1795284001456

Nothing is lost with them: while Redis is away everybody gets a place, and what is held is told once
it is back.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from gantry_stores.queue.address import broker_address

EXPIRY_SECONDS = 20.0

_KEY = "gantry:places:{}:{}"

# KEYS: the names. ARGV: the lease, for how many milliseconds, and the limit of each name.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[i + 2]) then return 0 end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', key, ARGV[2])
end
return 1
"""

# KEYS: a name for each lease. ARGV: for how many milliseconds, how many of the leases are to be
# renewed, and the leases; the others are given back.
_TELL = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do
  if i <= tonumber(ARGV[2]) then
    redis.call('ZADD', key, now + ARGV[1], ARGV[i + 2])
    redis.call('PEXPIRE', key, ARGV[1])
  else
    redis.call('ZREM', key, ARGV[i + 2])
  end
end
"""

# A thread of an association waits for the broker no longer, and no more of them at once.
_PATIENCE_SECONDS = 0.5
_MOST_ASKING = 8
# Who is refused is asked for once more: the place that the caller has just left may still be on
# its way back.
_SECOND_THOUGHT_SECONDS = 0.1
_RETRY_SECONDS = 1.0

_AWAY = (OperationalError, RedisError, OSError)


def _ignore() -> None:
    pass


def _ignore_error(_error: Exception) -> None:
    pass


class _Scripts(NamedTuple):
    """The scripts on one connection to the broker."""

    take: Any
    tell: Any


@dataclass(frozen=True, slots=True)
class Lease:
    """A place under each of some names."""

    places: "LeasedPlaces"
    names: tuple[str, ...]
    number: str

    def release(self) -> None:
        """Give it back; blocks for nobody."""
        self.places.release(self)


class LeasedPlaces:
    """The places that this process holds, and a thread that renews them. Safe for many threads."""

    def __init__(
        self,
        broker_url: str,
        *,
        service: str,
        expiry: float = EXPIRY_SECONDS,
        on_away: Callable[[Exception], None] = _ignore_error,
        on_back: Callable[[], None] = _ignore,
    ) -> None:
        """Start the thread, which connects. Made after a fork, never before.

        `broker_url`: as `gantry_stores.queue.address` reads it, with its password. `service`: whose
        places they are. `expiry`: seconds until those of a dead process are free. `on_away` and
        `on_back` are called in turns, from any thread.
        """
        self._address = broker_address(broker_url)
        self._service = service
        self._expiry = round(expiry * 1000)
        self._every = expiry / 4
        self._on_away = on_away
        self._on_back = on_back
        self._changed = threading.Condition()
        self._asking = threading.BoundedSemaphore(_MOST_ASKING)
        self._held: set[Lease] = set()
        self._returned: list[Lease] = []
        self._due = 0.0
        self._closing = False
        self._away = False
        self._connection: Connection | None = None
        self._scripts: _Scripts | None = None
        """None: the broker is away, or was not reached yet."""
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    @property
    def shared(self) -> bool:
        """Whether the others see what this process holds: the broker is there."""
        return self._scripts is not None

    def take(self, wanted: Sequence[tuple[str, int]]) -> Lease | None:
        """A place under each name, or None where as many are taken as were given with a name.

        One round trip to the broker, a second before a refusal, none while it is away.
        """
        names = tuple(_KEY.format(self._service, name) for name, _ in wanted)
        lease = Lease(self, names, uuid.uuid4().hex)
        limits = [most for _, most in wanted]
        if not self._ask(lease, limits):
            time.sleep(_SECOND_THOUGHT_SECONDS)
            if not self._ask(lease, limits):
                return None
        with self._changed:
            self._held.add(lease)
        return lease

    def release(self, lease: Lease) -> None:
        """See `Lease.release`."""
        with self._changed:
            self._held.discard(lease)
            if self._scripts is not None:  # else it expires
                self._returned.append(lease)
                self._changed.notify_all()

    def close(self, timeout: float = 2.0) -> None:
        """Tell what was released, and end; what is still held expires."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _ask(self, lease: Lease, limits: Sequence[int]) -> bool:
        with self._asking:
            scripts = self._scripts
            if scripts is None:
                return True
            try:
                arguments = [lease.number, self._expiry, *limits]
                return bool(scripts.take(keys=lease.names, args=arguments))
            except _AWAY as error:
                self._lost(scripts, error)
                return True

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._returned or self._closing or time.monotonic() >= self._due,
                    max(0.0, self._due - time.monotonic()),
                )
                closing = self._closing
                renewed: list[Lease] = []
                if time.monotonic() >= self._due:
                    renewed = list(self._held)
                    self._due = time.monotonic() + self._every
                returned, self._returned = self._returned, []
            if self._scripts is not None or not closing:
                self._tell(renewed, returned)
        self._disconnect()

    def _tell(self, renewed: Sequence[Lease], returned: Sequence[Lease]) -> None:
        """Tell the broker, which is connected to where it has to be; what it misses expires."""
        scripts = self._scripts
        named = [(name, each.number) for each in (*renewed, *returned) for name in each.names]
        renewals = sum(len(each.names) for each in renewed)
        try:
            reached = scripts or self._connect()
            reached.tell(
                keys=[name for name, _ in named],
                args=[self._expiry, renewals, *(number for _, number in named)],
            )
        except _AWAY as error:
            self._lost(scripts, error)
            with self._changed:
                self._due = time.monotonic() + _RETRY_SECONDS
            return
        if scripts is None:
            with self._changed:
                self._scripts = reached
                self._due = 0.0  # for what was taken just now
                was_away, self._away = self._away, False
            if was_away:
                self._on_back()

    def _lost(self, scripts: _Scripts | None, error: Exception) -> None:
        """The broker failed; from any thread."""
        with self._changed:
            if self._scripts is not scripts:
                return  # somebody else has seen it already
            self._scripts = None
            was_away, self._away = self._away, True
            self._due = 0.0
            self._changed.notify_all()
        if not was_away:
            self._on_away(error)

    def _connect(self) -> _Scripts:
        self._disconnect()
        self._connection = Connection(
            self._address.url,
            ssl=self._address.tls or False,
            transport_options={
                **self._address.options,
                "socket_timeout": _PATIENCE_SECONDS,
                "socket_connect_timeout": _PATIENCE_SECONDS,
                "socket_keepalive": True,
                # One for each who asks, and one for the thread.
                "max_connections": _MOST_ASKING + 1,
            },
        )
        # Left to itself kombu waits for two seconds between its two attempts.
        self._connection.ensure_connection(
            max_retries=1, interval_start=0, interval_step=0, reraise_as_library_errors=False
        )
        channel: Any = self._connection.channel()
        client = channel.client
        return _Scripts(client.register_script(_TAKE), client.register_script(_TELL))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

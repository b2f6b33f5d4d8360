"""Object identifiers and keys: `objects/YYYY/MM/DD/HH/<uuid7>.dcm`, in order of reception.

The identifier is a UUID of version 7 (RFC 9562, 5.7), so its first 48 bits are the time of
reception in milliseconds of Unix time and the key follows from it alone:

     0                   48   52                 64  66                                  128
    | milliseconds, UTC | 7  | 1/4096 of a ms   | 10 | random                              |
"""

import os
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from gantry_domain.errors import PermanentError

OBJECTS = "objects/"

LONGEST_RECEPTION = timedelta(hours=6)
"""From the making of a key until its object is in the store: whoever receives one gives up before,
so that the sweep knows when no more keys of an hour can come."""

_KEY = re.compile(
    r"objects/\d{4}/\d{2}/\d{2}/\d{2}/"
    r"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})\.dcm"
)

_lock = threading.Lock()
_last_tick = 0


class NotAnObjectKey(PermanentError):
    """A key in the object store that Gantry did not write."""

    def __init__(self, key: str) -> None:
        super().__init__(f"not an object key: {key!r}")


def new_object_id() -> UUID:
    """A UUID of version 7, strictly increasing within this process."""
    global _last_tick  # noqa: PLW0603 - monotonic over the process is what RFC 9562, 6.2 asks for
    with _lock:
        tick = max(_last_tick + 1, time.time_ns() * 4096 // 1_000_000)
        _last_tick = tick
    return _from_tick(tick, int.from_bytes(os.urandom(8)))


def first_object_id(at: datetime) -> UUID:
    """The lowest identifier that an object received at `at` (aware) can have."""
    tick = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) * 4096
    return _from_tick(tick, 0)


def _from_tick(tick: int, random: int) -> UUID:
    milliseconds, fraction = divmod(tick, 4096)
    value = milliseconds << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return UUID(int=value)


def received_at(object_id: UUID) -> datetime:
    """When the reception of the object began: aware UTC, to the millisecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=object_id.int >> 80)


def hour_of(object_id: UUID) -> datetime:
    """The hour of the store that holds the object: aware UTC."""
    return received_at(object_id).replace(minute=0, second=0, microsecond=0)


def hour_prefix(hour: datetime) -> str:
    """The prefix under which all objects of an hour (aware) lie, with its closing slash."""
    return f"{OBJECTS}{hour.astimezone(UTC):%Y/%m/%d/%H}/"


def object_key(object_id: UUID) -> str:
    """The key of an object, for ever."""
    return f"{hour_prefix(hour_of(object_id))}{object_id}.dcm"


def parse_object_key(key: str) -> UUID:
    """The identifier of the object at `key`. Raises `NotAnObjectKey`."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise NotAnObjectKey(key)
    object_id = UUID(match[1])
    if object_key(object_id) != key:
        raise NotAnObjectKey(key)
    return object_id

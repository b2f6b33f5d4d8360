"""What every object store keeps to, and the errors that it raises.

A key is a path of printable segments divided by `/` (`objects/2024/05/01/12/<uuid>.dcm`); an
object is written once and never changes. Nothing is visible under its key before `commit`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gantry_domain.errors import PermanentError, TransientError

CHUNK = 1 << 20

# A segment never begins with a dot, so that a store may keep files of its own beside the objects.
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PREFIX = re.compile(rf"(?:{_SEGMENT}/)*(?:{_SEGMENT})?")
_LONGEST_KEY = 1024


class InvalidKey(PermanentError):
    """A key or prefix that no store would take."""


class ObjectNotFound(PermanentError):
    """There is no object under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key}")
        self.key = key


class ObjectExists(PermanentError):
    """There is an object under this key, and objects are never overwritten."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the object {key} exists already")
        self.key = key


class StoreUnavailable(TransientError):
    """The store does not answer, or not as it should."""


class StoreFull(TransientError):
    """The store has no room."""


class ObjectLost(TransientError):
    """What was written of an object so far may be lost: only a new writer can help."""


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """An object's key, its size in bytes, and when it was committed (aware UTC)."""

    key: str
    size: int
    modified: datetime
    sha256: bytes | None = None
    """Of its data set, as `commit` was told; not every store keeps it, and no listing tells it."""


class ObjectWriter(Protocol):
    """An object that is being written. Used by one thread; ended by `commit` or `abort`."""

    def write(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append all of the buffers; none of them is kept.

        Raises `StoreFull` or `StoreUnavailable`; the same call may then be made again.
        """

    def commit(self, *, sha256: bytes | None = None) -> None:
        """Make the object durable and visible: it is both when this returns.

        `sha256`, that of its data set, is kept beside it where the store can: see `ObjectStat`.

        Raises `ObjectExists`, `ObjectLost`, or `StoreFull` and `StoreUnavailable`, after which
        the call may be made again.
        """

    def abort(self) -> None:
        """Leave nothing behind. Without effect after `commit`; never raises."""


class ObjectStore(Protocol):
    """Objects under keys. Safe for use by many threads; made after a fork, never before."""

    def create(self, key: str) -> ObjectWriter:
        """Begin an object. Raises `InvalidKey`, `StoreFull`, `StoreUnavailable`."""

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, at most `length`; fewer at the end, empty beyond it.

        Raises `ObjectNotFound`, `StoreUnavailable`.
        """

    def chunks(
        self, key: str, offset: int = 0, length: int | None = None, chunk_size: int = CHUNK
    ) -> Iterator[bytes]:
        """The same range in pieces of at most `chunk_size`; the object is opened at once."""

    def stat(self, key: str) -> ObjectStat:
        """Size and time of an object. Raises `ObjectNotFound`, `StoreUnavailable`."""

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectStat]:
        """The objects whose key starts with `prefix` and is greater than `after`, in key order.

        Streams; an object committed or deleted meanwhile may or may not be in it.
        """

    def delete(self, key: str) -> None:
        """Remove an object for good; absent is fine."""

    def probe(self) -> None:
        """Write, read, list and delete a small object. Raises `StoreFull`, `StoreUnavailable`."""


def check_key(key: str) -> str:
    """`key`, if a store would take it. Raises `InvalidKey`."""
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise InvalidKey(f"not a key for an object: {key[:80]!r}")
    return key


def check_prefix(prefix: str) -> str:
    """`prefix`, if keys can start with it. Raises `InvalidKey`."""
    if len(prefix) > _LONGEST_KEY or not _PREFIX.fullmatch(prefix):
        raise InvalidKey(f"not a prefix of keys: {prefix[:80]!r}")
    return prefix


def check_range(offset: int, length: int | None) -> None:
    """Raises `ValueError` for a range that cannot be meant."""
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"offset {offset} and length {length} must not be negative")

"""Objects in a bucket of an S3 server. An object is visible whole or not at all: S3 sees to it."""

import re
from collections.abc import Iterator

import obstore

from gantry_domain.object_place import Bucket
from gantry_stores.objects.probing import try_store
from gantry_stores.objects.protocol import (
    CHUNK,
    InvalidKey,
    ObjectNotFound,
    ObjectStat,
    StoreFull,
    StoreUnavailable,
    check_key,
    check_prefix,
    check_range,
)
from gantry_stores.objects.s3_clients import OBSTORE_ERRORS, S3Clients, failure_of
from gantry_stores.objects.s3_writer import SHA256, S3Writer, Withdrawals, WriterMemory

_WRITER_MEMORY = 256 * 2**20
_WINDOW = 8 * 2**20
_LISTED_AT_ONCE = 1000
_DIGEST = re.compile("[0-9a-f]{64}")


class S3Store:
    """A store in a bucket; see `ObjectStore`.

    Made after a fork, never before: a child would wait for threads that it does not have. Nothing
    is asked of the server before the first call.
    """

    def __init__(self, bucket: Bucket, *, replaces: bool = False) -> None:
        """`replaces`: see `open_replacing`."""
        self._bucket = bucket
        self._replaces = replaces
        self._clients = S3Clients(bucket)
        self._memory = WriterMemory(_WRITER_MEMORY)
        self._withdrawals = Withdrawals()

    def create(self, key: str) -> S3Writer:
        """See `ObjectStore.create`."""
        return S3Writer(
            self._bucket,
            check_key(key),
            clients=self._clients,
            memory=self._memory,
            withdrawals=self._withdrawals,
            replaces=self._replaces,
        )

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `ObjectStore.read`."""
        return b"".join(self.chunks(key, offset, length, chunk_size=_WINDOW))

    def chunks(
        self, key: str, offset: int = 0, length: int | None = None, chunk_size: int = CHUNK
    ) -> Iterator[bytes]:
        """See `ObjectStore.chunks`.

        One request for each few MiB: each ends in time, however slowly the pieces are taken.
        """
        check_range(offset, length)
        check_key(key)
        if length == 0:
            self.stat(key)
            return iter(())
        pieces = self._pieces(key, offset, length, chunk_size)
        next(pieces)
        return pieces

    def _pieces(
        self, key: str, offset: int, length: int | None, chunk_size: int
    ) -> Iterator[bytes]:
        """Yields an empty piece once the first window is there."""
        window = max(chunk_size, _WINDOW // chunk_size * chunk_size)
        end = None if length is None else offset + length
        content, size = self._window(key, offset, _nearer(offset + window, end))
        yield b""
        end = _nearer(size, end)
        while True:
            view = memoryview(content)
            for start in range(0, len(view), chunk_size):
                yield bytes(view[start : start + chunk_size])
            offset += len(view)
            if not view.nbytes or offset >= end:
                return
            content, _ = self._window(key, offset, _nearer(offset + window, end))

    def _window(self, key: str, start: int, end: int) -> tuple[obstore.Bytes, int]:
        """Some bytes of an object, and the size of it all."""
        try:
            found = obstore.get(self._clients.reader(), key, options={"range": (start, end)})
            return found.bytes(), found.meta["size"]
        except OBSTORE_ERRORS as error:
            # The range begins at the end of the object or after it (RFC 9110, 15.5.17).
            if failure_of(error).status == 416:
                return obstore.Bytes(), start
            raise self._absent_or_away(error, key) from error

    def stat(self, key: str) -> ObjectStat:
        """See `ObjectStore.stat`."""
        try:
            found = obstore.get(self._clients.reader(), check_key(key), options={"head": True})
        except OBSTORE_ERRORS as error:
            raise self._absent_or_away(error, key) from error
        meta, sha256 = found.meta, str(found.attributes.get(SHA256, ""))
        return ObjectStat(
            key,
            meta["size"],
            meta["last_modified"],
            bytes.fromhex(sha256) if _DIGEST.fullmatch(sha256) else None,
        )

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectStat]:
        """See `ObjectStore.list`."""
        return self._listed(check_prefix(prefix), after or "")

    def _listed(self, prefix: str, after: str) -> Iterator[ObjectStat]:
        # obstore lists folders: those of the prefix that are whole.
        folder = prefix.rpartition("/")[0]
        try:
            pages = obstore.list(
                self._clients.reader(),
                folder or None,
                offset=_as_key(after),
                chunk_size=_LISTED_AT_ONCE,
            )
            for page in pages:
                for found in page:
                    key = found["path"]
                    if key > after and key.startswith(prefix):
                        yield ObjectStat(key, found["size"], found["last_modified"])
                    elif key > after and key > prefix:
                        return
        except OBSTORE_ERRORS as error:
            raise failure_of(error).named("listing it") from error

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        try:
            obstore.delete(self._clients.writer(), check_key(key))
        except OBSTORE_ERRORS as error:
            failure = failure_of(error)
            if failure.status != 404 or failure.no_bucket:
                raise failure.named("deleting an object") from error

    def probe(self) -> None:
        """See `ObjectStore.probe`."""
        try_store(self, "the object store")

    def _absent_or_away(
        self, error: BaseException, key: str
    ) -> ObjectNotFound | StoreFull | StoreUnavailable:
        failure = failure_of(error)
        if failure.status != 404 or failure.no_bucket:
            return failure.named("reading an object")
        if not failure.code:
            # The answer to HEAD has no body that would tell whether it is the bucket that is gone.
            try:
                next(iter(obstore.list(self._clients.reader(), "probe", chunk_size=1)), None)
            except OBSTORE_ERRORS as other:
                return failure_of(other).named("reading an object")
        return ObjectNotFound(key)


def _nearer(end: int, limit: int | None) -> int:
    return end if limit is None else min(end, limit)


def _as_key(after: str) -> str | None:
    """Where a listing may begin; None for what obstore does not take for a key."""
    try:
        return check_key(after)
    except InvalidKey:
        return None

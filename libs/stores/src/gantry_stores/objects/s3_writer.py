"""Writes one object to S3: at once where it is small, else in parts, with bounded memory.

    write ──▶ buffer ──(a part is full)──▶ part, part, ...      commit ──▶ put, or complete

A small object is put under the condition that its key is free. When the answer to that is lost, the
mark of its writer tells whether the object that is there now is this one.
"""

import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress

import obstore

from gantry_domain.object_place import Bucket
from gantry_stores.objects.protocol import ObjectExists, ObjectLost, StoreUnavailable
from gantry_stores.objects.s3_clients import (
    BOTO_ERRORS,
    OBSTORE_ERRORS,
    S3Clients,
    S3Failure,
    encryption_arguments,
    failure_of,
)
from gantry_stores.objects.s3_parts import MARK, PartUpload, part_size

# S3 takes no smaller part but the last.
_SMALLEST_PART = 5 * 2**20
_MOST_WITHDRAWALS = 1000

SHA256 = "gantry-sha256"
"""The metadata that has the SHA-256 of the data set, in hexadecimal digits."""


class WriterMemory:
    """The bytes that all writers of a process may hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()

    def take(self, number: int) -> bool:
        """Whether so many more bytes may be held, which then are. Where none are, any may."""
        with self._lock:
            if self._held and self._held + number > self._limit:
                return False
            self._held += number
            return True

    def give_back(self, number: int) -> None:
        """So many bytes are held no longer."""
        with self._lock:
            self._held -= number


class Withdrawals:
    """Removes in the background what writers left that gave up: nobody waits for it.

    What is not removed does no harm: parts are hidden, and the bucket forgets them in the end; a
    whole object whose sender was told otherwise is found by the sweep and comes again.
    """

    def __init__(self) -> None:
        self._waiting: queue.Queue[Callable[[], None]] = queue.Queue(_MOST_WITHDRAWALS)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, withdraw: Callable[[], None]) -> None:
        """Have `withdraw` called soon; dropped where too many wait."""
        with suppress(queue.Full):
            self._waiting.put_nowait(withdraw)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="object-withdrawals", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            with suppress(*BOTO_ERRORS, *OBSTORE_ERRORS):
                self._waiting.get()()


class S3Writer:
    """An object that is being written; see `ObjectWriter`."""

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        *,
        clients: S3Clients,
        memory: WriterMemory,
        withdrawals: Withdrawals,
        replaces: bool = False,
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._clients = clients
        self._memory = memory
        self._withdrawals = withdrawals
        self._replaces = replaces
        self._mark = uuid.uuid4().hex
        self._buffer = bytearray()
        self._upload: PartUpload | None = None
        self._may_be_there = False
        self._ended = False

    def write(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """See `ObjectWriter.write`."""
        if self._ended:
            raise ObjectLost("the object was ended already")
        # The full part goes first: when it fails nothing of this call was taken yet.
        number = self._upload.next_part if self._upload else 1
        if len(self._buffer) >= part_size(number):
            self._send_part()
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        size = sum(view.nbytes for view in views)
        if not self._memory.take(size):
            if len(self._buffer) >= _SMALLEST_PART:
                self._send_part()
            if not self._memory.take(size):
                raise StoreUnavailable("too many objects are being written to the object store")
        for view in views:
            self._buffer += view

    def commit(self, *, sha256: bytes | None = None) -> None:
        """See `ObjectWriter.commit`."""
        if self._ended:
            raise ObjectLost("the object was ended already")
        if self._upload is None:
            self._put({MARK: self._mark} | ({SHA256: sha256.hex()} if sha256 else {}))
        else:
            if self._buffer:
                self._send_part()
            self._upload.complete()
        self._end()

    def abort(self) -> None:
        """See `ObjectWriter.abort`."""
        if self._ended:
            return
        self._end()
        if self._upload is not None:
            self._withdrawals.add(self._upload.withdraw)
        elif self._may_be_there and not self._replaces:
            self._withdrawals.add(self._withdraw_put)

    def _end(self) -> None:
        self._ended = True
        self._drop_buffer()

    def _drop_buffer(self) -> None:
        self._memory.give_back(len(self._buffer))
        self._buffer = bytearray()

    def _send_part(self) -> None:
        if self._upload is None:
            try:
                client = self._clients.boto()
            except BOTO_ERRORS as error:  # it asks for credentials when it is made
                raise failure_of(error).named("writing an object") from error
            prefix = f"{self._bucket.prefix}/" if self._bucket.prefix else ""
            self._upload = PartUpload(
                client,
                bucket=self._bucket.name,
                key=prefix + self._key,
                mark=self._mark,
                encryption=encryption_arguments(self._bucket),
                replaces=self._replaces,
            )
        self._upload.append(self._buffer)
        self._drop_buffer()

    def _put(self, attributes: dict[str, str]) -> None:
        try:
            obstore.put(
                self._clients.writer(),
                self._key,
                self._buffer,
                attributes={**attributes},
                mode="overwrite" if self._replaces else "create",
                use_multipart=False,
            )
        except OBSTORE_ERRORS as error:
            failure = failure_of(error)
            if failure.status in {409, 412} and not self._replaces:
                if self._is_there(failure):
                    return
                raise failure.named("committing an object") from error
            self._may_be_there = self._may_be_there or not failure.refused
            raise failure.named("committing an object") from error

    def _is_there(self, failure: S3Failure) -> bool:
        """Whether an earlier attempt put this object. Raises `ObjectExists` if another did."""
        mark = self._found_mark() if self._may_be_there else ""
        if mark is None or (failure.status == 409 and not mark):
            return False  # an attempt is still on its way
        if mark != self._mark:
            raise ObjectExists(self._key)
        return True

    def _found_mark(self) -> str | None:
        """The mark of the object that is there, maybe empty; None where none is."""
        try:
            found = obstore.get(self._clients.reader(), self._key, options={"head": True})
        except FileNotFoundError:
            return None
        except OBSTORE_ERRORS as error:
            raise failure_of(error).named("committing an object") from error
        return str(found.attributes.get(MARK, ""))

    def _withdraw_put(self) -> None:
        with suppress(StoreUnavailable):
            if self._found_mark() == self._mark:
                obstore.delete(self._clients.writer(), self._key)

"""Stages an object: one DICOM file in the object store, from a data set that arrives in pieces.

    pieces ──▶ first 64 KiB: who is it? ──▶ create ──▶ file meta, pieces ──▶ commit ──▶ receipt

The store sees nothing of an object that is refused by its first bytes. The bytes are stored as
they came. Whatever door they came through, they go through here.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TypeVar

from gantry_domain.errors import TransientError
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.keys import LONGEST_RECEPTION, new_object_id, object_key
from gantry_domain.prefix import Identification, identify
from gantry_domain.receipts import Receipt
from gantry_stores.objects import ObjectLost, ObjectStore, ObjectWriter, StoreFull

PREFIX = 64 * 1024

LONGEST_TRANSFER = (LONGEST_RECEPTION - timedelta(minutes=10)).total_seconds()
"""Seconds in which the bytes of an object must have come.

What is left of the longest reception is for the store to make it durable: more than its patience,
which ends at 5 minutes.
"""

_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

T = TypeVar("T")


class Refusal(Enum):
    """Why an object was not staged; each is permanent but for the last three."""

    MISMATCH = "mismatch"
    """The data set has another SOP class, instance or study than the request (PS3.4 B.2.3)."""
    SOP_CLASS = "sop_class"
    """Instances of this SOP class are not stored."""
    MISSING_UID = "missing_uid"
    """The data set lacks a UID without which it cannot be filed."""
    UNREADABLE = "unreadable"
    """The data set cannot be read as far as its UIDs in the transfer syntax of its context."""
    TOO_LARGE = "too_large"
    """The data set is larger than the configuration allows."""
    TOO_MANY_IMAGES = "too_many_images"
    """Its study has as many images as the configuration allows."""
    OVER_QUOTA = "over_quota"
    """Its sender brought as much today as the configuration allows; tomorrow it is taken."""
    STORE_FULL = "store_full"
    STORE_AWAY = "store_away"


@dataclass(frozen=True, slots=True)
class Staged:
    """The object is durable in the store, and its receipt is on its way."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing of the object is in the store. `detail`: at most 64 characters, no patient data."""

    refusal: Refusal
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Whom an object came from, under which of our names, and where it belongs.

    The UIDs are those of the request; empty where it named none: then the data set says it.
    `storage_classes` are those that are stored; None: the door has seen to it.
    """

    calling_ae: str
    receiving_ae: str
    partition: str
    transfer_syntax: str
    SOPClassUID: str = ""
    SOPInstanceUID: str = ""
    StudyInstanceUID: str = ""
    storage_classes: Collection[str] | None = None


def _nothing() -> None:
    pass


def _nothing_of(_size: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whether an object may come in.

    If it may: `release` gives back what was counted of it should it not come, `settle` is told its
    bytes when it has. If not: why, as for `Refused`.
    """

    granted: bool
    release: Callable[[], None] = _nothing
    settle: Callable[[int], None] = _nothing_of
    refusal: Refusal = Refusal.TOO_MANY_IMAGES
    detail: str = ""


Admit = Callable[[Provenance, Identification], Admission | None]
"""Asked once it is known who an object is; None: nothing is counted."""


def admit_all(_provenance: Provenance, _found: Identification) -> None:
    """Counts nothing."""


class Stager:
    """Stages objects. Safe for use by many threads."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        publish: Callable[[Receipt], None],
        max_object_size: int,
        store_patience: float,
        stopping: threading.Event | None = None,
        admit: Admit = admit_all,
    ) -> None:
        """`max_object_size` in bytes of the data set; `store_patience` in seconds per object.

        Once `stopping` is set no outage of the store is waited out any more.
        """
        self._store = store
        self._publish = publish
        self._max_object_size = max_object_size
        self._store_patience = store_patience
        self._stopping = stopping or threading.Event()
        self._admit = admit

    def begin(self, provenance: Provenance) -> "Staging":
        """Begin an object; touches no store yet."""
        return Staging(
            provenance,
            store=self._store,
            publish=self._publish,
            max_object_size=self._max_object_size,
            store_patience=self._store_patience,
            stopping=self._stopping,
            admit=self._admit,
        )


class Staging:
    """One object on its way; used by one thread, ended by `finish` or `abort`."""

    def __init__(
        self,
        provenance: Provenance,
        *,
        store: ObjectStore,
        publish: Callable[[Receipt], None],
        max_object_size: int,
        store_patience: float,
        stopping: threading.Event,
        admit: Admit,
    ) -> None:
        self._provenance = provenance
        self._store = store
        self._publish = publish
        self._max_object_size = max_object_size
        self._store_patience = store_patience
        self._stopping = stopping
        self._admit = admit
        self._admission: Admission | None = None
        # The time of reception is in the identifier: the hour of an object is that of its begin.
        self._object_id = new_object_id()
        self._hash = hashlib.sha256()
        self._prefix: bytearray | None = bytearray()
        self._writer: ObjectWriter | None = None
        self._received = 0
        self._size = 0
        self._refused: Refused | None = None
        self._found: Identification | None = None
        self._give_up_at: float | None = None

    @property
    def received(self) -> int:
        """Bytes of the data set that have come so far."""
        return self._received

    @property
    def found(self) -> Identification | None:
        """Who the object says that it is; None while not enough of it has come."""
        return self._found

    def write(self, piece: memoryview) -> None:
        """Take the next bytes of the data set; what is refused already is taken and discarded."""
        self._received += len(piece)
        if self._refused is not None:
            return
        if self._received > self._max_object_size:
            self._refuse(Refusal.TOO_LARGE, f"larger than {self._max_object_size} bytes")
            return
        self._hash.update(piece)
        if self._prefix is not None:
            room = PREFIX - len(self._prefix)
            self._prefix += piece[:room]
            if len(piece) <= room:
                return
            piece = piece[room:]
            self._begin_object(complete=False)
        self._append([piece])

    def finish(self) -> Staged | Refused:
        """The data set is complete: make it durable and publish its receipt."""
        if self._prefix is not None and self._refused is None:
            self._begin_object(complete=True)
        digest, writer = self._hash.digest(), self._writer
        if writer is not None:
            try:
                self._patiently(lambda: writer.commit(sha256=digest))
            except TransientError as error:
                self._refuse_for_store(error)
        if self._refused is not None:
            return self._refused
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.settle(self._size)
        receipt = Receipt(self._object_id, self._size, digest)
        self._publish(receipt)
        return Staged(receipt)

    def abort(self) -> None:
        """Leave nothing behind."""
        self._prefix = None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.release()

    def _begin_object(self, *, complete: bool) -> None:
        """The prefix is all that is needed to decide: refuse the object, or create it."""
        assert self._prefix is not None
        prefix, self._prefix = bytes(self._prefix), None
        provenance = self._provenance
        found = identify(prefix, transfer_syntax=provenance.transfer_syntax, complete=complete)
        self._found = found
        self._refused = _judge(found, provenance)
        if self._refused is not None:
            return
        admission = self._admit(provenance, found)
        if admission is not None and not admission.granted:
            self._refuse(admission.refusal, admission.detail)
            return
        self._admission = admission
        meta = FileMeta(
            MediaStorageSOPClassUID=provenance.SOPClassUID or found.SOPClassUID or "",
            MediaStorageSOPInstanceUID=provenance.SOPInstanceUID or found.SOPInstanceUID or "",
            TransferSyntaxUID=provenance.transfer_syntax,
            calling_ae=provenance.calling_ae,
            receiving_ae=provenance.receiving_ae,
            partition=provenance.partition,
        )
        try:
            key = object_key(self._object_id)
            self._writer = self._patiently(lambda: self._store.create(key))
        except TransientError as error:
            self._refuse_for_store(error)
            return
        self._append([encode_file_meta(meta), prefix])

    def _append(self, pieces: list[bytes | bytearray | memoryview]) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            self._patiently(lambda: writer.write(pieces))
        except TransientError as error:
            self._refuse_for_store(error)
            return
        self._size += sum(len(piece) for piece in pieces)

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Try until the store answers or this object's patience ends. Raises `TransientError`.

        The bytes that were streamed cannot be asked for again, and many a modality gives its
        whole job up at the first failure: so a short outage is waited out where the store lets
        the same call be made again. The sender is held back meanwhile.
        """
        pause = _SHORTEST_PAUSE
        while True:
            try:
                return attempt()
            except ObjectLost:
                raise
            except TransientError:
                now = time.monotonic()
                if self._give_up_at is None:
                    self._give_up_at = now + self._store_patience
                rest = self._give_up_at - now
                if rest <= 0 or self._stopping.wait(min(pause, rest)):
                    raise
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _refuse_for_store(self, error: TransientError) -> None:
        if isinstance(error, StoreFull):
            self._refuse(Refusal.STORE_FULL, "the object store is full")
        else:
            self._refuse(Refusal.STORE_AWAY, "the object store is away")

    def _refuse(self, refusal: Refusal, detail: str) -> None:
        self._refused = Refused(refusal, detail)
        self.abort()


def _judge(found: Identification, provenance: Provenance) -> Refused | None:
    """Whether an object must be refused for what its first bytes say.

    What they do not reach is the worker's to judge.
    """
    for keyword, requested, sent in (
        ("SOPClassUID", provenance.SOPClassUID, found.SOPClassUID),
        ("SOPInstanceUID", provenance.SOPInstanceUID, found.SOPInstanceUID),
    ):
        if requested and sent and requested != sent:
            return Refused(Refusal.MISMATCH, f"{keyword} of command and data set differ")
    wanted = provenance.StudyInstanceUID
    if wanted and found.StudyInstanceUID is None and found.exhausted:
        return Refused(Refusal.MISMATCH, "StudyInstanceUID comes too late to be compared")
    if wanted and found.StudyInstanceUID and found.StudyInstanceUID != wanted:
        return Refused(Refusal.MISMATCH, "StudyInstanceUID of request and data set differ")
    unseen = (
        found.SOPClassUID is None
        or found.SOPInstanceUID is None
        or found.StudyInstanceUID is None
        or found.SeriesInstanceUID is None
    )
    if found.broken is not None and unseen:
        return Refused(Refusal.UNREADABLE, f"unreadable as sent: {found.broken}"[:64])
    if found.missing:
        return Refused(Refusal.MISSING_UID, f"{found.missing[0]} is missing")
    sop_class = provenance.SOPClassUID or found.SOPClassUID
    classes = provenance.storage_classes
    if classes is not None and sop_class and sop_class not in classes:
        return Refused(Refusal.SOP_CLASS, "instances of this SOP class are not stored")
    return None

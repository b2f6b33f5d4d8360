"""The instances that a client stores (STOW-RS, PS3.18 10.5), staged as those of the front door.

    body ──▶ parts ──▶ file meta off, data set ──▶ Staging ──▶ commits, several at a time

Each instance is durable, and its receipt published, before it is answered for.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from gantry_archive.staging import (
    LONGEST_TRANSFER,
    PREFIX,
    Provenance,
    Refusal,
    Refused,
    Staged,
    Stager,
    Staging,
)
from gantry_domain.errors import PermanentError, UnreadableObject
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.prefix import Identification
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_query.multipart_reading import BrokenMultipart, MultipartReader, PartBegins, PartEnds
from gantry_query.negotiation import DICOM, parse_accept
from gantry_query.streams import Threads

MOST_INSTANCES = 50_000
_COMMITS_AT_ONCE = 8


class TooSlow(PermanentError):
    """The client sends too slowly."""

    def __init__(self) -> None:
        super().__init__("the body came too slowly")


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A part that is not staged for its type or its transfer syntax; the latter has a name."""

    syntax: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one part. `found` is who it says that it is, as far as that was read."""

    result: Staged | Refused | Unsupported
    found: Identification | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDoor:
    """What the store transaction works with.

    `open`: whether strangers may store. `congested` says of a number of requests in hand whether
    another is too much. `patience`: seconds in which a client may send nothing; `minimum_rate`:
    bytes a second that it has to send, over `rate_window`; 0: any. `spool`: the folder where bulk
    data wait; None: the system's for temporary files.
    """

    stager: Stager
    threads: Threads
    commits: Executor
    storage_classes: Collection[str]
    congested: Callable[[int], bool]
    open: bool
    patience: float
    minimum_rate: int = 0
    rate_window: float = 60.0
    spool: Path | None = None


class Reception:
    """The body of one request. Used by one thread at a time, ended by `finish` or `abort`."""

    def __init__(
        self, door: StoreDoor, *, partition: str, StudyInstanceUID: str, boundary: str | None
    ) -> None:
        """`boundary` is None where the body is one instance and no more; the UID may be empty.

        Raises `BrokenMultipart`.
        """
        self._door = door
        self._partition = partition
        self._study = StudyInstanceUID
        self._reader = MultipartReader(boundary) if boundary is not None else None
        self._part: _Part | None = None if boundary is not None else self._begin(DICOM)
        self._outcomes: deque[Outcome | Future[Outcome]] = deque()
        self._under_way: deque[Future[Outcome]] = deque()
        self.broken: BrokenMultipart | None = None
        """Why the rest of the body could not be read."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; what comes after the body broke is discarded."""
        if self.broken is not None:
            return
        if self._reader is None:
            assert self._part is not None
            self._part.write(memoryview(data))
            return
        try:
            for event in self._reader.feed(data):
                match event:
                    case PartBegins(headers=headers):
                        if len(self._outcomes) >= MOST_INSTANCES:
                            raise BrokenMultipart(f"it has more than {MOST_INSTANCES} parts")
                        self._part = self._begin(headers.get("content-type", DICOM))
                    case PartEnds():
                        self._end()
                    case piece:
                        assert self._part is not None
                        self._part.write(piece)
        except BrokenMultipart as error:
            self._break(error)

    def finish(self) -> Iterator[Outcome]:
        """The body is complete: what became of its instances, in their order."""
        if self._reader is None:
            self._end()
        elif self.broken is None:
            try:
                self._reader.close()
            except BrokenMultipart as error:
                self._break(error)
        while self._outcomes:
            outcome = self._outcomes.popleft()
            yield outcome.result() if isinstance(outcome, Future) else outcome

    def abort(self) -> None:
        """The client has left: what was complete is stored, of the rest nothing stays."""
        if self._part is not None:
            self._part.abort()
            self._part = None

    def _begin(self, content_type: str) -> "_Part":
        return _Part(
            self._door,
            partition=self._partition,
            StudyInstanceUID=self._study,
            content_type=content_type,
        )

    def _end(self) -> None:
        part, self._part = self._part, None
        assert part is not None
        ended = part.end()
        if isinstance(ended, Outcome):
            self._outcomes.append(ended)
            return
        # Durability takes the disk's time; meanwhile the next instance comes.
        future = self._door.commits.submit(_committed, ended)
        self._outcomes.append(future)
        self._under_way.append(future)
        if len(self._under_way) >= _COMMITS_AT_ONCE:
            self._under_way.popleft().result()

    def _break(self, error: BrokenMultipart) -> None:
        self.broken = error
        self.abort()


def _committed(staging: Staging) -> Outcome:
    return Outcome(staging.finish(), staging.found)


class _Part:
    """One instance: a DICOM file whose file meta information is taken off."""

    def __init__(
        self, door: StoreDoor, *, partition: str, StudyInstanceUID: str, content_type: str
    ) -> None:
        self._door = door
        self._partition = partition
        self._study = StudyInstanceUID
        self._head = bytearray()
        self._staging: Staging | None = None
        self._failed: Refused | Unsupported | None = None
        self._until = time.monotonic() + LONGEST_TRANSFER
        ranges = parse_accept(content_type)
        if not ranges or ranges[0].type != DICOM:
            self._failed = Unsupported(False, f"a part is not {DICOM}")

    def write(self, piece: memoryview) -> None:
        if time.monotonic() > self._until:
            raise TooSlow
        if self._staging is not None:
            self._staging.write(piece)
        elif self._failed is None:
            room = PREFIX - len(self._head)
            self._head += piece[:room]
            if len(self._head) == PREFIX:
                self._open()
                if self._staging is not None and len(piece) > room:
                    self._staging.write(piece[room:])

    def end(self) -> Staging | Outcome:
        """What is to be finished, or why there is nothing to finish."""
        if self._staging is None and self._failed is None:
            self._open()
        if self._staging is not None:
            return self._staging
        assert self._failed is not None
        return Outcome(self._failed, None)

    def abort(self) -> None:
        if self._staging is not None:
            self._staging.abort()

    def _open(self) -> None:
        """The head of the file is there: begin the object."""
        head, self._head = bytes(self._head), bytearray()
        try:
            parsed = parse_file_meta(head)
        except UnreadableObject as error:
            self._failed = Refused(Refusal.UNREADABLE, f"not a DICOM file: {error.reason}")
            return
        syntax = parsed.meta.TransferSyntaxUID
        if syntax not in TRANSFER_SYNTAXES:
            self._failed = Unsupported(True, "its transfer syntax is not stored")
            return
        # The data set says who it is; what clients write into file meta is often something else.
        self._staging = self._door.stager.begin(
            Provenance(
                calling_ae="",
                receiving_ae="",
                partition=self._partition,
                transfer_syntax=syntax,
                StudyInstanceUID=self._study,
                storage_classes=self._door.storage_classes,
            )
        )
        self._staging.write(memoryview(head)[parsed.dataset_offset :])

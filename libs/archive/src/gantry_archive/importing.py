"""Takes files into the archive: through the stager, as what comes over the network.

    files ──▶ who is it? its hash ──▶ here already? ──▶ Staging ──▶ receipt

So limits, duplicates, conflicts and policies are those of every door. What is in the archive byte
for byte is not stored once more: an import that ended may be begun again.
"""

import hashlib
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from sqlalchemy.engine import Engine

from gantry_archive.import_sources import CannotRead, Found
from gantry_archive.staging import PREFIX, Provenance, Refusal, Refused, Staged, Stager
from gantry_domain.dicomdir import MEDIA_STORAGE_DIRECTORY
from gantry_domain.errors import TransientError, UnreadableObject
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.prefix import identify
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)
from gantry_stores.index.database import transaction
from gantry_stores.index.known_objects import known_data_sets

_CHUNK = 1 << 20
_AT_ONCE = 256
_BARE = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
_FOR_NOW = (Refusal.STORE_FULL, Refusal.STORE_AWAY)


class Fate(Enum):
    """What became of a file."""

    TAKEN = "taken"
    HERE = "here already"
    NO_DICOM = "no DICOM"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Imported:
    """A file and what became of it; `why` where it was refused, without patient data."""

    found: Found
    fate: Fate
    why: str | None = None


class ImportStopped(TransientError):
    """The archive takes nothing more for now; the text says why."""


@dataclass(frozen=True, slots=True)
class _DataSet:
    """Where a data set begins in its file, and how it is encoded."""

    offset: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A file that can be stored, and what it is."""

    found: Found
    place: _DataSet
    SOPInstanceUID: str
    sha256: bytes


@dataclass(slots=True, kw_only=True)
class Import:
    """An import into one partition. `calling_ae`: as whose files they count; `threads`: files at
    a time."""

    stager: Stager
    engine: Engine
    calling_ae: str
    receiving_ae: str
    partition: str
    storage_classes: Collection[str]
    threads: int = 4
    stopping: threading.Event

    def run(self, files: Iterable[Found]) -> Iterator[Imported]:
        """What became of each, in no certain order.

        Raises `ImportStopped`, or the transient errors of the index.
        """
        rest = iter(files)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="import") as pool:
            try:
                while batch := list(islice(rest, _AT_ONCE)):
                    yield from self._batch(batch, pool)
            except BaseException:
                # What waits in the pool ends at once; what is being stored comes to its end.
                self.stopping.set()
                raise

    def _batch(self, batch: Sequence[Found], pool: Executor) -> Iterator[Imported]:
        looked = list(pool.map(self._look, batch))
        yield from (each for each in looked if isinstance(each, Imported))
        known = [each for each in looked if isinstance(each, _Known)]
        here = self._here(known)
        for each in known:
            if (each.SOPInstanceUID, each.sha256) in here:
                yield Imported(each.found, Fate.HERE)
        new = [each for each in known if (each.SOPInstanceUID, each.sha256) not in here]
        yield from pool.map(self._store, new)

    def _look(self, found: Found) -> _Known | Imported:
        """Who a file is, and its hash."""
        if self.stopping.is_set():
            raise ImportStopped("the import was ended")
        try:
            with found.open() as file:
                head = file.read(PREFIX)
                place = _data_set(head, self.storage_classes)
                if not isinstance(place, _DataSet):
                    fate = Fate.NO_DICOM if place is None else Fate.REFUSED
                    return Imported(found, fate, place)
                whole = len(head) < PREFIX
                start = head[place.offset :]
                who = identify(start, transfer_syntax=place.transfer_syntax, complete=whole)
                digest = hashlib.sha256(start)
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except CannotRead as error:
            return Imported(found, Fate.REFUSED, str(error))
        return _Known(found, place, who.SOPInstanceUID or "", digest.digest())

    def _here(self, known: Sequence[_Known]) -> set[tuple[str, bytes]]:
        if not known:
            return set()
        with transaction(self.engine) as connection:
            return known_data_sets(
                connection,
                ((each.SOPInstanceUID, each.sha256) for each in known),
                partition=self.partition,
            )

    def _store(self, known: _Known) -> Imported:
        if self.stopping.is_set():
            raise ImportStopped("the import was ended")
        # The data set says who it is: what is in file meta is often something else.
        staging = self.stager.begin(
            Provenance(
                calling_ae=self.calling_ae,
                receiving_ae=self.receiving_ae,
                partition=self.partition,
                transfer_syntax=known.place.transfer_syntax,
                storage_classes=self.storage_classes,
            )
        )
        try:
            with known.found.open() as file:
                left = known.place.offset
                while chunk := file.read(_CHUNK):
                    staging.write(memoryview(chunk)[left:])
                    left = max(0, left - len(chunk))
            result = staging.finish()
        except CannotRead as error:
            return Imported(known.found, Fate.REFUSED, str(error))
        finally:
            staging.abort()
        match result:
            case Staged():
                return Imported(known.found, Fate.TAKEN)
            case Refused(refusal=refusal, detail=detail) if refusal in _FOR_NOW:
                raise ImportStopped(detail)
            case Refused(detail=detail):
                return Imported(known.found, Fate.REFUSED, detail)


def _data_set(head: bytes, storage_classes: Collection[str]) -> _DataSet | str | None:
    """The data set of a file that begins so; why it has none that is stored, or None: it is no
    instance at all."""
    try:
        parsed = parse_file_meta(head)
    except UnreadableObject as error:
        bare = _bare_syntax(head, storage_classes)
        if bare is not None:
            return _DataSet(0, bare)
        # A file with a preamble says that it is DICOM; others do not.
        return None if error.reason == "no_file_meta" else f"not a DICOM file: {error.reason}"
    if parsed.meta.MediaStorageSOPClassUID == MEDIA_STORAGE_DIRECTORY:
        return None
    if parsed.meta.TransferSyntaxUID not in TRANSFER_SYNTAXES:
        return "its transfer syntax is not stored"
    return _DataSet(parsed.dataset_offset, parsed.meta.TransferSyntaxUID)


def _bare_syntax(head: bytes, storage_classes: Collection[str]) -> str | None:
    """The transfer syntax of a data set without file meta, as some systems keep them on disk."""
    for syntax in _BARE:
        found = identify(head, transfer_syntax=syntax, complete=len(head) < PREFIX)
        if found.SOPClassUID in storage_classes and found.SOPInstanceUID:
            return syntax
    return None

"""Writes studies as files (PS3.10): as they are stored, or as a file-set with a DICOMDIR.

    instances of the index ──▶ prepared as for a peer ──▶ target ──▶ (DICOMDIR, the last file)

A file-set is what a general purpose profile says (PS3.11): its File IDs and its transfer syntaxes;
what is stored in another syntax is converted. One instance at a time is in memory, and of the
others the record in the directory, of some 500 bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from uuid import uuid4

import orjson
from sqlalchemy.engine import Engine

from gantry_archive.export_targets import ExportTarget
from gantry_archive.outbound import NotSendable, prepared, why_unsent
from gantry_dimse.proposals import NegotiatedContext, NegotiatedContexts
from gantry_domain.dicomdir import DICOMDIR, Directory
from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.file_names import instance_file_name
from gantry_domain.media_profiles import PROFILES
from gantry_domain.sight import Sight
from gantry_stores.index.search import StoredInstance, Subject, headers_of
from gantry_stores.objects import ObjectNotFound, ObjectStore

_FILE_SET_ID = "GANTRY"
# So many names end with as many digits: 8 characters of A-Z, 0-9 and _ (PS3.10 8.5).
_MOST = 999_999


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of an instance: the bytes of its file, or why there is none."""

    SOPInstanceUID: str
    size: int = 0
    refused: str | None = None


class FileIds:
    """Names instances as a file-set has to: `DICOM/ST000001/SE000001/IM000001`."""

    def __init__(self) -> None:
        self._studies: dict[str, int] = {}
        self._series: dict[tuple[str, str], int] = {}
        self._last: dict[object, int] = {}

    def next(self, StudyInstanceUID: str, SeriesInstanceUID: str) -> tuple[str, ...]:
        """The File ID of one more instance of this series. Raises `NotSendable`: there are too
        many."""
        series = (StudyInstanceUID, SeriesInstanceUID)
        if StudyInstanceUID not in self._studies:
            self._studies[StudyInstanceUID] = self._count("")
        if series not in self._series:
            self._series[series] = self._count(StudyInstanceUID)
        numbers = (self._studies[StudyInstanceUID], self._series[series], self._count(series))
        if max(numbers) > _MOST:
            raise NotSendable("a file-set has names for no more")
        letters = ("ST", "SE", "IM")
        return ("DICOM", *(f"{a}{n:06d}" for a, n in zip(letters, numbers, strict=True)))

    def _count(self, of: object) -> int:
        self._last[of] = self._last.get(of, 0) + 1
        return self._last[of]


@dataclass(slots=True, kw_only=True)
class Export:
    """An export to one target. `profile`: that of the file-set, None: the files alone."""

    engine: Engine
    store: ObjectStore
    target: ExportTarget
    profile: str | None = None

    def run(self, subjects: Iterable[tuple[Subject, Sight]]) -> Iterator[Exported]:
        """Write all instances of these, and tell of each; then the directory.

        Raises `CannotWrite`, and the transient errors of the index and of the store.
        """
        directory = None if self.profile is None else Directory(_FILE_SET_ID)
        ids = FileIds()
        there = 0
        for subject, sight in subjects:
            for instance, header in headers_of(self.engine, subject, sight=sight):
                told = self._write(subject, instance, header, directory, ids)
                there += told.refused is None
                yield told
        if directory is not None and there:
            self.target.write(DICOMDIR, directory.encode(f"2.25.{uuid4().int}"))

    def _write(
        self,
        subject: Subject,
        instance: StoredInstance,
        header: bytes,
        directory: Directory | None,
        ids: FileIds,
    ) -> Exported:
        uid = instance.SOPInstanceUID
        study, series = subject.StudyInstanceUID, instance.SeriesInstanceUID
        try:
            with prepared(instance.object, self._contexts(instance), store=self.store) as ready:
                syntax = ready.context.TransferSyntaxUID
                parts = (
                    instance_file_name(study, series, uid).split("/")
                    if directory is None
                    else ids.next(study, series)
                )
                chunks = chain([_head(instance, syntax)], ready.chunks)
                size = self.target.write("/".join(parts), chunks)
        except (NotSendable, ObjectNotFound, UnreadableObject) as error:
            return Exported(uid, refused=why_unsent(error))
        if directory is not None:
            directory.add(
                orjson.loads(header),
                file_id=parts,
                SOPClassUID=instance.SOPClassUID,
                SOPInstanceUID=uid,
                TransferSyntaxUID=syntax,
            )
        return Exported(uid, size)

    def _contexts(self, instance: StoredInstance) -> NegotiatedContexts:
        """What may be written, said as if a peer had accepted it."""
        syntaxes: Sequence[str] = (instance.TransferSyntaxUID,)
        if self.profile is not None:
            syntaxes = PROFILES[self.profile]
        return NegotiatedContexts(
            [
                NegotiatedContext(number, instance.SOPClassUID, syntax)
                for number, syntax in enumerate(syntaxes, start=1)
            ]
        )


def _head(instance: StoredInstance, syntax: str) -> bytes:
    return encode_file_meta(
        FileMeta(
            MediaStorageSOPClassUID=instance.SOPClassUID,
            MediaStorageSOPInstanceUID=instance.SOPInstanceUID,
            TransferSyntaxUID=syntax,
            calling_ae="",
            receiving_ae="",
            partition="",
        )
    )

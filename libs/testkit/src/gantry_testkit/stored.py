"""An archive for tests: data sets staged as the ingress does, and the index as rows to compare."""

import copy
import hashlib
import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from sqlalchemy.engine import Engine

from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.keys import new_object_id, object_key
from gantry_domain.policies.rules import PolicySet
from gantry_domain.receipts import Receipt
from gantry_stores.index.database import transaction
from gantry_stores.objects import ObjectStore

# Every study is accepted.
NO_POLICIES = PolicySet.of(())

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

_ROOT = "1.2.826.0.1.3680043.10.1999.2"
_numbers = itertools.count(1)


def new_uid() -> str:
    """A UID that this process has not given out before."""
    return f"{_ROOT}.{next(_numbers)}"


def image(**values: Any) -> Dataset:
    """A CT image of 16 by 16 pixels; `values` replace or add elements by keyword.

    Senders do not ask pydicom whether a value is valid, and neither is it asked here.
    """
    with disable_value_validation():
        return _with(_plain_image(), values)


def _plain_image() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CT_IMAGE
    ds.SOPInstanceUID = new_uid()
    ds.StudyDate = "20260102"
    ds.StudyTime = "101112"
    ds.AccessionNumber = "A1"
    ds.Modality = "CT"
    ds.PatientName = "Yamada^Tarou=山田^太郎"
    ds.PatientID = "P1"
    ds.StudyInstanceUID = new_uid()
    ds.SeriesInstanceUID = new_uid()
    ds.SeriesNumber = "1"
    ds.InstanceNumber = "1"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    ds.PixelData = np.arange(256, dtype="<u2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def with_changes(ds: Dataset, **values: Any) -> Dataset:
    """A copy of a data set with other values."""
    with disable_value_validation():
        return _with(copy.deepcopy(ds), values)


def _with(ds: Dataset, values: dict[str, Any]) -> Dataset:
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The bytes of a data set as a sender would send them."""
    syntax = UID(transfer_syntax)
    stream = DicomBytesIO()
    stream.is_implicit_VR = syntax.is_implicit_VR
    stream.is_little_endian = syntax.is_little_endian
    with disable_value_validation():
        write_dataset(stream, ds)
    return stream.getvalue()


def file_of(ds: Dataset) -> bytes:
    """The DICOM file (PS3.10) of a data set."""
    stream = io.BytesIO()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Sent:
    """What was staged."""

    object_id: UUID
    size: int
    sha256: bytes

    @property
    def receipt(self) -> Receipt:
        """As the ingress publishes it."""
        return Receipt(self.object_id, self.size, self.sha256)


def stage(
    store: ObjectStore,
    dataset: Dataset | bytes,
    *,
    transfer_syntax: str = ExplicitVRLittleEndian,
    calling_ae: str = "CT01",
    partition: str = "main",
    object_id: UUID | None = None,
    head: bytes | None = None,
) -> Sent:
    """Write an object as the ingress does; `head` replaces preamble and file meta information."""
    content = dataset if isinstance(dataset, bytes) else encoded(dataset, transfer_syntax)
    SOPInstanceUID = "" if isinstance(dataset, bytes) else str(dataset.get("SOPInstanceUID", ""))
    if head is None:
        head = encode_file_meta(
            FileMeta(CT_IMAGE, SOPInstanceUID, transfer_syntax, calling_ae, "GANTRY", partition)
        )
    object_id = object_id or new_object_id()
    writer = store.create(object_key(object_id))
    writer.write([head, content])
    writer.commit()
    return Sent(object_id, len(head) + len(content), hashlib.sha256(content).digest())


def receipts(sent: Iterable[Sent]) -> list[Receipt]:
    """The receipts of several objects."""
    return [each.receipt for each in sent]


# What a row holds besides what was read of the objects: when and in which order it was written.
_SURROGATE = (
    "'{pk,patient_pk,study_pk,series_pk,revision,judged_revision,evidence_revision,"
    "routed_revision,completed_revision,completed_at,indexed_at,"
    "first_received_at,last_received_at}'::text[]"
)

_TABLES = {
    "object": f"SELECT to_jsonb(o) - {_SURROGATE} FROM object o",
    "patient": f"SELECT to_jsonb(p) - {_SURROGATE} FROM patient p",
    "study": f"SELECT to_jsonb(s) - {_SURROGATE} || jsonb_build_object('patient', p.identity)"
    " FROM study s JOIN patient p ON p.pk = s.patient_pk",
    "series": f"SELECT to_jsonb(e) - {_SURROGATE} || jsonb_build_object("
    "'study', s.study_instance_uid, 'partition', s.partition)"
    " FROM series e JOIN study s ON s.pk = e.study_pk",
    "instance": f"SELECT to_jsonb(i) - {_SURROGATE} || jsonb_build_object("
    "'series', e.series_instance_uid, 'study', s.study_instance_uid) FROM instance i"
    " JOIN series e ON e.pk = i.series_pk JOIN study s ON s.pk = e.study_pk",
    "header": "SELECT to_jsonb(h) FROM header h",
    "study_finding": f"SELECT to_jsonb(f) - {_SURROGATE} || jsonb_build_object("
    "'study', s.study_instance_uid, 'partition', s.partition)"
    " FROM study_finding f JOIN study s ON s.pk = f.study_pk",
    "finding": f"SELECT to_jsonb(f) - {_SURROGATE} FROM finding f",
}


def snapshot(engine: Engine) -> dict[str, list[str]]:
    """Every row of the index as text, in order, without surrogates and moments."""
    with transaction(engine) as connection:
        return {
            table: sorted(connection.scalars(sa.text(f"SELECT q::text FROM ({sql}) q(q)")))
            for table, sql in _TABLES.items()
        }


def states(engine: Engine, sent: Sequence[Sent]) -> list[tuple[str, str | None] | None]:
    """State and reason of each object, None without a row."""
    with transaction(engine) as connection:
        rows = connection.execute(sa.text("SELECT id, state, reason FROM object"))
        found = {row.id: (row.state, row.reason) for row in rows}
    return [found.get(each.object_id) for each in sent]


def rows(engine: Engine, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """The answer to a question."""
    with transaction(engine) as connection:
        return [tuple(row) for row in connection.execute(sa.text(sql), values)]

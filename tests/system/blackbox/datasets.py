"""Small DICOM files, generated; every name and number of a patient bears the mark SECRET."""

import hashlib
import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dsutils import split_dataset

# Must never be seen in a log, a metric, a message or an error body.
SECRET = "Geheimnis"

# Each run of the tests has UIDs of its own, all of one length so that bytes can be replaced.
_ROOT = f"1.2.826.0.1.3680043.10.1999.1{int.from_bytes(os.urandom(5)):013d}"
_numbers = itertools.count(10**9 + 1)


def new_uid() -> str:
    """A UID that nobody used before."""
    return f"{_ROOT}.{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class Sample:
    """A DICOM file to be sent, and what it holds."""

    path: Path
    SOPClassUID: str
    SOPInstanceUID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    TransferSyntaxUID: str

    @property
    def dataset_bytes(self) -> bytes:
        """The data set as it stands in the file, which is how it is sent."""
        return self.path.read_bytes()[split_dataset(self.path)[1] :]

    @property
    def sha256(self) -> bytes:
        """Of the data set."""
        return hashlib.sha256(self.dataset_bytes).digest()


def image(
    *,
    study: str | None = None,
    series: str | None = None,
    instance: str | None = None,
    name: str = f"{SECRET}^Anna",
    patient: str = f"{SECRET}-1",
    number: int = 1,
    seed: int = 1,
    side: int = 32,
) -> Dataset:
    """A CT image of random pixels (16 bits), in Explicit VR Little Endian."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = instance or new_uid()
    ds.StudyDate = "20260102"
    ds.StudyTime = "101112"
    ds.AccessionNumber = f"{SECRET}7"
    ds.Modality = "CT"
    ds.Manufacturer = "Gantry"
    ds.ReferringPhysicianName = f"{SECRET}^Referrer"
    ds.StudyDescription = "Abdomen"
    ds.PatientName = name
    ds.PatientID = patient
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "F"
    ds.StudyInstanceUID = study or new_uid()
    ds.SeriesInstanceUID = series or new_uid()
    ds.StudyID = "1"
    ds.SeriesNumber = "1"
    ds.InstanceNumber = str(number)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = side
    ds.Columns = side
    ds.BitsAllocated = 16
    ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    pixels = np.random.default_rng(seed).integers(0, 2**16, (side, side), dtype="<u2")
    # RLE must stay smaller than what it packs.
    pixels[: side // 2] = seed
    ds.PixelData = pixels.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def copy_of(ds: Dataset) -> Dataset:
    """An independent copy, as if read from its file."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def write(ds: Dataset, folder: Path) -> Sample:
    """The data set as a file of its own in `folder`."""
    path = folder / f"{next(_numbers)}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return sample_of(ds, path)


def sample_of(ds: Dataset, path: Path) -> Sample:
    """What a data set read from `path` says of itself; an absent UID is an empty text."""
    return Sample(
        path,
        str(ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID") or ""),
        str(ds.get("SOPInstanceUID") or ""),
        str(ds.get("StudyInstanceUID") or ""),
        str(ds.get("SeriesInstanceUID") or ""),
        str(ds.file_meta.get("TransferSyntaxUID") or ""),
    )


def studies(folder: Path, *, images: int = 10, side: int = 32) -> Iterator[Sample]:
    """Endless images, study after study of `images` each; files appear as they are asked for."""
    template = image(side=side)
    buffer = io.BytesIO()
    template.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    for _ in itertools.count():
        study, series = new_uid(), new_uid()
        for _ in range(images):
            instance = new_uid()
            content = whole
            for old, new in (
                (str(template.SOPInstanceUID), instance),
                (str(template.StudyInstanceUID), study),
                (str(template.SeriesInstanceUID), series),
            ):
                content = content.replace(old.encode(), new.encode())
            path = folder / f"{instance}.dcm"
            path.write_bytes(content)
            yield Sample(
                path,
                str(template.SOPClassUID),
                instance,
                study,
                series,
                str(ExplicitVRLittleEndian),
            )

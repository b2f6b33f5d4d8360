"""Real files of other people: the shared collection, or else those inside the pydicom wheel."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom.data
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from blackbox.datasets import Sample, sample_of
from blackbox.run import ROOT

SHARED = ROOT.parent / "shared" / "data" / "dicom" / "files"
_WHEEL = Path(pydicom.data.__file__).parent
_NO_IMAGES = {".txt", ".md", ".py", ".pyc", ".json", ".sha256", ".zip", ".gz"}


def sample_files() -> list[Path]:
    """Every file of the collection, in a fixed order."""
    if SHARED.is_dir():
        return sorted(path for path in SHARED.rglob("*") if path.is_file())
    folders = (_WHEEL / "test_files", _WHEEL / "charset_files")
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in _NO_IMAGES
    )


@dataclass(frozen=True, slots=True)
class RealFile:
    """A file as pydicom reads it, and what the standard says must become of it."""

    sample: Sample
    named: bool
    """Its data set names its class, itself, its study and its series."""
    truthful: bool
    """Its head, from which pynetdicom makes the command, names the same class and instance."""

    @property
    def fileable(self) -> bool:
        """It must be taken when it is sent as it is (PS3.4 B.2.3)."""
        return self.named and self.truthful


def read_leniently(path: Path) -> Dataset:
    """What pydicom can make of the head of a file, without complaint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, stop_before_pixels=True, force=True)


def real_file(path: Path) -> RealFile | None:
    """None: not even its head can be read, so that no client can send it."""
    try:
        dcmread(path, stop_before_pixels=True, specific_tags=[])
    except InvalidDicomError:
        return None
    ds = read_leniently(path)
    sample = sample_of(ds, path)
    meta = ds.file_meta
    named = (
        str(ds.get("SOPClassUID") or ""),
        sample.SOPInstanceUID,
        sample.StudyInstanceUID,
        sample.SeriesInstanceUID,
    )
    same = (meta.get("MediaStorageSOPClassUID"), meta.get("MediaStorageSOPInstanceUID"))
    return RealFile(sample, all(named), same == named[:2])

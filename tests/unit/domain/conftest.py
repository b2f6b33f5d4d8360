"""Real files for the tests of the domain: the sample set, or else those in the pydicom wheel."""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import FileMeta, parse_file_meta

ROOT = Path(__file__).resolve().parents[3]
SAMPLE_SET = ROOT.parent / "shared" / "data" / "dicom" / "files"
WHEEL = Path(pydicom.__file__).parent / "data"


@contextmanager
def quiet():
    """pydicom warns about what is odd in the files, which is why they are here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Sample:
    """A real DICOM file whose file meta information can be read."""

    path: Path
    data: bytes
    meta: FileMeta
    dataset_offset: int

    def read(self) -> pydicom.Dataset:
        """The data set as pydicom reads it; empty where it gives up."""
        with quiet():
            return pydicom.dcmread(self.path, force=True)


def sample_paths() -> list[Path]:
    folder = SAMPLE_SET if SAMPLE_SET.is_dir() else WHEEL
    return sorted(path for path in folder.rglob("*") if path.is_file() and not _other(path))


def _other(path: Path) -> bool:
    return path.suffix in {".py", ".pyc", ".txt", ".json", ".md", ".csv", ".xml", ".zip", ".pdf"}


def pytest_generate_tests(metafunc):
    if "sample_path" in metafunc.fixturenames:
        folder = SAMPLE_SET if SAMPLE_SET.is_dir() else WHEEL
        paths = sample_paths()
        ids = [str(path.relative_to(folder)) for path in paths]
        metafunc.parametrize("sample_path", paths, ids=ids)


@pytest.fixture
def sample(sample_path):
    data = sample_path.read_bytes()
    try:
        parsed = parse_file_meta(data)
    except UnreadableObject as error:
        pytest.skip(f"not a file with file meta information: {error.reason}")
    return Sample(sample_path, data, parsed.meta, parsed.dataset_offset)

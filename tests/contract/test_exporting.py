"""Exports: files as they are stored, file-sets that others read, and what is left of a failure."""

import io
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider
from gantry_archive.delivery import NothingToPush
from gantry_archive.export_targets import CannotWrite, FolderTarget, ZipTarget
from gantry_cli.exporting import export
from gantry_domain.decisions import DecisionKind
from gantry_domain.errors import ConfigurationError
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import transaction
from gantry_stores.index.judged_studies import find_judged
from gantry_stores.objects import ObjectStore, StoreUnavailable
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.stored import NO_POLICIES, image, new_uid, rows, stage

EXPLICIT = "1.2.840.10008.1.2.1"
NAME = "CHAN^TAI MAN=陳^大文"
SAMPLES = (
    "MR_small_bigendian.dcm",
    "JPEG2000.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "reportsi.dcm",
    "rtplan.dcm",
    "waveform_ecg.dcm",
    "test-SR.dcm",
)


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    """Those of a run whose objects are in the `store`."""
    settings = load_settings({"GANTRY_DATA": str(tmp_path)})
    # Its URL has a socket for a host, which none of the configuration has.
    url = postgres_url.replace("postgresql+psycopg://", "postgresql://")
    return settings.model_copy(update={"database": url})


def samples(archive: ForwardingArchive, *names: str) -> list[str]:
    """The studies of pydicom's files, stored as they are."""
    paths = [Path(str(get_testdata_file(name, download=False))) for name in names]
    for path in paths:
        archive.file(path)
    return [str(pydicom.dcmread(path).StudyInstanceUID) for path in paths]


@contextmanager
def reading(media: Path) -> Iterator[FileSet]:
    """pydicom's view of a file-set."""
    found = FileSet(media / "DICOMDIR")
    try:
        yield found
    finally:
        found._stage["t"].cleanup()  # else it complains of what it does not close itself


def run(settings: Settings, uids: list[str], to: Path, *, profile: str | None = None) -> int:
    return export(settings, uids, to=to, profile=profile, partition=None)


def test_the_files_of_a_study_in_a_folder_and_in_a_zip(
    archive: ForwardingArchive,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study, uids = archive.study(images=3)
    folder, packed = tmp_path / "out", tmp_path / "out.zip"
    assert run(settings, [study], folder) == 0
    assert "3 of 3 instances written" in capsys.readouterr().out
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.stem for path in files} == set(uids)
    assert {path.parent.parent.name for path in files} == {study}
    assert list(folder.glob(".*")) == []
    assert run(settings, [study, study], packed) == 0
    with zipfile.ZipFile(packed) as archived:
        assert archived.testzip() is None
        inside = {name: archived.read(name) for name in archived.namelist()}
    assert inside == {str(path.relative_to(folder)): path.read_bytes() for path in files}
    # One image alone, over what is there.
    assert run(settings, [uids[0]], folder) == 0
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 3
    assert pydicom.dcmread(io.BytesIO(inside[min(inside)])).PixelData


def test_what_does_not_exist_or_may_not_leave_is_not_written(
    archive: ForwardingArchive, settings: Settings, tmp_path: Path
) -> None:
    study, _ = archive.study(images=1)
    with pytest.raises(NothingToPush, match="no study"):
        run(settings, [study, "1.2.3.4"], tmp_path / "out")
    rows(archive.engine, "UPDATE study SET verdict = 'held', visible = false RETURNING pk")
    with pytest.raises(NothingToPush, match="held"):
        run(settings, [study], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def check(media: Path, written: FileSet) -> None:
    assert len(written) == len(SAMPLES) + 3
    for instance in written:
        parts = Path(instance.path).relative_to(media).parts
        assert all(len(part) <= 8 and part.isupper() for part in parts), parts
        ds = instance.load()
        assert ds.SOPInstanceUID == instance.SOPInstanceUID
        assert ds.file_meta.TransferSyntaxUID == instance.TransferSyntaxUID == EXPLICIT
    kinds = {instance.DirectoryRecordType for instance in written}
    assert kinds == {"IMAGE", "SR DOCUMENT", "RT PLAN", "WAVEFORM"}
    (named,) = written.find_values("PatientName", written.find(PatientID="P77"))
    assert named == NAME
    loaded = written.find(PatientID="P77", load=True)
    assert [ds.PatientName for ds in (each.load() for each in loaded)] == [NAME] * 3


def test_a_file_set_is_read_by_others(
    archive: ForwardingArchive, settings: Settings, tmp_path: Path
) -> None:
    studies = samples(archive, *SAMPLES)
    mine, series = new_uid(), new_uid()
    for number in range(3):
        archive.index(
            stage(
                archive.store,
                image(
                    StudyInstanceUID=mine,
                    SeriesInstanceUID=series,
                    PatientID="P77",
                    PatientName="WRONG",
                    InstanceNumber=str(number),
                ),
            )
        )
    with transaction(archive.engine) as connection:
        (found,) = find_judged(connection, mine)
    Decider(store=archive.store, engine=archive.engine, policies=NO_POLICIES, feed=None).decide(
        found, DecisionKind.CORRECT, corrected={"PatientName": NAME}, by="Dr Ho", reason="typo"
    )
    target, media = tmp_path / "media.zip", tmp_path / "media"
    assert run(settings, [*studies, mine], target, profile="STD-GEN-CD") == 0
    with zipfile.ZipFile(target) as archived:
        archived.extractall(media)
    with reading(media) as written:
        check(media, written)
    dump = ["dcmdump", str(media / "DICOMDIR")]
    told = subprocess.run(dump, capture_output=True, check=True)
    assert told.stderr == b""
    assert told.stdout.count(b"ReferencedFileID") == len(written)
    # dcmtk follows every offset before it adds one more.
    extra = media / "EXTRA"
    ds = image(PatientID="P78")
    ds.StudyID = "1"
    ds.save_as(extra, enforce_file_format=True)
    command = ["dcmmkdir", "--append", "-W", "EXTRA"]
    done = subprocess.run(command, cwd=media, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with reading(media) as longer:
        assert len(longer) == len(SAMPLES) + 4


def test_a_profile_with_compression_keeps_what_it_has(
    archive: ForwardingArchive, settings: Settings, tmp_path: Path
) -> None:
    (j2k,), (jpeg,) = samples(archive, "JPEG2000.dcm"), samples(archive, "SC_rgb_jpeg_dcmtk.dcm")
    for profile, study, kept in (
        ("STD-GEN-USB-J2K", j2k, "4.91"),
        ("STD-GEN-USB-JPEG", jpeg, "4.50"),
    ):
        run(settings, [study], tmp_path / profile, profile=profile)
        with reading(tmp_path / profile) as (found,):
            assert str(found.TransferSyntaxUID).endswith(kept)


def test_what_cannot_be_converted_is_told_and_the_rest_is_written(
    archive: ForwardingArchive,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = new_uid()
    good, bad = (image(StudyInstanceUID=study) for _ in range(2))
    bad.PixelData = pydicom.encaps.encapsulate([b"no picture"])
    archive.index(
        stage(archive.store, good),
        stage(archive.store, bad, transfer_syntax="1.2.840.10008.1.2.4.90"),
    )
    target = tmp_path / "media.zip"
    assert run(settings, [study], target, profile="STD-GEN-CD") == 1
    said = capsys.readouterr().out
    assert "1 of 2 instances written" in said
    assert f"{bad.SOPInstanceUID}  compressed in 1.2.840.10008.1.2.4.90" in said
    with zipfile.ZipFile(target) as archived:
        assert archived.testzip() is None
        assert sorted(archived.namelist()) == ["DICOM/ST000001/SE000001/IM000001", "DICOMDIR"]


def test_keys_that_an_instance_lacks_are_supplied(
    archive: ForwardingArchive, settings: Settings, tmp_path: Path
) -> None:
    ds = image(PatientID="", StudyDate="", SeriesNumber=None, PatientName="ONE")
    del ds.StudyTime
    del ds.InstanceNumber
    other = image(PatientID="", PatientName="OTHER")
    archive.index(stage(archive.store, ds), stage(archive.store, other))
    studies = [str(each.StudyInstanceUID) for each in (ds, other)]
    assert run(settings, studies, tmp_path / "a", profile="STD-GEN-CD") == 0
    with reading(tmp_path / "a") as written:
        # Whose number is not known is nobody else.
        assert {str(each.PatientName): each.PatientID for each in written} == {
            "ONE": "UNKNOWN1",
            "OTHER": "UNKNOWN2",
        }
        (found,) = written.find(PatientName="ONE")
        assert found.StudyDate
        assert found.load().PatientID == ""


def broken(number: int) -> Iterator[bytes]:
    yield bytes(number)
    raise StoreUnavailable("the object store is away")


def test_a_file_that_fails_is_not_in_the_zip(tmp_path: Path) -> None:
    path = tmp_path / "out.zip"
    target = ZipTarget(path)
    target.write("first", [b"one" * 1000])
    with pytest.raises(StoreUnavailable):
        target.write("second", broken(3_000_000))
    target.write("third", [b"three"])
    assert not path.exists()
    target.close()
    target.abort()
    with zipfile.ZipFile(path) as archived:
        assert archived.testzip() is None
        assert archived.namelist() == ["first", "third"]
        assert archived.read("third") == b"three"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_given_up_leaves_no_zip_and_no_half_file(tmp_path: Path) -> None:
    target = ZipTarget(tmp_path / "out.zip")
    with pytest.raises(StoreUnavailable):
        target.write("first", broken(10))
    target.abort()
    assert list(tmp_path.iterdir()) == []
    folder = FolderTarget(tmp_path / "out")
    with pytest.raises(StoreUnavailable):
        folder.write("first", broken(10))
    folder.write("second", [b"two"])
    folder.abort()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second"]


def test_targets_that_cannot_be(
    archive: ForwardingArchive, settings: Settings, tmp_path: Path
) -> None:
    study, _ = archive.study(images=1)
    file = tmp_path / "file"
    file.write_text("here")
    with pytest.raises(ConfigurationError, match="is a file"):
        run(settings, [study], file)
    with pytest.raises(ConfigurationError, match="no folder"):
        run(settings, [study], tmp_path / "none" / "out.zip")
    with pytest.raises(ConfigurationError, match="not empty"):
        run(settings, [study], tmp_path, profile="STD-GEN-CD")
    with pytest.raises(CannotWrite, match=r"No such file|Not a directory"):
        FolderTarget(file / "below")

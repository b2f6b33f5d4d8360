"""Imports: files of every kind are taken, told to be here, or refused by name; nothing twice."""

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.export_targets import FolderTarget
from gantry_archive.exporting import Export
from gantry_archive.import_sources import find_files
from gantry_archive.importing import Fate, Import, Imported, ImportStopped
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.staging import Stager
from gantry_cli.importing import import_files
from gantry_domain.errors import ConfigurationError
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.receipts import Receipt
from gantry_domain.sight import Sight
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_runtime.partners import Partner
from gantry_runtime.settings import load_settings
from gantry_stores.index.search import Subject
from gantry_stores.objects import ObjectStore, StoreFull
from gantry_stores.queue.names import INDEX_QUEUE
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.stored import NO_POLICIES, encoded, file_of, image, rows

IMPLICIT = "1.2.840.10008.1.2"
LARGEST = 4 << 20


class Importer:
    """Imports into an archive, and indexes what was taken as the worker does."""

    def __init__(self, engine: Engine, store: ObjectStore) -> None:
        self.engine, self.store = engine, store
        self.published: list[Receipt] = []
        self.stopping = threading.Event()

    def run(self, *paths: Path, store: ObjectStore | None = None) -> dict[str, tuple[Fate, Any]]:
        """What became of each file, by its name."""
        return {
            each.found.name.rpartition("/")[2]: (each.fate, each.why)
            for each in self.outcomes(*paths, store=store)
        }

    def outcomes(self, *paths: Path, store: ObjectStore | None = None) -> Iterator[Imported]:
        stager = Stager(
            store=store or self.store,
            publish=self.published.append,
            max_object_size=LARGEST,
            store_patience=0.1,
        )
        importing = Import(
            stager=stager,
            engine=self.engine,
            calling_ae="IMPORT",
            receiving_ae="GANTRY",
            partition="main",
            storage_classes=frozenset(STORAGE_CLASSES),
            stopping=self.stopping,
        )
        return importing.run(each for path in paths for each in find_files(path))

    def index(self) -> None:
        taken, self.published[:] = list(self.published), []
        index_batch(taken, store=self.store, engine=self.engine, rules=ReadingRules())
        judge_studies(self.engine, NO_POLICIES)

    def states(self) -> list[tuple[str, int]]:
        sql = "SELECT state, count(*) FROM object GROUP BY 1 ORDER BY 1"
        return [(state, number) for state, number in rows(self.engine, sql)]


@pytest.fixture
def importer(engine: Engine, store: ObjectStore) -> Importer:
    return Importer(engine, store)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Where the files are; the store is elsewhere."""
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def counts(told: dict[str, tuple[Fate, Any]]) -> dict[Fate, int]:
    return {fate: sum(each is fate for each, _ in told.values()) for fate in Fate}


def test_files_of_a_folder_are_taken_once(importer: Importer, files: Path) -> None:
    folder = files / "below"
    folder.mkdir(parents=True)
    images = [image() for _ in range(3)]
    for number, ds in enumerate(images):
        (folder / f"{number}.dcm").write_bytes(file_of(ds))
    (folder / "README.TXT").write_text("no DICOM at all")
    (folder / "empty").touch()
    (folder / "loop").symlink_to(folder.parent)
    told = importer.run(files)
    assert told["0.dcm"] == (Fate.TAKEN, None)
    assert told["README.TXT"] == (Fate.NO_DICOM, None)
    assert told["empty"] == (Fate.NO_DICOM, None)
    assert len(told) == 5
    importer.index()
    assert importer.states() == [("primary", 3)]
    found = rows(importer.engine, "SELECT calling_ae, called_ae FROM object LIMIT 1")
    assert found == [("IMPORT", "GANTRY")]
    # Begun again: nothing is stored twice, and what is new is taken.
    (folder / "3.dcm").write_bytes(file_of(image()))
    again = importer.run(files)
    assert counts(again) == {Fate.TAKEN: 1, Fate.HERE: 3, Fate.NO_DICOM: 2, Fate.REFUSED: 0}
    importer.index()
    assert importer.states() == [("primary", 4)]
    # The same UID with other bytes is judged as if it had come over the network.
    changed = images[0]
    changed.PixelData = bytes(len(changed.PixelData))
    (folder / "0.dcm").write_bytes(file_of(changed))
    assert importer.run(folder / "0.dcm") == {"0.dcm": (Fate.TAKEN, None)}
    importer.index()
    assert importer.states() == [("conflict", 1), ("primary", 4)]


def test_odd_files_are_told_by_name_and_stop_nothing(importer: Importer, files: Path) -> None:
    whole = file_of(image())
    no_study = image()
    del no_study.StudyInstanceUID
    large = image()
    large.PixelData = bytes(LARGEST)
    directory = image(SOPClassUID="1.2.840.10008.1.3.10")
    contents = {
        "good": whole,
        "cut_in_meta": whole[:150],
        "no_study": file_of(no_study),
        "large": file_of(large),
        "directory": file_of(directory),
        "unknown": file_of(image(SOPClassUID="1.2.3.4")),
        "syntax": whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"),
        "bare_implicit": encoded(image(), IMPLICIT),
        "bare_explicit": encoded(image()),
        "no_preamble": file_of(image())[132:],
        "bad.zip": b"PK\x03\x04" + bytes(50),
    }
    for name, content in contents.items():
        (files / name).write_bytes(content)
    told = importer.run(files)
    taken = {name for name, (fate, _) in told.items() if fate is Fate.TAKEN}
    assert taken == {"good", "bare_implicit", "bare_explicit", "no_preamble"}
    assert told["bad.zip"] == (Fate.NO_DICOM, None)
    assert told["cut_in_meta"] == (Fate.REFUSED, "not a DICOM file: missing_transfer_syntax")
    assert told["no_study"] == (Fate.REFUSED, "StudyInstanceUID is missing")
    assert told["large"] == (Fate.REFUSED, f"larger than {LARGEST} bytes")
    assert told["directory"] == (Fate.NO_DICOM, None)
    assert told["unknown"] == (Fate.REFUSED, "instances of this SOP class are not stored")
    assert told["syntax"] == (Fate.REFUSED, "its transfer syntax is not stored")
    importer.index()
    assert importer.states() == [("primary", 4)]


def test_files_in_a_zip_and_one_that_is_damaged_there(importer: Importer, files: Path) -> None:
    packed = files / "study.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"study/{number}", file_of(image()))
        archive.writestr("study/DICOMDIR", b"not looked at")
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        damaged = archive.getinfo("study/7")
    content[damaged.header_offset + 200] ^= 0xFF
    packed.write_bytes(content)
    told = importer.run(files)
    assert counts(told) == {Fate.TAKEN: 19, Fate.HERE: 0, Fate.NO_DICOM: 0, Fate.REFUSED: 1}
    assert told["7"][0] is Fate.REFUSED
    importer.index()
    assert counts(importer.run(packed))[Fate.HERE] == 19


def test_a_dicomdir_names_what_is_taken_and_what_is_missing(
    importer: Importer, tmp_path: Path
) -> None:
    source = ForwardingArchive(importer.engine, importer.store)
    study, uids = source.study(images=3)
    media = tmp_path / "media"
    target = FolderTarget(media)
    export = Export(engine=source.engine, store=source.store, target=target, profile="STD-GEN-CD")
    subjects = [(Subject(study), Sight("main"))]
    assert [each.refused for each in export.run(subjects)] == [None] * 3
    target.close()
    (media / "OTHER").write_bytes(file_of(image()))
    told = importer.run(media / "DICOMDIR")
    assert counts(told) == {Fate.TAKEN: 0, Fate.HERE: 3, Fate.NO_DICOM: 0, Fate.REFUSED: 0}
    first = media / "DICOM" / "ST000001" / "SE000001" / "IM000001"
    first.unlink()
    second = first.with_name("IM000002")
    second.rename(second.with_name("im000002"))  # as some systems show what is on a disc
    told = importer.run(media / "DICOMDIR")
    assert told["IM000001"] == (Fate.REFUSED, "the DICOMDIR names it, and it is not there")
    assert told["im000002"] == (Fate.HERE, None)
    assert "OTHER" not in told
    assert "OTHER" in importer.run(media)
    assert len(uids) == 3


class Full:
    """A store without room."""

    def create(self, key: str) -> Any:
        raise StoreFull("the object folder is full")


def test_a_full_store_ends_the_import_and_says_so(importer: Importer, files: Path) -> None:
    for number in range(3):
        (files / str(number)).write_bytes(file_of(image()))
    with pytest.raises(ImportStopped, match="full"):
        importer.run(files, store=Full())  # type: ignore[arg-type]
    assert importer.published == []
    importer.stopping.clear()
    assert counts(importer.run(files))[Fate.TAKEN] == 3


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no"):
        list(find_files(tmp_path / "none"))
    broken = tmp_path / "DICOMDIR"
    ds = image(SOPClassUID="1.2.840.10008.1.3.10")
    broken.write_bytes(file_of(ds)[:-100])
    with pytest.raises(ConfigurationError, match="name its folder instead"):
        list(find_files(broken))


def test_the_command_takes_files_as_a_partner_and_tells_the_workers(
    importer: Importer, redis_server: RedisServer, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "one").write_bytes(file_of(image()))
    (files / "two").write_bytes(file_of(image())[:150])
    url = importer.engine.url.render_as_string(hide_password=False)
    settings = load_settings({"GANTRY_DATA": str(files.parent)}).model_copy(
        update={
            "database": url.replace("postgresql+psycopg://", "postgresql://"),
            "broker": redis_server.url,
            "partners": (Partner(ae_title="OLDPACS", partition="research"),),
        }
    )

    def run(**values: Any) -> int:
        return import_files(
            settings, [files], **{"sender": "OLDPACS", "partition": None, "at_once": 2} | values
        )

    assert run() == 1
    said = capsys.readouterr().out
    assert f"{files / 'two'}  not a DICOM file: missing_transfer_syntax" in said
    assert "2 of 2 files: 1 taken, 0 here already, 0 no DICOM, 1 refused" in said
    assert redis_server.client().llen(INDEX_QUEUE) == 1
    (stored,) = importer.store.list("objects/")
    meta = parse_file_meta(importer.store.read(stored.key)).meta
    assert (meta.calling_ae, meta.receiving_ae, meta.partition) == ("OLDPACS", "GANTRY", "research")
    with pytest.raises(ConfigurationError, match="there is no partition resaerch"):
        run(partition="resaerch")
    with pytest.raises(ConfigurationError, match="1 to 16 characters"):
        run(sender="A" * 17)

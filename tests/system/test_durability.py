"""Nothing acknowledged is lost, whatever dies.

Devices send all the while; a part is killed, stopped, emptied or taken away for real; afterwards
every acknowledged image is found with its bytes, the store and the index name the same objects,
and a new index made from the store alone is the same as the one that lived through all this.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from blackbox.datasets import Sample, image, new_uid, studies, write
from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.processes import Seen
from blackbox.run import Gantry
from blackbox.scu import Modality, associate, begin_store, contexts_of, send
from blackbox.stores import NewStore
from blackbox.waiting import until

CONFIG = """
sweep: {after: 4s, every: 1s}
ingress: {store_patience: 2s}
http: {processes: 1}
query: {processes: 1}
"""
LARGE = 3072  # a side, in pixels: a bucket shows nothing of an object that is no larger than a part
OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1


@dataclass
class Ward:
    """A run that is harmed, the devices that send to it, and all that they were promised."""

    run: Gantry
    index: Index
    archive: Archive
    folder: Path
    acknowledged: list[Sample] = field(default_factory=list)
    """Since the last time that all were looked for."""
    kept: dict[str, bytes] = field(default_factory=dict)
    """All that were found before, with the hash of their bytes."""

    @contextmanager
    def devices(self, number: int = 3) -> Iterator[Sequence[Modality]]:
        """Devices that send while the body runs, which begins when the first images are in."""
        port = self.run.port("dimse")
        devices = [Modality(port, studies(self.folder)).start() for _ in range(number)]
        try:
            progress(devices, 5)
            yield devices
        finally:
            for device in devices:
                device.stop()
                self.acknowledged += device.acknowledged

    def nothing_is_lost(self, *, seconds: float = 60) -> None:
        """Every acknowledged image is found, with its bytes; the store and the index agree."""
        until(self.run.ready, "every service is ready again", seconds=seconds)
        # Listing a bucket of a thousand objects takes the server a tenth of a second.
        until(
            self.index.settled, "each key has its row and its verdict", seconds=seconds, every=0.5
        )
        promised = {sample.SOPInstanceUID: sample for sample in self.acknowledged}
        found = self.archive.found(promised)
        assert set(promised) == set(found)
        for uid, sample in promised.items():
            assert found[uid] == (sample.StudyInstanceUID, sample.SeriesInstanceUID)
        self.kept |= {uid: sample.sha256 for uid, sample in promised.items()}
        self.acknowledged.clear()
        rows = self.index.rows(
            "SELECT sop_instance_uid, sha256 FROM object WHERE state = 'primary'"
            " AND sop_instance_uid = ANY(%s)",
            list(self.kept),
        )
        assert dict(rows) == self.kept

    @contextmanager
    def held_index(self) -> Iterator[None]:
        """While the body runs, no transaction of the worker can end."""
        with self.index.connection() as connection, connection.transaction():
            connection.execute("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE")
            yield

    def worker_waits(self) -> bool:
        """Whether a worker stands in the middle of its transaction, waiting for the lock."""
        return self.index.rows(
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode <> 'AccessExclusiveLock'"
            " AND relation = 'instance'::regclass"
        ) == [(True,)]


def progress(devices: Sequence[Modality], images: int, *, seconds: float = 60) -> None:
    """Waits until each device was acknowledged so many more images."""
    goals = [len(device.acknowledged) + images for device in devices]

    def done() -> bool:
        return all(
            len(device.acknowledged) >= goal for device, goal in zip(devices, goals, strict=True)
        )

    until(done, f"each device got {images} more images in", seconds=seconds)


def kill(processes: Sequence[Seen]) -> None:
    """kill -9, and waits until they are gone."""
    for seen in processes:
        seen.send(signal.SIGKILL)
    until(lambda: not any(seen.running() for seen in processes), "the killed are gone")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory, new_store: NewStore) -> Iterator[Ward]:
    """One run for the whole file: what one test leaves behind the next must live with."""
    run = Gantry(config=CONFIG, store=new_store())
    try:
        run.start()
        folder = tmp_path_factory.mktemp("images")
        yield Ward(run, Index(run), Archive(run.http), folder)
        run.stop_cleanly()
    finally:
        run.clean()


@pytest.mark.slow
def test_ingress_is_killed_between_and_during_stores(ward: Ward) -> None:
    with ward.devices() as devices:
        for _ in range(3):
            kill(ward.run.children("ingress"))
            progress(devices, 5)
        kill([ward.run.supervisor("ingress")])
        progress(devices, 5)
    assert any(device.cut_off for device in devices)
    ward.nothing_is_lost()


@pytest.mark.slow
def test_ingress_is_killed_in_the_middle_of_an_object(ward: Ward) -> None:
    sample = write(image(side=LARGE), ward.folder)
    before = ward.run.store.begun()
    assoc = associate(ward.run.port("dimse"), contexts_of([sample]))
    begin_store(assoc, sample, 0.6)
    until(lambda: ward.run.store.begun() - before, "a part of the object is in the store")
    kill(ward.run.children("ingress"))
    assoc.abort()
    until(ward.run.ready, "the ingress is back")
    ward.nothing_is_lost()
    assert ward.index.objects_of(sample.SOPInstanceUID) == []
    (answer,) = send(ward.run.port("dimse"), [sample])
    assert answer.success
    ward.acknowledged.append(sample)
    ward.nothing_is_lost()


def test_a_device_that_hangs_up_in_the_middle_leaves_nothing(ward: Ward) -> None:
    sample = write(image(side=LARGE), ward.folder)
    before = ward.run.store.begun()

    def begun() -> set[str]:
        return ward.run.store.begun() - before

    assoc = associate(ward.run.port("dimse"), contexts_of([sample]))
    begin_store(assoc, sample, 0.6)
    until(begun, "a part of the object is in the store")
    assoc.abort()
    until(lambda: not begun(), "the part is gone")
    assert ward.index.objects_of(sample.SOPInstanceUID) == []


def test_worker_is_killed_in_the_middle_of_a_batch(ward: Ward) -> None:
    with ward.devices() as devices:
        for _ in range(2):
            with ward.held_index():
                progress(devices, 10)
                until(ward.worker_waits, "a batch stands in its transaction", seconds=60)
                kill(ward.run.children("worker"))
            progress(devices, 5)
        kill([ward.run.supervisor("worker")])
        progress(devices, 5)
    ward.nothing_is_lost()


@pytest.fixture
def broker(ward: Ward) -> Iterator[redis.Redis]:
    """The broker of the run."""
    password = (ward.run.data / "secrets" / "broker").read_text().strip()
    with redis.Redis(
        unix_socket_path=str(ward.run.data / "run" / "r" / "s"), password=password
    ) as client:
        yield client


def test_redis_is_flushed_while_receipts_wait(ward: Ward, broker: redis.Redis) -> None:
    with ward.devices() as devices:
        with ward.held_index():
            progress(devices, 10)
            until(ward.worker_waits, "the worker is stuck")
            progress(devices, 10)
            until(lambda: broker.llen("index"), "receipts wait in the broker")
            broker.flushall()
        progress(devices, 5)
    ward.nothing_is_lost()


def test_redis_is_killed_and_comes_back(ward: Ward, broker: redis.Redis) -> None:
    first = ward.run.engine("redis-server")
    with ward.devices() as devices:
        kill([first])
        # A broker that is away never refuses an image.
        progress(devices, 20)
        until(lambda: _running(ward.run, "redis-server"), "Redis runs again")
        progress(devices, 10)
    assert not any(device.refused for device in devices)
    ward.nothing_is_lost()
    # And receipts flow again: an image is found sooner than the sweep would find it.
    assert broker.ping()


def _running(run: Gantry, program: str) -> bool:
    try:
        return run.engine(program).running()
    except AssertionError:
        return False


@pytest.mark.slow
def test_postgresql_stands_still_for_20_seconds(ward: Ward) -> None:
    stopped = [s for s in ward.run.processes().values() if s.arguments[0].startswith("postgres")]
    stopped.append(ward.run.engine("postgres"))
    with ward.devices(2) as devices:
        for seen in stopped:
            seen.send(signal.SIGSTOP)
        try:
            end = time.monotonic() + 20
            while time.monotonic() < end:
                progress(devices, 5)
        finally:
            for seen in stopped:
                seen.send(signal.SIGCONT)
    assert not any(device.refused for device in devices)
    ward.nothing_is_lost()


@pytest.mark.slow
def test_postgresql_is_killed_and_comes_back(ward: Ward) -> None:
    with ward.devices(2) as devices:
        kill([ward.run.engine("postgres")])
        progress(devices, 20)
        until(lambda: _running(ward.run, "postgres"), "PostgreSQL runs again")
    assert not any(device.refused for device in devices)
    ward.nothing_is_lost()


@pytest.mark.slow
def test_the_store_is_taken_away(ward: Ward) -> None:
    with ward.devices() as devices:
        with ward.run.store.away():
            refusals = lambda: [a for d in devices for a in d.refused]  # noqa: E731
            until(refusals, "an image is refused")
            acknowledged = [len(device.acknowledged) for device in devices]
            seen = len(refusals())
            until(lambda: len(refusals()) > seen + 3, "more are refused")
            # Senders are still led to it, and all its processes say what they lack.
            until(lambda: all(ward.run.lacking("ingress")), "the ingress says what it lacks")
            assert ward.run.readiness("ingress")[0] == 200
            until(lambda: not ward.run.ready(), "query says that it is not ready")
            assert acknowledged == [len(device.acknowledged) for device in devices]
        progress(devices, 5)
    assert {answer.status for answer in refusals()} == {OUT_OF_RESOURCES}
    assert all(len(answer.comment) <= 64 for answer in refusals())
    ward.nothing_is_lost()


@pytest.mark.slow
def test_a_new_index_from_the_store_is_the_same(
    ward: Ward, new_gantry: Callable[..., Gantry]
) -> None:
    _send_what_is_odd(ward)
    ward.nothing_is_lost()
    assert len(ward.kept) > 200
    purged = "SELECT count(*) = 0 FROM object WHERE state = 'duplicate' AND reason = 'same_bytes'"
    until(lambda: ward.index.rows(purged) == [(True,)], "what is there twice is purged")
    before = ward.index.snapshot()
    states = {row[0] for row in ward.index.rows("SELECT DISTINCT state FROM object")}
    assert {"primary", "duplicate", "conflict"} <= states

    with ward.index.connection() as connection:
        connection.execute("CREATE DATABASE again")
    other = new_gantry(
        config=f"database: postgresql://gantry@/again?host={ward.index.sockets}\n",
        store=ward.run.store.shared(),
    )
    secret = {"GANTRY_DATABASE_PASSWORD": ward.index.password}
    migrated = other.run("migrate", names=secret)
    assert migrated.returncode == 0, migrated.stderr
    reindexed = other.run("reindex", names=secret)
    assert reindexed.returncode == 0, reindexed.stderr
    again = Index(ward.run, "again").snapshot()
    assert ward.index.snapshot() == before  # nothing moved under the comparison
    assert {table: len(rows) for table, rows in again.items()} == {
        table: len(rows) for table, rows in before.items()
    }
    for table, rows in before.items():
        differing = sorted(set(rows) ^ set(again[table]))
        assert not differing, f"{table}: {differing[:4]}"

    # Into a database that is not empty it refuses.
    refused = other.run("reindex", names=secret)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


def _send_what_is_odd(ward: Ward) -> None:
    """Duplicates, conflicts and images that share a patient or quarrel over one."""
    study = new_uid()
    odd = [image(study=study, number=number, seed=number) for number in range(4)]
    again = [image(study=study, seed=9), image(study=study, name="Other^Name")]
    again[0].SOPInstanceUID = odd[0].SOPInstanceUID  # other series and pixels
    again[1].SOPInstanceUID = odd[1].SOPInstanceUID
    again[1].SeriesInstanceUID = odd[1].SeriesInstanceUID
    again[1].PixelData = odd[1].PixelData
    again[1].InstanceNumber = odd[1].InstanceNumber
    other_patient = image(study=study, patient="another")
    for ds in again:
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    samples = [write(ds, ward.folder) for ds in (*odd, *again, other_patient)]
    answers = send(ward.run.port("dimse"), samples)
    assert all(answer.success for answer in answers)
    ward.acknowledged += [*samples[:4], samples[-1]]

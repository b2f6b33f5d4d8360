"""A run on S3 whose server is slow, busy, deaf or breaks off: nothing is lost, nothing is half."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

from blackbox.datasets import Sample, image, studies, write
from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.run import Gantry
from blackbox.s3_proxy import Proxy
from blackbox.scu import Modality, send
from blackbox.stores import BucketStore
from blackbox.stow import Uploader
from blackbox.waiting import until

CONFIG = """
sweep: {after: 4s, every: 1s}
ingress: {store_patience: 8s}
http: {processes: 1}
query: {processes: 1}
"""
OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1
LARGE = 3072  # a side, in pixels: 18 MiB, in parts


@dataclass(frozen=True, slots=True)
class Place:
    """A run and what its store shows."""

    run: Gantry
    store: BucketStore
    index: Index
    archive: Archive
    folder: Path

    @property
    def proxy(self) -> Proxy:
        return self.store.proxy

    def image(self, *, side: int = 32) -> Sample:
        return write(image(side=side), self.folder)

    def all_is_there(self, samples: list[Sample]) -> None:
        """Each sample is found and served with its bytes, and nothing else is in the store."""
        until(self.run.ready, "all is well", seconds=60)
        until(self.index.settled, "each key has its row", seconds=60, every=0.5)
        promised = {sample.SOPInstanceUID: sample for sample in samples}
        found = self.archive.found(promised)
        assert set(found) == set(promised)
        for uid, sample in promised.items():
            rows = [row for row in self.index.objects_of(uid) if row.state == "primary"]
            assert [row.sha256 for row in rows] == [sample.sha256]
        assert not self.store.begun()


@pytest.fixture(scope="module", autouse=True)
def _asked_for(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--objects") != "s3":
        pytest.skip("part of the tests on S3: ./gantry test --objects s3 tests/system/test_s3.py")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, new_bucket: Callable[[], BucketStore]
) -> Iterator[Place]:
    store = new_bucket()
    run = Gantry(config=CONFIG, store=store)
    try:
        run.start()
        folder = tmp_path_factory.mktemp("s3")
        yield Place(run, store, Index(run), Archive(run.http), folder)
        run.stop_cleanly()
    finally:
        run.clean()


def test_images_are_in_the_bucket_and_nowhere_else(place: Place) -> None:
    samples = [place.image(), place.image(side=LARGE)]
    answers = send(place.run.port("dimse"), samples)
    assert [answer.status for answer in answers] == [0, 0]
    place.all_is_there(samples)
    assert len(place.store.keys()) >= 2
    assert not (place.run.data / "objects").exists()
    for sample in samples:
        (row,) = place.index.objects_of(sample.SOPInstanceUID)
        assert place.index.stored_dataset(row.id) == sample.dataset_bytes
        part = place.archive.retrieve(
            sample.StudyInstanceUID, sample.SeriesInstanceUID, sample.SOPInstanceUID
        )
        assert part.content.endswith(sample.dataset_bytes)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda proxy: proxy.slow(0.05), id="slow"),
        pytest.param(lambda proxy: proxy.busy(), id="busy"),
        pytest.param(lambda proxy: proxy.still(), id="still"),
        pytest.param(lambda proxy: proxy.cutting(100_000), id="cut"),
        pytest.param(lambda proxy: proxy.losing_answers(), id="deaf"),
    ],
)
def test_a_fault_for_a_while(
    place: Place, fault: Callable[[Proxy], AbstractContextManager[None]]
) -> None:
    """While devices send, and a client over HTTP. What is not refused, maybe late, holds."""
    devices = [Modality(place.run.port("dimse"), studies(place.folder)).start() for _ in range(2)]
    web = f"http://127.0.0.1:{place.run.port('http')}/dicomweb/studies"
    client = Uploader(web, studies(place.folder)).start()
    senders = [*devices, client]
    until(lambda: all(len(sender.acknowledged) > 3 for sender in senders), "images come in")
    before = place.proxy.faults
    with fault(place.proxy):
        until(lambda: place.proxy.faults > before + 5, "it is felt")
    after = [len(sender.acknowledged) for sender in senders]
    until(
        lambda: all(
            len(sender.acknowledged) > count + 3
            for sender, count in zip(senders, after, strict=True)
        ),
        "images come in again",
        seconds=60,
    )
    for sender in senders:
        sender.stop()
    for device in devices:
        assert {answer.status for answer in device.refused} <= {OUT_OF_RESOURCES}
    assert set(client.refused) <= {503}
    place.all_is_there([sample for sender in senders for sample in sender.acknowledged])


def test_a_large_upload_that_breaks_goes_on_where_it_was(place: Place) -> None:
    sample = place.image(side=LARGE)
    before = place.proxy.faults
    sender = Modality(place.run.port("dimse"), chain([sample], studies(place.folder)))
    # Some parts of 8 MiB break in the middle, again and again; then the line is good.
    with place.proxy.cutting(3_000_000):
        sender.start()
        until(lambda: place.proxy.faults > before + 2, "parts break off")
        assert not sender.acknowledged
        assert place.archive.found([sample.SOPInstanceUID]) == {}
    until(lambda: sample in sender.acknowledged, "the image is in")
    assert not sender.refused
    sender.stop()
    place.all_is_there(sender.acknowledged)


def test_a_large_image_that_is_refused_leaves_nothing(place: Place) -> None:
    sample = place.image(side=LARGE)
    with place.proxy.cutting(3_000_000):
        (answer,) = send(place.run.port("dimse"), [sample])
        assert answer.status == OUT_OF_RESOURCES
    until(lambda: not place.store.begun(), "its parts are gone")
    place.all_is_there([])
    assert place.index.objects_of(sample.SOPInstanceUID) == []


def test_an_answer_that_is_lost_is_no_second_object(place: Place) -> None:
    sample = place.image()
    keys = set(place.store.keys())
    sender = Modality(
        place.run.port("dimse"), chain([sample], studies(place.folder)), per_association=1
    )
    with place.proxy.losing_answers():
        sender.start()
        until(lambda: set(place.store.keys()) - keys, "the object is there, unknown to us")
        assert not sender.acknowledged
    until(lambda: sample in sender.acknowledged, "it is acknowledged after all")
    assert not sender.refused
    sender.stop()
    place.all_is_there(sender.acknowledged)
    assert len(place.index.objects_of(sample.SOPInstanceUID)) == 1


def test_a_bucket_that_cannot_be_used_stops_the_start(
    new_bucket: Callable[[], BucketStore], new_gantry: Callable[..., Gantry]
) -> None:
    run = new_gantry(store=new_bucket())
    run.names["AWS_SECRET_ACCESS_KEY"] = "wrong"
    done = run.run("up")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "did not start" in line]
    assert "ingress did not start" in line
    assert "the secret key is wrong" in line

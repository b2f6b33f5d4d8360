"""The way out: pushed by hand, to real archives, to dead, slow and hostile ones, through kills."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blackbox.datasets import Sample, image, new_uid, write
from blackbox.index import Index
from blackbox.peers import Peer, dcmqrscp, free_port, orthanc, storescp
from blackbox.run import Gantry
from blackbox.scp import Hanging, Scp
from blackbox.scu import send
from blackbox.stores import NewStore
from blackbox.waiting import until

pytestmark = pytest.mark.slow

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


@dataclass
class Place:
    """A run whose partners these are."""

    gantry: Gantry
    folder: Path
    storescp: Peer
    orthanc: Peer
    dcmqrscp: Peer
    slow: Scp
    down_port: int
    samples: list[Sample] = field(default_factory=list)

    @property
    def index(self) -> Index:
        return Index(self.gantry)

    def study(self, *, images: int = 3, series: int = 1) -> list[Sample]:
        """A study that has been received, indexed and judged."""
        uid = new_uid()
        samples = [
            write(image(study=uid, series=series_uid, number=n), self.folder)
            for series_uid in [new_uid() for _ in range(series)]
            for n in range(images)
        ]
        self.receive(samples)
        return samples

    def receive(self, samples: list[Sample]) -> None:
        answers = send(self.gantry.port("dimse"), samples)
        assert [answer.status for answer in answers] == [0] * len(samples)
        until(self.index.settled, "the images are indexed and judged")

    def push(self, uid: str, to: str) -> int:
        """The number of the delivery."""
        done = self.gantry.run("push", uid, "--to", to)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[1].rstrip(":"))

    def push_and_wait(self, uid: str, to: str) -> str:
        done = self.gantry.run("push", uid, "--to", to, "--wait")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def delivery(self, number: int) -> tuple[str, str | None]:
        """State and reason."""
        ((state, reason),) = self.index.rows(
            "SELECT state, reason FROM delivery WHERE pk = %s", number
        )
        return state, reason

    def is_now(self, number: int, state: str) -> Callable[[], bool]:
        return lambda: self.delivery(number)[0] == state

    def lanes(self) -> int:
        """The number of the process that forwards."""
        (found,) = [seen for seen in self.gantry.children("worker") if seen.name == "lanes"]
        return found.pid


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, new_store: NewStore) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("forwarding")
    down = free_port()
    with (
        closing(Scp(seconds=0.04)) as slow,
        closing(Hanging()) as hanging,
        storescp(folder / "storescp", "+xa") as one,
        orthanc(folder / "orthanc") as two,
        dcmqrscp(folder / "dcmqrscp") as three,
    ):
        ports = {
            "STORESCP": one.port,
            "ORTHANC": two.port,
            "DCMQRSCP": three.port,
            "SLOW": slow.port,
            "HANGING": hanging.port,
            "DOWN": down,
        }
        partners = [
            f"  - {{ae_title: {title}, address: '127.0.0.1:{port}'}}"
            for title, port in ports.items()
        ]
        config = "\n".join(
            [
                "partners:",
                *partners,
                "forward: {lease: 3s, backoff: {first: 500ms, longest: 1s}, concurrency: 1}",
                "http: {processes: 1}",
                "ingress: {processes: 1}",
                "query: {processes: 1}",
                "worker: {processes: 1}",
            ]
        )
        run = Gantry(config=config, store=new_store())
        try:
            run.start()
            yield Place(run, folder, one, two, three, slow, down)
            run.stop_cleanly()
        finally:
            run.clean()


def test_a_study_reaches_three_archives(place: Place) -> None:
    samples = place.study(images=4, series=2)
    for peer in (place.storescp, place.orthanc, place.dcmqrscp):
        said = place.push_and_wait(samples[0].StudyInstanceUID, peer.ae_title)
        assert f"study with 8 instances to {peer.ae_title}" in said
        assert "delivered: 8 instances" in said
        there = peer.instances()
        assert {there.get(sample.SOPInstanceUID) for sample in samples} == {1}


def test_a_series_and_one_image_are_pushed_alone(place: Place) -> None:
    samples = place.study(images=2, series=2)
    place.push_and_wait(samples[0].SeriesInstanceUID, "STORESCP")
    there = place.storescp.instances()
    assert [sample.SOPInstanceUID in there for sample in samples] == [True, True, False, False]
    place.push_and_wait(samples[2].SOPInstanceUID, "STORESCP")
    there = place.storescp.instances()
    assert [sample.SOPInstanceUID in there for sample in samples] == [True, True, True, False]


def test_mistakes_are_one_line(place: Place) -> None:
    for arguments, said in (
        (["push", "1.2.3", "--to", "STORESCP"], "no study, series or instance has the UID 1.2.3"),
        (["push", "1.2.3", "--to", "STORSCP"], "did you mean STORESCP?"),
        (["deliveries", "retry"], "say which"),
        (["deliveries", "show", "999999"], "there is no delivery 999999"),
        (["deliveries", "list", "--state", "lost"], "lost"),
    ):
        done = place.gantry.run(*arguments)
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_destination_that_is_down_gets_all_when_it_is_back(place: Place) -> None:
    samples = place.study(images=3)
    number = place.push(samples[0].StudyInstanceUID, "DOWN")
    until(place.is_now(number, "failed"), "the delivery has failed for now")
    reason = place.delivery(number)[1]
    assert reason is not None
    assert "Connection refused" in reason
    listed = place.gantry.run("deliveries", "list", "--to", "DOWN").stdout
    assert "0/3" in listed
    assert "Connection refused" in listed
    assert "DOWN 1" in place.gantry.run("status").stdout
    metrics = place.gantry.metrics("worker")
    assert "gantry_worker_deliveries" in metrics.names()
    back = Scp(port=place.down_port)
    try:
        until(place.is_now(number, "delivered"), "it is delivered")
        assert back.received == {sample.SOPInstanceUID: 1 for sample in samples}
    finally:
        back.close()


def test_a_class_that_is_not_taken_is_told_and_fails_what_is_an_image(place: Place) -> None:
    uid = new_uid()
    images = [write(image(study=uid, number=n), place.folder) for n in range(3)]
    document, other = image(study=uid), image(study=new_uid())
    for ds, SOPClassUID in ((document, BASIC_TEXT_SR), (other, ENHANCED_MR)):
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SOPClassUID
    place.receive([*images, write(document, place.folder), write(other, place.folder)])
    done = place.gantry.run("push", uid, "--to", "SLOW", "--wait")
    assert done.returncode == 0, done.stderr
    told = "delivered: 3 instances (1 of 4 refused: its class is not taken there)\n"
    assert done.stdout.endswith(told), done.stdout
    assert {place.slow.received[sample.SOPInstanceUID] for sample in images} == {1}
    done = place.gantry.run("push", other.StudyInstanceUID, "--to", "SLOW", "--wait")
    assert done.returncode == 2
    assert "0 of 1 arrived" in done.stderr
    assert f"does not accept SOP class {ENHANCED_MR}" in done.stderr


def test_a_destination_that_hangs_delays_no_other(place: Place) -> None:
    held = [place.study(images=1)[0] for _ in range(3)]
    hanging = [place.push(sample.StudyInstanceUID, "HANGING") for sample in held]
    until(place.is_now(hanging[0], "sending"), "the hanging destination is being tried")
    sample = place.study(images=2)[0]
    began = time.monotonic()
    place.push_and_wait(sample.StudyInstanceUID, "STORESCP")
    took = time.monotonic() - began
    assert place.delivery(hanging[0])[0] == "sending"
    assert took < 10
    done = place.gantry.run("deliveries", "cancel", "--to", "HANGING")
    assert done.returncode == 0
    for number in hanging:
        assert place.delivery(number)[0] == "cancelled"


def test_killed_in_the_middle_nothing_is_missing_and_little_is_twice(place: Place) -> None:
    samples = place.study(images=100)
    number = place.push(samples[0].StudyInstanceUID, "SLOW")
    before = sum(place.slow.received.values())
    kills = 0
    for target in (10, 40):
        until(lambda: sum(place.slow.received.values()) >= before + target, "some have arrived")  # noqa: B023
        victim = place.lanes()
        for seen in place.gantry.children("worker"):
            if seen.pid == victim:
                seen.send(signal.SIGKILL)
        kills += 1
    until(place.is_now(number, "delivered"), "it is delivered", seconds=60)
    received = [place.slow.received[sample.SOPInstanceUID] for sample in samples]
    assert min(received) == 1
    # What was in flight at a kill may be there twice, and what was being written, nothing else.
    assert sum(received) <= len(samples) + kills * (1 + 8)
    states = place.index.rows(
        "SELECT state, count(*) FROM delivery_item WHERE delivery_pk = %s GROUP BY state", number
    )
    assert states == [("accepted", len(samples))]


def test_stopped_and_started_again_it_goes_on_without_a_repeat(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = place.study(images=60)
    # Far longer in all than it takes to stop, however busy this machine is.
    monkeypatch.setattr(place.slow, "seconds", 0.3)
    number = place.push(samples[0].StudyInstanceUID, "SLOW")
    first = samples[0].SOPInstanceUID
    until(lambda: place.slow.received[first], "it has begun")
    place.gantry.stop_cleanly()
    so_far = sum(place.slow.received[sample.SOPInstanceUID] for sample in samples)
    assert 0 < so_far < len(samples)
    monkeypatch.undo()
    place.gantry.start()
    until(place.is_now(number, "delivered"), "it is delivered", seconds=60)
    assert {place.slow.received[sample.SOPInstanceUID] for sample in samples} == {1}


def test_a_delivery_cancelled_in_the_middle_stops_within_a_second(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = place.study(images=50)
    # Far longer in all than a command takes to start, however busy this machine is.
    monkeypatch.setattr(place.slow, "seconds", 0.3)
    number = place.push(samples[0].StudyInstanceUID, "SLOW")
    until(lambda: place.slow.received[samples[0].SOPInstanceUID], "it has begun")
    done = place.gantry.run("deliveries", "cancel", str(number))
    assert done.stdout == f"cancelled: {number}\n"
    settled = threading.Event()
    settled.wait(1.0)  # the claim is what happens within this time
    so_far = sum(place.slow.received[sample.SOPInstanceUID] for sample in samples)
    assert so_far < len(samples)
    settled.wait(0.5)
    assert sum(place.slow.received[sample.SOPInstanceUID] for sample in samples) == so_far
    # A person may change their mind.
    monkeypatch.undo()
    assert place.gantry.run("deliveries", "retry", str(number)).returncode == 0
    until(place.is_now(number, "delivered"), "it is delivered", seconds=30)
    assert min(place.slow.received[sample.SOPInstanceUID] for sample in samples) == 1


def test_metrics_tell_what_was_sent(place: Place) -> None:
    metrics = place.gantry.metrics("worker")
    before = metrics.value(
        "gantry_worker_delivery_items_total", destination="STORESCP", outcome="accepted"
    )
    sent = metrics.value("gantry_worker_delivery_bytes_total", destination="STORESCP")
    samples = place.study(images=2)
    place.push_and_wait(samples[0].StudyInstanceUID, "STORESCP")
    metrics = place.gantry.metrics("worker")
    after = metrics.value(
        "gantry_worker_delivery_items_total", destination="STORESCP", outcome="accepted"
    )
    assert after == before + 2
    size = sum(len(sample.dataset_bytes) for sample in samples)
    now = metrics.value("gantry_worker_delivery_bytes_total", destination="STORESCP")
    assert now == sent + size
    until(
        lambda: (
            not place.gantry.metrics("worker").value(
                "gantry_worker_deliveries", destination="STORESCP", state="waiting"
            )
        ),
        "nothing waits",
    )

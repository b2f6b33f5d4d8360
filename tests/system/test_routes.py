"""Every complete study goes out by itself: to real archives, late images too, held ones not."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blackbox.datasets import Sample, image, new_uid, write
from blackbox.index import Index
from blackbox.peers import Peer, dcmqrscp, free_port, orthanc, storescp
from blackbox.run import Gantry
from blackbox.scp import Scp
from blackbox.scu import send
from blackbox.stores import NewStore
from blackbox.waiting import until

pytestmark = pytest.mark.slow

ACCESSION = "XXXXR0700000101H"

CONFIG = """
policies:
  - {{rule: patient_identity, identifier: hkid, action: hold}}
complete_after: {{default: 500ms, partners: {{SLOWCT: 1h, ERCT: 1h}}, series: 2s, learn: true}}
sweep: {{after: 2s, every: 500ms}}
http: {{processes: 1}}
ingress: {{processes: 1}}
query: {{processes: 1}}
worker: {{processes: 1}}
partners:
  - {{ae_title: SLOWCT}}
  - {{ae_title: ERCT}}
  - {{ae_title: CT02}}
  - {{ae_title: STORESCP, address: '127.0.0.1:{storescp}'}}
  - {{ae_title: ORTHANC, address: '127.0.0.1:{orthanc}'}}
  - {{ae_title: DCMQRSCP, address: '127.0.0.1:{dcmqrscp}'}}
  - {{ae_title: COUNTING, address: '127.0.0.1:{counting}'}}
  - {{ae_title: DOWN, address: '127.0.0.1:{down}'}}
routes:
  - {{name: everything, send_to: [STORESCP, ORTHANC, DCMQRSCP, COUNTING]}}
  - {{name: again, when: {{Modality: [CT]}}, send_to: [COUNTING]}}
  - {{name: at-once, when: {{calling_ae: ERCT}}, send_to: [COUNTING], trigger: instance}}
  - {{name: series, when: {{calling_ae: ERCT}}, send_to: [STORESCP], trigger: series}}
  - {{name: night-reads, when: {{calling_ae: CT02}}, send_to: [DOWN]}}
forward: {{backoff: {{first: 300ms, longest: 1s}}, late_after: 2s}}
"""


@dataclass
class Place:
    """A run that forwards every study to each of a list."""

    gantry: Gantry
    folder: Path
    peers: list[Peer]
    counting: Scp
    down_port: int

    @property
    def index(self) -> Index:
        return Index(self.gantry)

    def study(self, *, images: int = 3, patient: str = "A123456(3)") -> list[Sample]:
        """A study that is written down and not sent yet."""
        uid = new_uid()
        return [
            write(image(study=uid, number=n, patient=patient), self.folder) for n in range(images)
        ]

    def receive(self, samples: list[Sample], *, calling_ae: str = "CT01") -> None:
        answers = send(self.gantry.port("dimse"), samples, calling_ae=calling_ae)
        assert [answer.status for answer in answers] == [0] * len(samples)

    def delivered(self, sample: Sample, destination: str = "COUNTING") -> bool:
        return self.index.rows(
            "SELECT state FROM delivery WHERE study_instance_uid = %s AND destination = %s",
            sample.StudyInstanceUID,
            destination,
        ) == [("delivered",)]

    def completed(self, sample: Sample) -> bool:
        return self.index.rows(
            "SELECT completed_revision = revision FROM study WHERE study_instance_uid = %s",
            sample.StudyInstanceUID,
        ) == [(True,)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, new_store: NewStore) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("routes")
    down = free_port()
    with (
        closing(Scp()) as counting,
        storescp(folder / "storescp", "+xa") as one,
        orthanc(folder / "orthanc") as two,
        dcmqrscp(folder / "dcmqrscp") as three,
    ):
        config = CONFIG.format(
            storescp=one.port,
            orthanc=two.port,
            dcmqrscp=three.port,
            counting=counting.port,
            down=down,
        )
        run = Gantry(config=config, store=new_store())
        try:
            run.start()
            yield Place(run, folder, [one, two, three], counting, down)
            run.stop_cleanly()
        finally:
            run.clean()


def counts(peer: Peer, samples: Sequence[Sample]) -> set[int | None]:
    """How many copies a peer has of each."""
    there = peer.instances()
    return {there.get(sample.SOPInstanceUID) for sample in samples}


def test_every_study_reaches_each_of_the_list_by_itself(place: Place) -> None:
    studies = [place.study(images=4), place.study(images=2)]
    place.receive([sample for study in studies for sample in study])
    for study in studies:
        for title in ("STORESCP", "ORTHANC", "DCMQRSCP", "COUNTING"):
            until(lambda: place.delivered(study[0], title), f"it is at {title}")  # noqa: B023
    samples = [sample for study in studies for sample in study]
    for peer in place.peers:
        # On a busy machine a study may be complete before its last image comes, which follows.
        until(lambda: None not in counts(peer, samples), "all images are there")  # noqa: B023
        assert counts(peer, samples) == {1}

    def received() -> set[int]:
        return {place.counting.received[sample.SOPInstanceUID] for sample in samples}

    # Two routes lead to it.
    until(lambda: received() == {1}, "the counting one has all images once")


def test_what_comes_late_is_sent_after_it_and_nothing_again(place: Place) -> None:
    early, late = (study := place.study(images=5))[:3], study[3:]
    place.receive(early)
    until(lambda: place.delivered(early[0]), "the first images are delivered")
    place.receive(late)
    until(lambda: place.counting.received[late[-1].SOPInstanceUID], "the late ones follow")
    until(lambda: place.delivered(early[0]), "it is delivered again")
    assert {place.counting.received[sample.SOPInstanceUID] for sample in study} == {1}


def test_a_held_study_stays_and_a_slow_partner_is_waited_for(place: Place) -> None:
    held, slow, plain = (
        place.study(patient="A123456(4)"),
        place.study(),
        place.study(),
    )
    place.receive(held)
    place.receive(slow, calling_ae="SLOWCT")
    place.receive(plain)
    until(lambda: place.completed(held[0]), "the held study is complete")
    until(lambda: place.delivered(plain[0]), "the others go on")
    assert not place.completed(slow[0])
    for study in (held, slow):
        assert place.index.rows(
            "SELECT count(*) FROM delivery WHERE study_instance_uid = %s",
            study[0].StudyInstanceUID,
        ) == [(0,)]
    done = place.gantry.run("push", held[0].StudyInstanceUID, "--to", "COUNTING")
    assert done.returncode == 2
    assert "is held and may not leave" in done.stderr


def test_before_its_study_is_complete_an_instance_leaves_at_once_and_a_series_when_quiet(
    place: Place,
) -> None:
    study = place.study(images=4)
    for first in (0, 2):
        place.receive(study[first : first + 2], calling_ae="ERCT")
        until(
            lambda: all(place.counting.received[s.SOPInstanceUID] for s in study[: first + 2]),  # noqa: B023
            "they have left at once",
        )
    storescp = place.peers[0]
    until(lambda: counts(storescp, study) == {1}, "the series has left")
    assert not place.completed(study[0])
    assert {place.counting.received[sample.SOPInstanceUID] for sample in study} == {1}
    for title in ("COUNTING", "STORESCP"):
        until(lambda: place.delivered(study[0], title), f"it is delivered to {title}")  # noqa: B023


def test_a_destination_that_is_down_is_late_and_then_served(place: Place) -> None:
    study = place.study()
    place.receive(study, calling_ae="CT02")

    def status() -> dict[str, str]:
        lines = place.gantry.run("status").stdout.splitlines()
        return {line.split("  ")[0]: line.split("  ", 1)[-1].strip() for line in lines}

    def gauge(name: str, **labels: str) -> float:
        return place.gantry.metrics("worker").value(name, destination="DOWN", **labels)

    until(
        lambda: status().get("deliveries, late") == "1 (DOWN 1)", "status calls it late", every=0.5
    )
    # Failed it is between two attempts, of which there is one each second.
    until(
        lambda: status()["deliveries, failed"].startswith("1 (DOWN 1), the oldest for "),
        "status says that it failed, and since when",
        every=0.5,
    )
    until(lambda: gauge("gantry_worker_deliveries", state="failed") == 1, "and so does a gauge")
    until(lambda: gauge("gantry_worker_deliveries_late") == 1, "and one that it is late")
    back = Scp(port=place.down_port)
    try:
        until(lambda: place.delivered(study[0], "DOWN"), "it is delivered")
    finally:
        back.close()
    assert back.received == {sample.SOPInstanceUID: 1 for sample in study}
    after = status()
    assert after["deliveries, late"] == after["deliveries, failed"] == "0"
    assert after["studies not judged"] == "0"
    assert after["learned quiet time, CT02"].startswith("not known yet (")


def test_a_time_range_is_sent_to_who_has_not_got_it(place: Place) -> None:
    study = place.study(images=5)
    began = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    place.receive(study)
    until(
        lambda: (
            place.completed(study[0])
            and all(place.counting.received[sample.SOPInstanceUID] for sample in study)
        ),
        "it is complete, and delivered elsewhere",
    )
    command = ("push", "--since", began, "--to", "DOWN")
    counted = place.gantry.run(*command, "--dry-run")
    assert (counted.returncode, "would be sent: 5 instances" in counted.stdout) == (0, True)
    back = Scp(port=place.down_port)
    try:
        done = place.gantry.run(*command, "--wait")
    finally:
        back.close()
    assert done.returncode == 0, done.stderr
    assert "on their way: 5 instances in 1 delivery\ndelivered: 5 instances\n" in done.stdout
    assert back.received == {sample.SOPInstanceUID: 1 for sample in study}
    assert "nothing is missing there" in place.gantry.run(*command).stdout
    by_route = place.gantry.run("push", "--since", began, "--route", "everything")
    assert "nothing is missing there" in by_route.stdout


def test_metrics_follow_a_study_to_the_end(place: Place) -> None:
    def told() -> tuple[float, float, float]:
        metrics = place.gantry.metrics("worker")
        return (
            metrics.value("gantry_worker_studies_completed_total"),
            metrics.value("gantry_worker_delivery_lag_seconds_count", destination="COUNTING"),
            metrics.value("gantry_worker_deliveries_planned_total"),
        )

    before = told()
    study = place.study()
    place.receive(study)
    until(lambda: place.delivered(study[0]), "it is delivered")
    until(
        lambda: [b - a for a, b in zip(before, told(), strict=True)] == [1, 1, 4],
        "the metrics have followed",
    )
    accepted = place.index.rows("SELECT count(*) FROM study WHERE verdict = 'accepted'")[0][0]
    until(
        lambda: (
            place.gantry.metrics("worker").value("gantry_worker_studies", verdict="accepted")
            == accepted
        ),
        "the gauge has followed",
    )

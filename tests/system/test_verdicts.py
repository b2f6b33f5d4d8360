"""Policies as radiographers and clinicians meet them: sent over DIMSE, seen over DICOMweb."""

import random
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blackbox.datasets import Sample, image, new_uid, write
from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.run import Gantry
from blackbox.scu import send
from blackbox.waiting import until

pytestmark = pytest.mark.slow

CONFIG = """
policies:
  - {rule: images_per_study, limit: 3, action: warn}
  - {rule: accession_number, format: ha, unique: false, action: warn}
  - {rule: patient_identity, identifier: hkid, action: hold}
sweep: {after: 2s, every: 1s}
http: {processes: 1}
ingress: {processes: 1}
query: {processes: 1}
"""
ACCESSION = "XXXXR0700000101H"

VALID = ["A123456(3)", "AB987654(3)", "E364912(5)", "D288754(2)", "AB123456(9)", "G123456(A)",
         "A1234563", "A 123456 (3)", "a123456(3)", "Ａ１２３４５６（３）"]  # fmt: skip
# Passports, hospital numbers, newborns: no identity card numbers and no error.
OTHERS = ["K01234567", "HN12345678", "NB-2026-0001"]
INVALID = {
    "A123456(4)": "wrong check digit",
    "AB987654(2)": "wrong check digit",
    "A123456": "malformed",
    "A12345(3)": "malformed",
    "": "missing",
}


@dataclass
class Place:
    """A run with the policies of the design."""

    gantry: Gantry
    folder: Path

    @property
    def index(self) -> Index:
        return Index(self.gantry)

    def study(
        self,
        *,
        patient: str = VALID[0],
        accession: str = ACCESSION,
        images: int = 1,
        name: str = "GANTRY^ANNA",
    ) -> list[Sample]:
        """A study that is written down and not sent yet."""
        uid, samples = new_uid(), []
        for number in range(images):
            ds = image(study=uid, patient=patient, number=number, name=name)
            ds.SpecificCharacterSet = "ISO_IR 192"
            ds.AccessionNumber = accession
            samples.append(write(ds, self.folder))
        return samples

    def receive(self, samples: list[Sample]) -> None:
        answers = send(self.gantry.port("dimse"), samples)
        assert [answer.status for answer in answers] == [0] * len(samples)

    def shown(self) -> set[str]:
        """The studies that clinicians find."""
        found = Archive(self.gantry.http).search("studies", limit=1000)
        return {each["0020000D"]["Value"][0] for each in found}

    def verdict(self, sample: Sample) -> tuple[str, list[str]]:
        """Verdict and codes of what weighs."""
        rows = self.index.rows(
            "SELECT t.verdict, f.code FROM study t LEFT JOIN study_finding f"
            " ON f.study_pk = t.pk AND f.severity <> 'info'"
            " WHERE t.study_instance_uid = %s ORDER BY f.place",
            sample.StudyInstanceUID,
        )
        return rows[0][0], [code for _, code in rows if code]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    run = Gantry(config=CONFIG)
    try:
        run.start()
        yield Place(run, tmp_path_factory.mktemp("verdicts"))
        run.stop_cleanly()
    finally:
        run.clean()


def test_identifiers_are_judged_and_wrong_ones_are_kept_from_clinicians(place: Place) -> None:
    good = [place.study(patient=patient)[0] for patient in VALID + OTHERS]
    bad = {place.study(patient=patient)[0]: why for patient, why in INVALID.items()}
    place.receive([*good, *bad])
    until(place.index.settled, "all are judged")
    shown = place.shown()
    assert {sample.StudyInstanceUID for sample in good} <= shown
    assert not shown & {sample.StudyInstanceUID for sample in bad}
    for sample in bad:
        answer = place.gantry.http.get(f"/dicomweb/studies/{sample.StudyInstanceUID}/metadata")
        assert answer.status_code == 404
    listed = place.gantry.run("held", "list")
    assert listed.returncode == 0
    lines = {line.split()[0]: line for line in listed.stdout.splitlines()}
    for sample, why in bad.items():
        assert f"patient_identity: {why}" in lines[sample.StudyInstanceUID]
    assert not any(patient and patient in listed.stdout for patient in INVALID)
    status = [line.split() for line in place.gantry.run("status").stdout.splitlines()]
    assert ["studies,", "held", str(len(INVALID))] in status


def test_too_many_images_and_a_malformed_number_are_shown_with_their_findings(
    place: Place,
) -> None:
    many, malformed, both = (
        place.study(images=4),
        place.study(accession="A1"),
        place.study(accession="", images=4),
    )
    place.receive([*many, *malformed, *both])
    until(place.index.settled, "all are judged")
    assert place.verdict(many[0]) == ("accepted", ["too_many_images"])
    assert place.verdict(malformed[0]) == ("accepted", ["malformed"])
    assert place.verdict(both[0]) == ("accepted", ["too_many_images", "missing"])
    assert {study[0].StudyInstanceUID for study in (many, malformed, both)} <= place.shown()
    metrics = place.gantry.metrics("worker")
    for rule, code in (("images_per_study", "too_many_images"), ("accession_number", "malformed")):
        assert metrics.value("gantry_worker_findings_total", rule=rule, code=code) >= 1


def test_killed_in_between_the_verdicts_are_the_same(place: Place) -> None:
    chosen = random.Random(7)
    kinds: list[dict[str, Any]] = [
        {"images": 3},
        {"images": 4},
        {"patient": "A123456(4)", "images": 2},
        {"patient": "", "accession": "A1", "images": 4},
    ]
    studies = [(kinds[n % 4], place.study(**kinds[n % 4])) for n in range(32)]
    parts = [[study[n] for _, study in studies if len(study) > n] for n in range(4)]
    before = place.shown()
    unjudged: set[str] = set()
    vanished: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        seen = set(before)
        while not ended.wait(0.05):
            now = place.shown()
            vanished.update(seen - now)
            seen |= now
            for uid in now:
                if place.index.rows(
                    "SELECT 1 FROM study WHERE study_instance_uid = %s AND verdict IS NULL", uid
                ):
                    unjudged.add(uid)

    watching = threading.Thread(target=watch)
    watching.start()
    kills = 0
    try:
        for part in parts:
            chosen.shuffle(part)
            place.receive(part)
            workers = place.gantry.children("worker")
            pool = [seen for seen in workers if seen.name in {"index", "chores"}]
            for seen in pool[-3:]:
                seen.send(signal.SIGKILL)
                kills += 1
        until(place.index.settled, "all are judged", seconds=100)
    finally:
        ended.set()
        watching.join()
    assert kills >= 8
    assert not unjudged
    assert not vanished
    expected = {
        0: ("accepted", []),
        1: ("accepted", ["too_many_images"]),
        2: ("held", ["wrong_check_digit"]),
        3: ("held", ["too_many_images", "malformed", "missing"]),
    }
    for kind, study in studies:
        assert place.verdict(study[0]) == expected[kinds.index(kind)]
    metrics = place.gantry.metrics("worker")
    held = place.index.rows("SELECT count(*) FROM study WHERE verdict = 'held'")[0][0]
    until(
        lambda: (
            place.gantry.metrics("worker").value("gantry_worker_studies", verdict="held") == held
        ),
        "the gauge has followed",
    )
    assert metrics.value("gantry_worker_studies_judged_total") >= len(studies)


ORDER = (
    b"MSH|^~\\&|RIS|HOSP|GANTRY|HOSP|20261121080000||ORM^O01|%(id)s|P|2.3.1||||||UNICODE UTF-8\r"
    b"PID|||A1234563||Gantry, Anna||19700101|%(sex)s\r"
    b"ORC|NW|PL%(id)s|FI%(id)s||SC||1^^^20260102101112^^R\r"
    b"OBR|1|PL%(id)s|FI%(id)s|CTHEAD^CT of the head^L|||||||||||||"
    b"|%(accession)s|RP%(id)s|SP%(id)s||||CT\r"
)


def ordered(place: Place, accession: str, sex: str = "F") -> None:
    values = {"id": accession[-8:], "accession": accession, "sex": sex}
    message = ORDER % {key.encode(): value.encode() for key, value in values.items()}
    with socket.create_connection(("127.0.0.1", place.gantry.port("hl7")), timeout=60) as sock:
        sock.sendall(b"\x0b" + message + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            answer += sock.recv(65536) or b"\x1c\r"
    assert b"\rMSA|AA|" in answer


def test_orders_match_release_and_name_what_differs(place: Place) -> None:
    numbers = [f"XXXXR070000020{n}H" for n in range(4)]
    ordered(place, numbers[0])
    matched, wrong, late, urgent = (
        place.study(accession=number, name="GANTRY^ANNA") for number in numbers
    )
    wrong = place.study(accession=numbers[0], name="GANTRY^ANNE")
    place.receive([*matched, *wrong, *late, *urgent])
    until(place.index.settled, "all are judged")
    assert place.verdict(matched[0]) == ("accepted", [])
    assert place.verdict(wrong[0]) == ("held", ["patient_name_differs"])
    assert place.verdict(late[0]) == ("held", ["no_order"])
    shown = place.shown()
    assert matched[0].StudyInstanceUID in shown
    assert not shown & {wrong[0].StudyInstanceUID, late[0].StudyInstanceUID}
    ordered(place, numbers[2])
    until(lambda: place.verdict(late[0]) == ("accepted", []), "the order releases it")
    gantry = place.gantry
    explained = gantry.run("policy", "explain", wrong[0].StudyInstanceUID)
    assert "UNMATCHED, found by accession number" in explained.stdout, explained.stderr
    assert "ANNE" not in explained.stdout
    assert "GANTRY^ANNE" in gantry.run("held", "show", wrong[0].StudyInstanceUID).stdout
    uid = urgent[0].StudyInstanceUID
    released = gantry.run("held", "release", uid, "--why", "stroke", "--by", "Dr Ho")
    assert released.stdout == "release: the study is accepted now\n", released.stderr
    assert uid in place.shown()
    undone = gantry.run("held", "undo", uid, "--why", "mistaken")
    assert undone.stdout == "undone: release by Dr Ho; the study is held now\n", undone.stderr
    assert uid not in place.shown()
    replayed = gantry.run("policy", "replay")
    assert "patient_identity  patient name differs" in replayed.stdout, replayed.stderr
    assert gantry.http.get("/held").status_code == 403


def test_a_changed_configuration_judges_what_is_there_anew(place: Place) -> None:
    ordered(place, "XXXXR0700000300H")  # orders come in, and none of them is its own
    wrong = place.study(patient="A123456(4)")[0]
    place.receive([wrong])
    until(place.index.settled, "it is judged")
    assert place.verdict(wrong) == ("held", ["wrong_check_digit", "no_order"])
    shown = place.shown()
    place.gantry.stop_cleanly()
    file = Path(place.gantry.names["GANTRY_CONFIG"])
    before = file.read_text()
    changed = before.replace("hkid, action: hold", "hkid, action: warn")
    file.write_text(changed.replace("limit: 3, action: warn", "limit: 3, action: hold"))
    place.gantry.start()
    until(
        lambda: place.verdict(wrong) == ("accepted", ["wrong_check_digit", "no_order"]),
        "it is accepted",
    )
    until(lambda: wrong.StudyInstanceUID in place.shown(), "it is shown")
    # Those of too many images are held now, but nobody loses sight of them.
    until(
        lambda: (
            place.index.rows(
                "SELECT count(*) FROM study t JOIN study_finding f ON f.study_pk = t.pk"
                " WHERE f.code = 'too_many_images' AND t.verdict <> 'held'"
            )
            == [(0,)]
        ),
        "the others are held",
    )
    assert shown <= place.shown()

"""The life of an order over everything: messages, worklist, performed steps, images."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy.engine import Engine

from gantry_archive.completing import complete_performed, complete_studies
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.completeness import QuietTimes
from gantry_domain.sight import Sight
from gantry_stores.index.events import events_after, publish, read_feed
from gantry_stores.objects import DirectoryStore, ObjectStore
from gantry_testkit.hl7_samples import order_message, patient_message
from gantry_testkit.modality import CONTEXTS, Modality, begun, ended, tell, unscheduled
from gantry_testkit.orders_door import OrdersDoor, orders_door
from gantry_testkit.query_scu import associated
from gantry_testkit.stored import NO_POLICIES, image, new_uid, receipts, rows, stage
from gantry_testkit.worklist_clients import findscu

MINUTE = timedelta(minutes=1)
QUIET = QuietTimes(5 * MINUTE, longest=30 * MINUTE)
COMPLETE = """
    SELECT coalesce(completed_revision = revision, false) FROM study WHERE study_instance_uid = :uid
"""


@pytest.fixture(scope="module")
def door(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrdersDoor]:
    with orders_door(module_engine, tmp_path_factory.mktemp("orders")) as door:
        yield door


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    return DirectoryStore(tmp_path_factory.mktemp("objects"))


class Archive:
    """Takes images, and says which studies are complete."""

    def __init__(self, engine: Engine, store: ObjectStore) -> None:
        self.engine = engine
        self.store = store

    def receive(self, study: str, uids: Sequence[str]) -> None:
        sent = [
            stage(self.store, image(StudyInstanceUID=study, SOPInstanceUID=uid)) for uid in uids
        ]
        index_batch(receipts(sent), store=self.store, engine=self.engine, rules=ReadingRules())
        judge_studies(self.engine, NO_POLICIES)

    def complete(self, study: str, *, after: timedelta = timedelta()) -> bool:
        """Whether it is, when the chores ran at such a time from now."""
        now = datetime.now(UTC) + after
        complete_performed(self.engine, longest=QUIET.longest, now=now)
        complete_studies(self.engine, QUIET, all_indexed_until=now, now=now)
        ((found,),) = rows(self.engine, COMPLETE, uid=study)
        return bool(found)


@pytest.fixture
def archive(module_engine: Engine, objects: ObjectStore) -> Archive:
    return Archive(module_engine, objects)


@pytest.fixture
def modality(door: OrdersDoor) -> Iterator[Modality]:
    with associated(door.dimse, contexts=CONTEXTS) as assoc:
        yield Modality(assoc, [])


def shown(door: OrdersDoor, number: str, status: str = "") -> Dataset | None:
    """The step of an order as dcmtk's findscu is told of it."""
    found = findscu(
        door.dimse,
        f"AccessionNumber={number}",
        "PatientName",
        "PatientID",
        "CurrentPatientLocation",
        "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime",
        f"ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus={status}",
        "ScheduledProcedureStepSequence[0].ScheduledStationAETitle=CT01",
    )
    assert len(found) <= 1
    return found[0] if found else None


def start_time(ds: Dataset | None) -> str:
    assert ds is not None
    return str(ds.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime)


@pytest.mark.skipif(shutil.which("findscu") is None, reason="findscu is not installed")
def test_the_life_of_an_order(door: OrdersDoor, archive: Archive, modality: Modality) -> None:
    """Each change is visible to a modality as it must be, and the images are waited for."""
    life = {"accession": "LIFE", "patient": "OLD^^^HOSP", "name": "LAM^KA YAN"}
    old = {"patient": "OLD^^^HOSP", "name": "LAM^KA YAN"}

    def seen() -> tuple[str, str, str]:
        ds = shown(door, "LIFE")
        assert ds is not None
        return str(ds.PatientID), str(ds.PatientName), start_time(ds)

    tell(door, order_message(**life))
    assert seen() == ("OLD", "LAM^KA YAN", "083000")
    tell(door, order_message(**life, control="XO", start="20261121111500"))
    assert seen() == ("OLD", "LAM^KA YAN", "111500")
    tell(door, patient_message("A02", **old, location="ICU"))
    moved = shown(door, "LIFE")
    assert moved is not None
    assert moved.CurrentPatientLocation.startswith("ICU")
    tell(door, patient_message("A08", patient="OLD^^^HOSP", name="LAM^KA YIN"))
    assert seen() == ("OLD", "LAM^KA YIN", "111500")
    tell(door, patient_message("A47", patient="NEW^^^HOSP", old="OLD^^^HOSP", name="LAM^KA YIN"))
    assert seen() == ("NEW", "LAM^KA YIN", "111500")
    tell(door, patient_message("A40", patient="LAST^^^HOSP", old="NEW^^^HOSP", name="LAM^K Y"))
    assert seen() == ("LAST", "LAM^K Y", "111500")
    # What still comes under an old number is the survivor's.
    tell(door, order_message(**life, control="XO", start="20261121120000"))
    assert seen() == ("LAST", "LAM^K Y", "120000")
    tell(door, order_message(**life, control="CA"))
    assert shown(door, "LIFE") is None
    tell(door, order_message(**life))
    assert seen()[0] == "LAST"

    first = begun(door, "LIFE")
    study = str(first.ScheduledStepAttributesSequence[0].StudyInstanceUID)
    performed = generate_uid()
    assert modality.create(first, performed).Status == 0
    assert shown(door, "LIFE") is None
    assert shown(door, "LIFE", "STARTED") is not None
    made = [new_uid() for _ in range(3)]
    archive.receive(study, made[:2])
    assert modality.set(ended("COMPLETED", made), performed).Status == 0
    assert shown(door, "LIFE", "STARTED") is None
    assert not archive.complete(study)
    archive.receive(study, made[2:])
    assert archive.complete(study)
    # And all of it is in the feed of events.
    publish(archive.engine, calm=timedelta())
    last = read_feed(archive.engine).last
    events = events_after(archive.engine, 0, until=last, sight=Sight("main"), limit=1000)
    kinds = [e.happening.kind.value for e in events if e.happening.StudyInstanceUID == study]
    assert [kind for kind, _ in groupby(kinds)] == [
        "ordered", "order_changed", "order_cancelled", "order_changed", "step_started", "received",
        "indexed", "step_completed", "complete",
    ]  # fmt: skip


def test_a_study_waits_for_what_its_modality_told_of(archive: Archive, modality: Modality) -> None:
    study, performed = new_uid(), generate_uid()
    made = [new_uid(), new_uid()]
    assert modality.create(unscheduled(study), performed).Status == 0
    archive.receive(study, made[:1])
    # It goes on: a pause in the middle is no end.
    assert not archive.complete(study, after=6 * MINUTE)
    assert modality.set(ended("COMPLETED", made), performed).Status == 0
    # One is missing, however many others came.
    archive.receive(study, [new_uid(), new_uid()])
    assert not archive.complete(study, after=6 * MINUTE)
    assert not archive.complete(study, after=29 * MINUTE)
    archive.receive(study, made[1:])
    assert archive.complete(study)


def test_nobody_waits_for_ever(archive: Archive, modality: Modality) -> None:
    never_ended, incomplete = new_uid(), new_uid()
    performed = generate_uid()
    assert modality.create(unscheduled(never_ended), generate_uid()).Status == 0
    assert modality.create(unscheduled(incomplete), performed).Status == 0
    assert modality.set(ended("COMPLETED", [new_uid()]), performed).Status == 0
    for study in (never_ended, incomplete):
        archive.receive(study, [new_uid()])
    for study in (never_ended, incomplete):
        assert not archive.complete(study, after=29 * MINUTE)
    for study in (never_ended, incomplete):
        assert archive.complete(study, after=31 * MINUTE)


def test_all_steps_of_a_study_are_waited_for(archive: Archive, modality: Modality) -> None:
    study, made = new_uid(), [new_uid(), new_uid()]
    steps = [generate_uid(), generate_uid()]
    for step in steps:
        assert modality.create(unscheduled(study), step).Status == 0
    archive.receive(study, made)
    assert modality.set(ended("COMPLETED", made[:1]), steps[0]).Status == 0
    assert not archive.complete(study)
    assert modality.set(ended("DISCONTINUED", made[1:]), steps[1]).Status == 0
    assert archive.complete(study)


def test_who_refers_to_nothing_says_nothing(archive: Archive, modality: Modality) -> None:
    study, performed = new_uid(), generate_uid()
    assert modality.create(unscheduled(study), performed).Status == 0
    archive.receive(study, [new_uid()])
    assert modality.set(ended("COMPLETED"), performed).Status == 0
    assert not archive.complete(study)
    assert archive.complete(study, after=6 * MINUTE)


def test_what_comes_late_waits_for_quiet_time(archive: Archive, modality: Modality) -> None:
    study, performed, made = new_uid(), generate_uid(), [new_uid()]
    assert modality.create(unscheduled(study), performed).Status == 0
    archive.receive(study, made)
    assert modality.set(ended("COMPLETED", made), performed).Status == 0
    assert archive.complete(study)
    archive.receive(study, [new_uid()])
    assert not archive.complete(study)
    assert archive.complete(study, after=6 * MINUTE)

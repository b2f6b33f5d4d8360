"""Orders and images over a real index: whichever comes first, the verdict is the same."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider
from gantry_archive.delivery import plan_routes
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.rejudging import recall_changed
from gantry_domain.decisions import DecisionKind
from gantry_domain.policies.accession_number import AccessionNumberFormat
from gantry_domain.policies.findings import Action
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.rules import PolicySet, Scoped
from gantry_domain.policies.study_rules import (
    RequiredAttributes,
    SopClassAllowed,
    StudyConsistency,
)
from gantry_domain.routes import Route
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.evidence import OrderFeed
from gantry_stores.index.judged_studies import find_judged
from gantry_stores.objects import DirectoryStore
from gantry_testkit.hl7_samples import order_message, patient_message
from gantry_testkit.orders_door import Address, acknowledged, orders_door
from gantry_testkit.stored import image, new_uid, receipts, rows, stage, with_changes

POLICIES = PolicySet.of([PatientIdentity(Action.HOLD), StudyConsistency(Action.HOLD)])
FEED = OrderFeed("main", timedelta(hours=1))
DEAD = OrderFeed("main", timedelta(0))
ALL = Route(name="all", send_to=("READING",))
RIGHT = {
    "PatientName": "Chan, Tai-man",
    "PatientID": "P1",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
}
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Hospital:
    """An index with its store, and a port for orders."""

    engine: Engine
    store: DirectoryStore
    hl7: Address

    def order(self, number: str, *, patient: str = "P1", name: str = "CHAN^TAI MAN") -> None:
        message = order_message(
            control_id=str(next(_numbers)), accession=number, patient=patient, name=name
        )
        assert acknowledged(self.hl7, message) == ["AA"]

    def rename(self, patient: str, name: str) -> None:
        message = patient_message("A08", control_id=str(next(_numbers)), patient=patient, name=name)
        assert acknowledged(self.hl7, message) == ["AA"]

    def images(self, number: str, **values: str) -> str:
        """One image of a study with this accession number: the study's UID."""
        ds = image(**{**RIGHT, **values}, AccessionNumber=number)
        self.receive(ds)
        return str(ds.StudyInstanceUID)

    def receive(self, ds: Dataset) -> None:
        sent = [stage(self.store, ds)]
        index_batch(receipts(sent), store=self.store, engine=self.engine, rules=ReadingRules())

    def correct(self, study: str, **values: str) -> None:
        with transaction(self.engine) as connection:
            (found,) = find_judged(connection, study, feed=FEED)
        decider = Decider(store=self.store, engine=self.engine, policies=POLICIES, feed=FEED)
        decider.decide(found, DecisionKind.CORRECT, corrected=values, by="Dr Ho", reason="wrong")

    def judge(self, policies: PolicySet = POLICIES, feed: OrderFeed = FEED) -> None:
        """What the worker does every few seconds."""
        recall_changed(self.engine, feed=feed)
        judge_studies(self.engine, policies, feed=feed)

    def verdict(self, study: str) -> tuple[str, bool, list[str]]:
        """Verdict, whether clinicians see it, and the codes of what weighs."""
        found = rows(
            self.engine,
            "SELECT t.verdict, t.visible, f.code FROM study t LEFT JOIN study_finding f"
            " ON f.study_pk = t.pk AND f.severity <> 'info'"
            " WHERE t.study_instance_uid = :uid ORDER BY f.place",
            uid=study,
        )
        return found[0][0], found[0][1], [code for *_, code in found if code]

    def forwarded(self, study: str) -> bool:
        """Whether its routes make a delivery of it once it is complete."""
        rows(
            self.engine,
            "UPDATE study SET completed_revision = revision, completed_at = now() RETURNING pk",
        )
        plan_routes(self.engine, [ALL])
        return bool(
            rows(
                self.engine,
                "SELECT 1 FROM delivery WHERE study_instance_uid = :uid",
                uid=study,
            )
        )


@pytest.fixture(scope="module")
def hospital(
    module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hospital]:
    engine = make_engine(module_postgres_url)
    folder = tmp_path_factory.mktemp("hospital")
    with orders_door(engine, folder) as door:
        yield Hospital(engine, DirectoryStore(Path(folder / "objects")), door.hl7)
    engine.dispose()


MATCHED = ("accepted", True, [])


def test_an_order_and_then_its_images_are_matched_and_forwarded(hospital: Hospital) -> None:
    hospital.order("M1")
    study = hospital.images("M1")
    hospital.judge()
    assert hospital.verdict(study) == MATCHED
    assert hospital.forwarded(study)
    assert rows(
        hospital.engine,
        "SELECT f.detail FROM study_finding f JOIN study t ON t.pk = f.study_pk"
        " WHERE f.code = 'matched' AND t.study_instance_uid = :uid",
        uid=study,
    ) == [("by accession number",)]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"PatientID": "P2"}, "patient_id_differs"),
        ({"PatientName": "CHAN^MAN TAI"}, "patient_name_differs"),
        ({"PatientBirthDate": "19700201"}, "patient_birth_date_differs"),
        ({"PatientSex": "M"}, "patient_sex_differs"),
        ({"PatientSex": ""}, "patient_sex_missing"),
    ],
)
def test_each_wrong_key_holds_and_is_named(
    hospital: Hospital, wrong: dict[str, str], named: str
) -> None:
    number = f"W{next(_numbers)}"
    hospital.order(number)
    study = hospital.images(number, **wrong)
    hospital.judge()
    assert hospital.verdict(study) == ("held", False, [named])
    assert not hospital.forwarded(study)


def test_an_order_that_comes_after_the_images_releases_them(hospital: Hospital) -> None:
    study = hospital.images("L1")
    hospital.judge()
    assert hospital.verdict(study) == ("held", False, ["no_order"])
    hospital.order("L1")
    hospital.judge()
    assert hospital.verdict(study) == MATCHED
    assert hospital.forwarded(study)


def test_a_patient_who_is_corrected_releases_the_images(hospital: Hospital) -> None:
    hospital.order("N1", patient="P7", name="CHEN^TAI MAN")
    study = hospital.images("N1", PatientID="P7")
    hospital.judge()
    assert hospital.verdict(study) == ("held", False, ["patient_name_differs"])
    hospital.rename("P7", "CHAN^TAI MAN")
    hospital.judge()
    assert hospital.verdict(study) == MATCHED


def test_a_patient_who_is_merged_releases_the_images(hospital: Hospital) -> None:
    hospital.order("G1", patient="OLD")
    study = hospital.images("G1", PatientID="NEW")
    hospital.judge()
    assert hospital.verdict(study) == ("held", False, ["patient_id_differs"])
    message = patient_message(
        "A40", control_id=str(next(_numbers)), patient="NEW^^^HOSP", old="OLD"
    )
    assert acknowledged(hospital.hl7, message) == ["AA"]
    hospital.judge()
    assert hospital.verdict(study) == MATCHED


def test_while_no_orders_come_nobody_is_held_for_having_none(hospital: Hospital) -> None:
    hospital.order("D0")
    before, wrong = hospital.images("D1"), hospital.images("D0", PatientSex="M")
    hospital.judge()
    assert hospital.verdict(before) == ("held", False, ["no_order"])
    hospital.judge(feed=DEAD)
    assert hospital.verdict(before) == MATCHED
    later = hospital.images("D2")
    hospital.judge(feed=DEAD)
    assert hospital.verdict(later) == MATCHED
    # Another patient's order is none the less another's.
    assert hospital.verdict(wrong) == ("held", False, ["patient_sex_differs"])


@given(
    st.permutations(("order", "images", "more images", "name", "correction")),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_in_any_order_it_ends_the_same(
    hospital: Hospital, order: list[str], judged: list[bool], right: bool
) -> None:
    """Judged after each step or not; `right`: whether the registration has the images' name."""
    number, patient = f"O{next(_numbers)}", f"Q{next(_numbers)}"
    name = "CHAN^TAI MAN" if right else "LEE^KA YAN"
    ds = image(**{**RIGHT, "PatientID": patient, "PatientSex": "M"}, AccessionNumber=number)
    first = min(order.index("images"), order.index("more images"))
    if order.index("correction") < first:  # there is nothing yet to correct
        order.remove("correction")
        order.insert(first, "correction")
    for step, judge in zip(order, judged, strict=True):
        if step == "order":
            # It tells the name that was registered last.
            known = name if "name" in order[: order.index("order")] else "WRONG^NAME"
            hospital.order(number, patient=patient, name=known)
        elif step == "name":
            hospital.rename(patient, name)
        elif step == "correction":
            hospital.correct(str(ds.StudyInstanceUID), PatientSex="F")
        else:
            hospital.receive(with_changes(ds, SOPInstanceUID=new_uid()))
        if judge:
            hospital.judge()
    hospital.judge()
    kind, _, codes = hospital.verdict(str(ds.StudyInstanceUID))
    expected = ("accepted", []) if right else ("held", ["patient_name_differs"])
    assert (kind, codes) == expected


def test_an_order_that_commits_while_a_study_is_judged_is_not_missed(hospital: Hospital) -> None:
    """The verdict is about evidence that changed meanwhile, and is not written."""

    class Late(PatientIdentity):
        def judge(self, evidence):  # type: ignore[no-untyped-def]
            if not evidence.orders and evidence.AccessionNumber == "R1":
                hospital.order("R1")
                recall_changed(hospital.engine, feed=FEED)
            return super().judge(evidence)

    study = hospital.images("R1")
    judge_studies(hospital.engine, PolicySet.of([Late(Action.HOLD)]), feed=FEED, limit=1)
    assert hospital.verdict(study) == (None, False, [])
    hospital.judge()
    assert hospital.verdict(study) == MATCHED


def test_an_accession_number_of_two_studies_is_named_for_both(hospital: Hospital) -> None:
    policies = PolicySet.of([AccessionNumberFormat("none", None, Action.WARN, unique=True)])

    def codes(study: str) -> list[str]:
        hospital.judge(policies)
        hospital.judge(policies)
        return hospital.verdict(study)[2]

    first = hospital.images("QMHCT2600000777H")
    assert codes(first) == []
    second = hospital.images("QMHCT2600000777H")
    assert codes(second) == ["not_unique"]
    assert codes(first) == ["not_unique"]
    rows(
        hospital.engine,
        "UPDATE study SET accession_number = NULL WHERE study_instance_uid = :uid RETURNING pk",
        uid=second,
    )
    assert codes(first) == []


def test_a_rule_may_be_for_some_studies_only(hospital: Hospital) -> None:
    rule = Scoped(PatientIdentity(Action.HOLD), (("calling_ae", ("MR*",)), ("Modality", ("CT",))))
    other = Scoped(PatientIdentity(Action.HOLD), (("calling_ae", ("CT01",)),))
    study = hospital.images("S1", PatientID="")
    hospital.judge(PolicySet.of([rule]))
    assert hospital.verdict(study) == MATCHED
    hospital.judge(PolicySet.of([other]))
    assert hospital.verdict(study)[0] == "held"


def test_a_study_of_two_patients_and_a_series_without_an_attribute(hospital: Hospital) -> None:
    policies = PolicySet.of(
        [
            StudyConsistency(Action.HOLD),
            RequiredAttributes(("StudyDate",), ("BodyPartExamined",), Action.WARN),
            SopClassAllowed((), ("1.2.840.10008.5.1.4.1.1.2",), Action.WARN),
        ]
    )
    card = {**RIGHT, "PatientID": "A123456(3)"}
    ds = image(**card, AccessionNumber="T1", BodyPartExamined="HEAD")
    same = {"PatientID": "A1234563", "PatientName": "TAI MAN^CHAN"}
    hospital.receive(ds)
    hospital.receive(with_changes(ds, SOPInstanceUID=new_uid(), SeriesInstanceUID="1.2.77", **same))
    hospital.judge(policies)
    study = str(ds.StudyInstanceUID)
    assert hospital.verdict(study) == ("accepted", True, ["not_allowed"])
    other = {"PatientID": "B1", "PatientSex": "M", "BodyPartExamined": ""}
    hospital.receive(
        with_changes(ds, SOPInstanceUID=new_uid(), SeriesInstanceUID="1.2.78", **other)
    )
    hospital.judge(policies)
    codes = ["several_patients", "demographics_differ", "missing", "not_allowed"]
    # Those who saw it go on seeing it.
    assert hospital.verdict(study) == ("held", True, codes)

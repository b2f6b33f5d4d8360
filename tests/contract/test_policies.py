"""Policies over a real index: findings, verdicts, visibility, changed configurations."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.policies import accession
from gantry_domain.policies.accession_number import AccessionNumberFormat
from gantry_domain.policies.findings import Action, Severity, StudyFinding, VerdictKind
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.rules import PolicySet
from gantry_domain.policies.study_rules import ImagesPerStudy
from gantry_stores.index.census import studies_by_verdict
from gantry_stores.index.database import transaction
from gantry_stores.index.not_accepted import studies_not_accepted
from gantry_testkit.stored import (
    NO_POLICIES,
    image,
    new_uid,
    receipts,
    rows,
    snapshot,
    stage,
    with_changes,
)

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
VALID = {"PatientID": "A123456(3)", "AccessionNumber": "QMHCT2600012345H"}
BOTH = (VerdictKind.HELD, VerdictKind.REFUSED)


def of(*, limit=3, images=Action.WARN, number=Action.WARN, identity=Action.HOLD):
    return PolicySet.of(
        [
            ImagesPerStudy(limit, images),
            AccessionNumberFormat("none", accession.load_check("none"), number),
            PatientIdentity(identity),
        ]
    )


def receive(store, engine, *datasets):
    sent = [stage(store, ds) for ds in datasets]
    return index_batch(receipts(sent), store=store, engine=engine, rules=ReadingRules())


def verdict(engine):
    (row,) = rows(engine, "SELECT verdict, visible FROM study")
    return row


def codes(engine, *, severity="'warning', 'error'"):
    return [
        code
        for (code,) in rows(
            engine,
            f"SELECT code FROM study_finding WHERE severity IN ({severity})"
            " ORDER BY study_pk, place",
        )
    ]


def study_of(number, **values):
    uid = new_uid()
    return [image(StudyInstanceUID=uid, **{**VALID, **values}) for _ in range(number)]


def test_a_study_without_fault_is_accepted_and_says_what_was_looked_at(engine, store):
    receive(store, engine, *study_of(3))
    judge_studies(engine, of())
    assert verdict(engine) == ("accepted", True)
    assert codes(engine) == []
    assert codes(engine, severity="'info'") == ["not_checked", "check_digit_agrees"]


@pytest.mark.parametrize(
    "case",
    [
        ({}, 4, of(), ["too_many_images"], ("accepted", True)),
        ({}, 4, of(images=Action.HOLD), ["too_many_images"], ("held", True)),
        ({"AccessionNumber": "A1"}, 1, of(), ["malformed"], ("accepted", True)),
        ({"AccessionNumber": "A1"}, 1, of(number=Action.HOLD), ["malformed"], ("held", True)),
        ({"AccessionNumber": ""}, 1, of(), ["missing"], ("accepted", True)),
        ({"PatientID": "A123456(4)"}, 1, of(), ["wrong_check_digit"], ("held", False)),
        ({"PatientID": "A123456"}, 1, of(), ["malformed"], ("held", False)),
        ({"PatientID": ""}, 1, of(), ["missing"], ("held", False)),
        ({"PatientID": "A123456(4)"}, 1, of(identity=Action.WARN), ["wrong_check_digit"],
         ("accepted", True)),
        ({"PatientID": "HN12345678"}, 1, of(), [], ("accepted", True)),
    ],
)  # fmt: skip
def test_what_each_fault_leads_to(engine, store, case):
    values, number, policies, said, expected = case
    receive(store, engine, *study_of(number, **values))
    judged = judge_studies(engine, policies)
    assert verdict(engine) == expected
    assert codes(engine) == said
    assert [code for (_, code, severity) in judged.findings if severity != "info"] == said


def test_images_are_counted_once_and_documents_not_at_all(engine, store):
    images = study_of(3)
    uid = images[0].StudyInstanceUID
    document = image(StudyInstanceUID=uid, SOPClassUID=BASIC_TEXT_SR, **VALID)
    contradiction = with_changes(images[1], PixelData=bytes(512))
    receive(store, engine, *images, images[0], document, contradiction)
    judge_studies(engine, of(limit=3))
    assert "too_many_images" not in codes(engine)
    receive(store, engine, image(StudyInstanceUID=uid, **VALID))
    judge_studies(engine, of(limit=3))
    assert codes(engine) == ["too_many_images"]
    details = rows(engine, "SELECT detail FROM study_finding WHERE code = 'too_many_images'")
    assert details == [("4 images, 3 are allowed",)]


def test_a_study_that_was_seen_is_held_but_never_hidden_again(engine, store):
    receive(store, engine, *study_of(1, PatientID="A123456(4)"))
    judge_studies(engine, NO_POLICIES)
    assert verdict(engine) == ("accepted", True)
    judge_studies(engine, of())
    assert verdict(engine) == ("held", True)
    assert codes(engine) == ["wrong_check_digit"]


def test_a_changed_configuration_judges_every_study_anew_a_few_at_a_time(engine, store):
    for _ in range(7):
        receive(store, engine, *study_of(1, PatientID="A123456(4)"))
    judge_studies(engine, of())
    assert rows(engine, "SELECT DISTINCT verdict, visible FROM study") == [("held", False)]
    assert judge_studies(engine, of()).verdicts.total() == 0
    changed = of(identity=Action.WARN)
    assert judge_studies(engine, changed, limit=3).verdicts == {VerdictKind.ACCEPTED: 3}
    assert judge_studies(engine, changed).verdicts == {VerdictKind.ACCEPTED: 4}
    assert judge_studies(engine, changed).verdicts.total() == 0
    assert rows(engine, "SELECT DISTINCT verdict, visible FROM study") == [("accepted", True)]


def test_new_studies_go_before_those_that_others_judged(engine, store):
    receive(store, engine, *study_of(1))
    judge_studies(engine, NO_POLICIES)
    receive(store, engine, *study_of(1))
    judge_studies(engine, of(), limit=1)
    assert rows(engine, "SELECT judged_by FROM study ORDER BY pk") == [
        (NO_POLICIES.fingerprint,),
        (of().fingerprint,),
    ]


def test_several_workers_at_once_come_to_the_verdict_of_one(engine, store):
    studies = [study_of(4, PatientID=f"A12345{n}(3)") for n in range(10)]
    everything = [ds for images in zip(*studies, strict=True) for ds in images]

    def work(ds):
        result = receive(store, engine, ds)
        judge_studies(engine, of(images=Action.HOLD), result.study_pks)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, everything))
    judge_studies(engine, of(images=Action.HOLD))
    at_once = rows(engine, "SELECT verdict, judged_revision = revision, judged_by FROM study")
    assert at_once == [("held", True, of(images=Action.HOLD).fingerprint)] * 10
    before = snapshot(engine)["study_finding"]
    rows(engine, "UPDATE study SET judged_by = 'x' RETURNING 1")
    judge_studies(engine, of(images=Action.HOLD))
    assert snapshot(engine)["study_finding"] == before


def test_studies_not_accepted_are_listed_with_what_weighs(engine, store):
    (wrong,) = study_of(1, PatientID="A123456(4)")
    receive(store, engine, wrong)
    receive(store, engine, *study_of(4))
    judge_studies(engine, of(images=Action.HOLD))
    with transaction(engine) as connection:
        newest, oldest = studies_not_accepted(connection, BOTH, limit=10)
        assert studies_not_accepted(connection, BOTH, limit=1) == [newest]
        assert studies_not_accepted(connection, [VerdictKind.REFUSED], limit=10) == []
        assert studies_by_verdict(connection) == {
            VerdictKind.ACCEPTED: 0,
            VerdictKind.HELD: 2,
            VerdictKind.REFUSED: 0,
        }
    assert (newest.instances, newest.visible) == (4, True)
    assert oldest.StudyInstanceUID == wrong.StudyInstanceUID
    assert (oldest.verdict, oldest.visible) == (VerdictKind.HELD, False)
    assert oldest.findings == (
        StudyFinding("patient_identity", "wrong_check_digit", Severity.ERROR),
    )

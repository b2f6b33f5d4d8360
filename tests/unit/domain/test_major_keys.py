"""The four major keys in all forms that are seen, and which order a study belongs to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.policies.evidence import Evidence, SeriesFacts
from gantry_domain.policies.findings import Action
from gantry_domain.policies.hkid import check_character
from gantry_domain.policies.major_keys import (
    MAJOR_KEYS,
    Agreement,
    MajorKeys,
    chinese_names_differ,
    compare_keys,
)
from gantry_domain.policies.matching import Found, MatchState, Order, match_order
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.study_rules import (
    RequiredAttributes,
    SopClassAllowed,
    StudyConsistency,
)
from gantry_domain.routes import StudyFacts

KEYS = MajorKeys(
    PatientID="A123456(3)",
    PatientName="CHAN^TAI MAN=陳^大文",
    PatientBirthDate="19700102",
    PatientSex="F",
)
ORDER = Order(StudyInstanceUID="1.2.3", AccessionNumber="A1", keys=KEYS)


def said(keyword: str, ours: str, theirs: str, /, **issuers: str) -> Agreement:
    study = MajorKeys(**{keyword: ours, "IssuerOfPatientID": issuers.get("ours", "")})
    order = MajorKeys(**{keyword: theirs, "IssuerOfPatientID": issuers.get("theirs", "")})
    return compare_keys(study, order)[keyword]


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees"),
    [
        ("A123456(3)", "A1234563", True),
        ("A 123456 (3)", "a123456(3)", True),
        ("Ａ１２３４５６（３）", "A123456(3)", True),
        ("A123456", "A123456(3)", True),  # the check digit follows from the rest
        ("A123456(4)", "A123456(3)", False),
        ("A123456(3)", "B123456(1)", False),
        ("AB987654(3)", "AB9876543", True),
        ("K01234567", "k01234567", True),
        ("K01234567", "K01234568", False),
        ("0012", "12", False),
    ],
)
def test_identifiers(ours: str, theirs: str, agrees: bool) -> None:
    expected = Agreement.AGREES if agrees else Agreement.DIFFERS
    assert said("PatientID", ours, theirs) is expected
    assert said("PatientID", theirs, ours) is expected


def test_numbers_of_two_hospitals_are_two_and_a_card_is_one() -> None:
    assert said("PatientID", "12345", "12345", ours="QMH", theirs="PWH") is Agreement.DIFFERS
    assert said("PatientID", "12345", "12345", ours="QMH") is Agreement.AGREES
    card = said("PatientID", "A123456(3)", "A1234563", ours="HKID", theirs="HKSAR")
    assert card is Agreement.AGREES


@given(st.from_regex(r"[A-Z]{1,2}[0-9]{6}", fullmatch=True))
def test_a_card_is_the_same_in_every_form(body: str) -> None:
    check = check_character(body)
    assert said("PatientID", f"{body}({check})", f" {body}{check} ") is Agreement.AGREES


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees"),
    [
        ("CHAN^TAI MAN", "CHAN TAI MAN", True),
        ("CHAN^TAI MAN", "TAI MAN CHAN", True),
        ("CHAN^TAI MAN", "Chan^Tai-Man^^^", True),
        ("CHAN^TAI MAN", "CHAN, TAIMAN", True),
        ("CHAN^TAI MAN", "TAI MAN^CHAN", True),
        ("CHAN^TAI MAN^^DR^PHD", "CHAN^TAI MAN", True),
        ("ＣＨＡＮ^ＴＡＩ ＭＡＮ", "CHAN^TAI MAN", True),
        ("O'BRIEN^SEÁN", "OBRIEN^SEAN", True),
        ("CHAN^MAN TAI", "CHAN^TAI MAN", False),
        ("CHAN^TAI MAN", "CHAN^TAI WAI", False),
        ("CHAN^TAI MAN=陳^大文", "CHAN^TAI MAN=陳^大民", True),
        ("陳大文", "=陳^大文", True),
        ("CHAN TAI MAN 陳大文", "CHAN^TAI MAN", True),
        ("=陳^大文", "CHAN^TAI MAN=陳^大文", True),
        ("=陳^大文", "CHAN^TAI MAN", False),
        ("=陳^大文", "=李^大文", False),
    ],
)
def test_names(ours: str, theirs: str, agrees: bool) -> None:
    expected = Agreement.AGREES if agrees else Agreement.DIFFERS
    assert said("PatientName", ours, theirs) is expected
    assert said("PatientName", theirs, ours) is expected


def test_chinese_names_are_worth_a_look() -> None:
    assert chinese_names_differ("CHAN^TAI MAN=陳^大文", "CHAN^TAI MAN=陳^大民")
    assert not chinese_names_differ("CHAN^TAI MAN=陳^大文", "CHAN^TAI MAN")
    assert not chinese_names_differ("陳大文", "=陳^大文")


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ("19700102", "19700102", Agreement.AGREES),
        ("1970.01.02", "19700102", Agreement.AGREES),
        ("19700000", "19700102", Agreement.AGREES),
        ("19700100", "19700102", Agreement.AGREES),
        ("19700102", "1970", Agreement.AGREES),
        ("19700200", "19700102", Agreement.DIFFERS),
        ("19710000", "19700102", Agreement.DIFFERS),
        ("19700103", "19700102", Agreement.DIFFERS),
        ("19701345", "19700102", Agreement.DIFFERS),
        ("00000000", "19700102", Agreement.MISSING),
        ("unknown", "19700102", Agreement.MISSING),
        ("", "19700102", Agreement.MISSING),
        ("19700102", "", Agreement.NOT_TOLD),
    ],
)
def test_birth_dates(ours: str, theirs: str, expected: Agreement) -> None:
    assert said("PatientBirthDate", ours, theirs) is expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ("F", "F", Agreement.AGREES),
        ("f ", "F", Agreement.AGREES),
        ("O", "A", Agreement.AGREES),
        ("M", "F", Agreement.DIFFERS),
        ("O", "F", Agreement.DIFFERS),
        ("", "F", Agreement.MISSING),
        ("M", "U", Agreement.NOT_TOLD),
    ],
)
def test_sexes(ours: str, theirs: str, expected: Agreement) -> None:
    assert said("PatientSex", ours, theirs) is expected


ANY = st.builds(
    MajorKeys,
    PatientID=st.text(max_size=20),
    PatientName=st.text(max_size=30),
    PatientBirthDate=st.text(max_size=12),
    PatientSex=st.text(max_size=3),
)


@given(ANY)
def test_what_is_the_same_never_differs(keys: MajorKeys) -> None:
    assert Agreement.DIFFERS not in compare_keys(keys, keys).values()
    assert Agreement.MISSING not in compare_keys(keys, keys).values()


@given(ANY, ANY)
def test_any_two_can_be_compared_and_differ_from_either_side(
    one: MajorKeys, two: MajorKeys
) -> None:
    there, back = compare_keys(one, two), compare_keys(two, one)
    for key in MAJOR_KEYS:
        assert (there[key] is Agreement.AGREES) == (back[key] is Agreement.AGREES)


def _match(
    orders: list[Order], *, accession: str = "A1", uid: str = "9.9", linked: str = ""
) -> object:
    found = match_order(
        KEYS,
        orders,
        AccessionNumber=accession,
        StudyInstanceUID=uid,
        linked=linked,
        compared=MAJOR_KEYS,
    )
    return found.state, found.found, found.order and found.order.StudyInstanceUID


def test_a_link_goes_before_the_accession_number_and_that_before_the_uid() -> None:
    other = Order(StudyInstanceUID="9.9", AccessionNumber="A9", keys=KEYS)
    third = Order(StudyInstanceUID="7.7", AccessionNumber="A7", keys=MajorKeys(PatientID="X"))
    orders = [other, ORDER, third]
    assert _match(orders) == (MatchState.MATCHED, Found.ACCESSION, "1.2.3")
    assert _match(orders, accession="") == (MatchState.MATCHED, Found.STUDY_UID, "9.9")
    assert _match(orders, linked="7.7") == (MatchState.UNMATCHED, Found.LINK, "7.7")
    assert _match(orders, accession="", uid="") == (MatchState.NO_ORDER, None, None)


@given(st.permutations([ORDER, Order(StudyInstanceUID="1.2.2", AccessionNumber="A1", keys=MajorKeys(
    PatientID="B1", PatientName="X", PatientBirthDate="1980", PatientSex="M"))]))  # fmt: skip
def test_of_several_with_one_number_that_counts_which_agrees_best(orders: list[Order]) -> None:
    assert _match(orders) == (MatchState.MATCHED, Found.ACCESSION, "1.2.3")


def _codes(**changes: str) -> list[str]:
    rule = PatientIdentity(Action.HOLD)
    values = {key: getattr(KEYS, key) for key in MAJOR_KEYS} | changes
    outcome = rule.judge(Evidence(**values, AccessionNumber="A1", orders=(ORDER,)))
    return [finding.code for finding in outcome.findings if finding.weighs]


def test_each_key_that_is_wrong_is_named() -> None:
    assert _codes() == []
    assert _codes(PatientID="AB987654(3)") == ["patient_id_differs"]
    assert _codes(PatientName="LEE^TAI MAN") == ["patient_name_differs"]
    assert _codes(PatientBirthDate="19700103") == ["patient_birth_date_differs"]
    assert _codes(PatientSex="") == ["patient_sex_missing"]


def test_without_an_order_only_a_feed_that_lives_makes_a_fault() -> None:
    rule = PatientIdentity(Action.HOLD)
    assert not rule.judge(Evidence(PatientID="A123456(3)")).violated
    assert rule.judge(Evidence(PatientID="A123456(3)", feed_alive=True)).violated
    lenient = PatientIdentity(Action.HOLD, order_required=False)
    assert not lenient.judge(Evidence(PatientID="A123456(3)", feed_alive=True)).violated


def test_one_study_is_one_patients() -> None:
    rule = StudyConsistency(Action.HOLD)
    values = {key: getattr(KEYS, key) for key in MAJOR_KEYS}
    same = SeriesFacts(keys=MajorKeys(**(values | {"PatientName": "TAI MAN CHAN"})))
    other = SeriesFacts(keys=MajorKeys(**(values | {"PatientSex": "M"})))
    fine = Evidence(**values, series=(same,), patients=frozenset({"A"}))
    assert not rule.judge(fine).violated
    both = Evidence(**values, series=(same, other), patients=frozenset({"A", "B"}))
    findings = rule.judge(both).findings
    assert [(f.code, f.detail) for f in findings] == [
        ("several_patients", "2 identifiers"),
        ("demographics_differ", "PatientSex"),
    ]


def test_what_is_required_and_what_is_allowed() -> None:
    rule = RequiredAttributes(("StudyDate",), ("BodyPartExamined",), Action.WARN)
    there = SeriesFacts(present=frozenset({"BodyPartExamined"}))
    fine = Evidence(present=frozenset({"StudyDate"}), series=(there,))
    assert not rule.judge(fine).violated
    (finding,) = rule.judge(Evidence(series=(there, SeriesFacts()))).findings
    assert finding.detail == "StudyDate, BodyPartExamined"
    classes = SopClassAllowed(("1.2.840.10008.5.1.4.1.1.*",), ("*.7",), Action.WARN)
    facts = StudyFacts(
        partition="main",
        SOPClassesInStudy=("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7", "1.3"),
    )
    (finding,) = classes.judge(Evidence(facts=facts)).findings
    assert finding.detail == "1.2.840.10008.5.1.4.1.1.7, 1.3"

"""The rules against the vectors and traps of the source documents."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.decisions import DecisionKind, StudyDecision, standing_of
from gantry_domain.errors import ConfigurationError
from gantry_domain.policies import accession, hkid
from gantry_domain.policies.accession_number import AccessionNumberFormat
from gantry_domain.policies.evidence import Evidence
from gantry_domain.policies.findings import (
    Action,
    RuleOutcome,
    Severity,
    StudyFinding,
    VerdictKind,
    decide,
)
from gantry_domain.policies.hkid import HkidForm
from gantry_domain.policies.major_keys import MajorKeys
from gantry_domain.policies.matching import Order
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.rules import PolicySet
from gantry_domain.policies.standing import Standing
from gantry_domain.policies.study_rules import ImagesPerStudy

BODIES = st.from_regex(r"[A-Z]{1,2}[0-9]{6}", fullmatch=True)


@pytest.mark.parametrize(
    "number",
    ["A123456(3)", "AB987654(3)", "E364912(5)", "D288754(2)", "AB123456(9)", "G123456(A)"],
)
def test_valid_numbers_in_every_form(number: str) -> None:
    bare = number.replace("(", "").replace(")", "")
    full_width = "".join(chr(ord(c) + 0xFEE0) for c in number)
    spaced = f"{number[:1]} {number[1:]}".replace("(", " (")
    for form in (number, bare, number.lower(), full_width, spaced):
        assert hkid.classify(form) is HkidForm.VALID, form


@pytest.mark.parametrize("number", ["A123456(4)", "AB987654(2)", "AB9876542", "A123456(A)"])
def test_wrong_check_digits(number: str) -> None:
    assert hkid.classify(number) is HkidForm.WRONG_CHECK_DIGIT


@pytest.mark.parametrize("number", ["A12345(3)", "A123456", "A1234567(3)", "A123456()", "A123456("])
def test_numbers_that_were_meant_as_one_but_are_not(number: str) -> None:
    assert hkid.classify(number) is HkidForm.MALFORMED


@pytest.mark.parametrize("other", ["HN12345678", "K01234567", "12345", "P07/1234", "NB-2026-0001"])
def test_other_identifiers_are_no_error(other: str) -> None:
    assert hkid.classify(other) is HkidForm.OTHER


@given(BODIES)
def test_exactly_one_check_character_is_valid(body: str) -> None:
    valid = [c for c in "0123456789A" if hkid.classify(f"{body}({c})") is HkidForm.VALID]
    assert valid == [hkid.check_character(body)]


@given(BODIES, st.integers(0, 5), st.integers(1, 9))
def test_every_wrong_digit_is_found(body: str, position: int, step: int) -> None:
    index = len(body) - 6 + position
    digit = str((int(body[index]) + step) % 10)
    wrong = body[:index] + digit + body[index + 1 :]
    assert hkid.classify(f"{wrong}{hkid.check_character(body)}") is HkidForm.WRONG_CHECK_DIGIT


@given(st.text(max_size=80))
def test_any_text_is_classified(text: str) -> None:
    assert hkid.classify(text) in HkidForm


def _identity(patient_id: str, issuer: str = "", **kwargs: object) -> RuleOutcome:
    rule = PatientIdentity(action=Action.HOLD, **kwargs)  # type: ignore[arg-type]
    return rule.judge(Evidence(PatientID=patient_id, IssuerOfPatientID=issuer))


def test_identity_holds_and_hides() -> None:
    verdict = decide([_identity("A123456(4)")], was_visible=False)
    assert (verdict.kind, verdict.visible) == (VerdictKind.HELD, False)
    assert [finding.code for finding in verdict.findings] == ["wrong_check_digit"]


def test_a_missing_identifier_holds_and_another_one_does_not() -> None:
    assert _identity("  ").violated
    assert not _identity("K01234567").violated
    assert _identity("A123456(4)", "HKSAR", issuers=("HKSAR",)).violated
    assert not _identity("A123456(4)", "PASSPORT", issuers=("HKSAR",)).violated


@pytest.mark.parametrize(("images", "violated"), [(999, False), (1000, False), (1001, True)])
def test_the_limit_itself_is_allowed(images: int, violated: bool) -> None:
    rule = ImagesPerStudy(limit=1000, action=Action.WARN)
    assert rule.judge(Evidence(images=images)).violated is violated


def _accession(number: str, check: str = "none") -> tuple[str, bool]:
    rule = AccessionNumberFormat(check, accession.load_check(check), Action.WARN)
    outcome = rule.judge(Evidence(AccessionNumber=number))
    return outcome.findings[0].code, outcome.violated


def test_accession_numbers() -> None:
    assert _accession("") == ("missing", True)
    assert _accession("XXXXR0700000101H") == ("not_checked", False)
    assert _accession("XXXXR070000101H") == ("malformed", True)
    assert _accession("XXXXR07000001O1H") == ("malformed", True)
    assert _accession("xxxxr0700000101h") == ("malformed", True)
    body = "QMHCT2600012345"
    assert _accession(body + accession.modulus11(body), "modulus11") == ("checked", False)
    assert _accession(body + "Z", "modulus11") == ("wrong_check_character", True)


def test_an_unknown_check_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"'luhn'.*none, modulus11"):
        accession.load_check("luhn")


OUTCOMES = st.builds(
    RuleOutcome,
    st.lists(
        st.builds(StudyFinding, st.just("rule"), st.just("code"), st.sampled_from(Severity)),
        max_size=3,
    ).map(tuple),
    st.sampled_from(Action),
    st.booleans(),
)


@given(st.lists(OUTCOMES, max_size=5), st.booleans())
def test_a_visible_study_stays_visible_and_only_holding_rules_hide(
    outcomes: list[RuleOutcome], was_visible: bool
) -> None:
    verdict = decide(outcomes, was_visible=was_visible)
    holding = [o for o in outcomes if o.violated and o.action is Action.HOLD]
    refused = any(o.violated and o.action is Action.REJECT for o in outcomes)
    assert (verdict.kind is VerdictKind.REFUSED) == refused
    assert (verdict.kind is VerdictKind.HELD) == (bool(holding) and not refused)
    assert verdict.visible or refused or any(not o.visible for o in holding)
    assert verdict.visible or not was_visible
    assert sum(len(o.findings) for o in outcomes) == len(verdict.findings)


@given(st.permutations([_identity("A123456(4)"), _identity("K01234567"), _identity("")]))
def test_the_order_of_rules_makes_no_difference(outcomes: list[RuleOutcome]) -> None:
    verdict = decide(outcomes, was_visible=False)
    assert (verdict.kind, verdict.visible) == (VerdictKind.HELD, False)


def _set(limit: int = 1000, check: str = "none") -> PolicySet:
    return PolicySet.of(
        [
            ImagesPerStudy(limit=limit, action=Action.WARN),
            AccessionNumberFormat(check, accession.load_check(check), Action.WARN),
            PatientIdentity(action=Action.HOLD, issuers=("HKSAR", "HKID")),
        ]
    )


def test_the_fingerprint_is_that_of_the_parameters() -> None:
    assert _set().fingerprint == _set().fingerprint
    assert _set().fingerprint != _set(limit=999).fingerprint
    assert _set().fingerprint != _set(check="modulus11").fingerprint
    assert PolicySet.of([]).fingerprint != _set().fingerprint


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    script = (
        "from gantry_domain.policies import accession\n"
        "from gantry_domain.policies.findings import Action\n"
        "from gantry_domain.policies.accession_number import AccessionNumberFormat\n"
        "from gantry_domain.policies.patient_identity import PatientIdentity\n"
        "from gantry_domain.policies.rules import PolicySet\n"
        "check = accession.load_check('modulus11')\n"
        "print(PolicySet.of([AccessionNumberFormat('modulus11', check, Action.WARN),"
        " PatientIdentity(Action.HOLD, issuers=('B', 'A'))]).fingerprint)"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_a_set_judges_by_all_its_rules() -> None:
    evidence = Evidence(PatientID="A123456(4)", AccessionNumber="X", images=1001)
    verdict = _set().judge(evidence, was_visible=False)
    assert (verdict.kind, verdict.visible) == (VerdictKind.HELD, False)
    assert [finding.code for finding in verdict.findings] == [
        "too_many_images",
        "malformed",
        "wrong_check_digit",
    ]
    assert PolicySet.of([]).judge(evidence, was_visible=False).kind is VerdictKind.ACCEPTED


FAULT = ("patient_identity", "wrong_check_digit")


def _decided(**standing: object) -> tuple[VerdictKind, bool]:
    evidence = Evidence(PatientID="A123456(4)", standing=Standing(**standing))  # type: ignore[arg-type]
    verdict = _set().judge(evidence, was_visible=False)
    return verdict.kind, verdict.visible


def test_what_people_decided_goes_before_the_rules() -> None:
    assert _decided() == (VerdictKind.HELD, False)
    assert _decided(accepted=frozenset({FAULT})) == (VerdictKind.ACCEPTED, True)
    assert _decided(accepted=frozenset({("x", "y")})) == (VerdictKind.HELD, False)
    assert _decided(released=True) == (VerdictKind.ACCEPTED, True)
    assert _decided(refused=True) == (VerdictKind.REFUSED, False)


@given(st.lists(st.sampled_from(DecisionKind), max_size=6))
def test_what_stands_follows_from_the_decisions_in_their_order(kinds: list[DecisionKind]) -> None:
    made = [
        StudyDecision(
            id=UUID(int=number),
            partition="main",
            StudyInstanceUID="1.2",
            kind=kind,
            decided_at=datetime(2026, 1, 1, tzinfo=UTC),
            decided_by="a",
            reason="b",
            order_uid=str(number),
            accepted=frozenset({("rule", str(number))}),
        )
        for number, kind in enumerate(kinds)
    ]
    standing = standing_of(reversed(made))
    last = [k for k in kinds if k in (DecisionKind.RELEASE, DecisionKind.REFUSE)][-1:]
    assert standing.released == (last == [DecisionKind.RELEASE])
    assert standing.refused == (last == [DecisionKind.REFUSE])
    links = [number for number, kind in enumerate(kinds) if kind is DecisionKind.LINK]
    assert standing.linked == (str(links[-1]) if links else "")
    assert len(standing.accepted) == kinds.count(DecisionKind.ACCEPT)


def test_accession_numbers_have_known_codes_the_year_and_no_namesake() -> None:
    rule = AccessionNumberFormat(
        "none", None, Action.WARN, hospitals=("QMH",), departments=("CT",), years=1,
        unique=True, as_ordered=True,
    )  # fmt: skip

    def codes(number: str, date: str = "20260102", **more: object) -> list[str]:
        evidence = Evidence(AccessionNumber=number, StudyDate=date, **more)  # type: ignore[arg-type]
        return [f.code for f in rule.judge(evidence).findings if f.weighs]

    assert codes("QMHCT2600012345H") == []
    assert codes("QMHCT2500012345H") == []
    assert codes("QMHCT2400012345H") == ["wrong_year"]
    assert codes("QMHCT2700012345H") == ["wrong_year"]
    assert codes("QMHCT9900012345H", "20000102") == []
    assert codes("QMHCT2400012345H", "") == []
    assert codes("XXHXR2600012345H") == ["unknown_hospital", "unknown_department"]
    assert codes("QMHCT2600012345H", namesakes=1) == ["not_unique"]
    order = Order(StudyInstanceUID="1.2", AccessionNumber="QMHCT2600099999H", keys=MajorKeys())
    found = {"orders": (order,), "StudyInstanceUID": "1.2"}
    assert codes("QMHCT2600012345H", **found) == ["differs_from_order"]
    assert codes("QMHCT2600099999H", **found) == []

"""The rules: frozen values made from the configuration, each a pure function of the evidence."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, Self

from gantry_domain.policies import accession, hkid
from gantry_domain.policies.findings import (
    Action,
    RuleOutcome,
    Severity,
    StudyFinding,
    Verdict,
    decide,
)

# To be increased when a rule judges otherwise than before, so that every study is judged anew.
_EDITION = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rules may look at. Texts are as the study's source object has them, or empty.

    `images` is the number of distinct SOP Instance UIDs of image classes.
    """

    PatientID: str = ""
    IssuerOfPatientID: str = ""
    AccessionNumber: str = ""
    images: int = 0


class Rule(Protocol):
    """One rule of the policy set."""

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """The findings, and what is to happen if one of them weighs."""
        ...


@dataclass(frozen=True, slots=True)
class ImagesPerStudy:
    """At most `limit` images per study; `limit` itself is allowed."""

    limit: int
    action: Action
    visible: bool = True

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """A warning above the limit."""
        findings: tuple[StudyFinding, ...] = ()
        if evidence.images > self.limit:
            findings = (
                StudyFinding(
                    "images_per_study",
                    "too_many_images",
                    Severity.WARNING,
                    f"{evidence.images} images, {self.limit} are allowed",
                ),
            )
        return RuleOutcome(findings, self.action, self.visible)


@dataclass(frozen=True, slots=True)
class AccessionNumberFormat:
    """The accession number in the format of the Hospital Authority, with its check character."""

    check_name: str
    check: accession.CheckCharacter | None = field(repr=False)
    action: Action
    visible: bool = True

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Missing, malformed, or with a wrong check character; "not checked" only informs."""
        return RuleOutcome((self._finding(evidence.AccessionNumber),), self.action, self.visible)

    def _finding(self, number: str) -> StudyFinding:
        rule = "accession_number"
        if not number:
            return StudyFinding(rule, "missing", Severity.WARNING)
        if not accession.well_formed(number):
            detail = f"{len(number)} characters, not in the format of 16"
            return StudyFinding(rule, "malformed", Severity.WARNING, detail)
        if self.check is None:
            return StudyFinding(rule, "not_checked", Severity.INFO, "check character: none is set")
        if self.check(number[:15]) != number[15]:
            detail = f"check character by {self.check_name}"
            return StudyFinding(rule, "wrong_check_character", Severity.WARNING, detail)
        return StudyFinding(rule, "checked", Severity.INFO, f"by {self.check_name}")


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """PatientID as an identity card number with its check digit.

    With `issuers`, an identifier whose Issuer of Patient ID names another is not looked at.
    """

    action: Action
    visible: bool = False
    issuers: tuple[str, ...] = ()

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Missing, malformed or with a wrong check digit; another identifier only informs."""
        return RuleOutcome((self._finding(evidence),), self.action, self.visible)

    def _finding(self, evidence: Evidence) -> StudyFinding:
        rule = "patient_identity"
        if not evidence.PatientID.strip():
            return StudyFinding(rule, "missing", Severity.ERROR)
        issuer = evidence.IssuerOfPatientID
        if self.issuers and issuer and issuer not in self.issuers:
            return StudyFinding(rule, "other_identifier", Severity.INFO, "of another issuer")
        match hkid.classify(evidence.PatientID):
            case hkid.HkidForm.VALID:
                return StudyFinding(rule, "check_digit_agrees", Severity.INFO)
            case hkid.HkidForm.WRONG_CHECK_DIGIT:
                return StudyFinding(rule, "wrong_check_digit", Severity.ERROR)
            case hkid.HkidForm.MALFORMED:
                return StudyFinding(rule, "malformed", Severity.ERROR)
            case hkid.HkidForm.OTHER:
                return StudyFinding(rule, "other_identifier", Severity.INFO, "not checked")


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The rules in force, and the fingerprint by which studies know that they are judged by them.

    The same rules with the same parameters have the same fingerprint in every process.
    """

    rules: tuple[Rule, ...]
    fingerprint: str

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> Self:
        """The set of these rules, in their order."""
        rules = tuple(rules)
        digest = hashlib.sha256(f"{_EDITION} {rules!r}".encode())
        return cls(rules, digest.hexdigest()[:16])

    def judge(self, evidence: Evidence, *, was_visible: bool) -> Verdict:
        """The verdict on a study; with no rules every study is accepted."""
        return decide((rule.judge(evidence) for rule in self.rules), was_visible=was_visible)

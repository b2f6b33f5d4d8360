"""The rule `patient_identity`: the identifier by itself, and the major keys against the order."""

from collections.abc import Iterator
from dataclasses import dataclass

from gantry_domain.policies import hkid
from gantry_domain.policies.evidence import Evidence, Look
from gantry_domain.policies.findings import Action, RuleOutcome, Severity, StudyFinding
from gantry_domain.policies.major_keys import MAJOR_KEYS, Agreement, chinese_names_differ
from gantry_domain.policies.matching import Match, match_order

RULE = "patient_identity"
NO_ORDER = "no_order"

_SLUGS = {
    "PatientID": "patient_id",
    "PatientName": "patient_name",
    "PatientBirthDate": "patient_birth_date",
    "PatientSex": "patient_sex",
}


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """PatientID as an identity card number with its check digit, and the keys of the order.

    With `issuers`, an identifier whose Issuer of Patient ID names another has no check digit.
    `keys` are those of the four that have to agree with the order; none: orders are not looked at.
    `order_required`: a study without an order is at fault while orders come in.
    """

    action: Action
    visible: bool = False
    issuers: tuple[str, ...] = ()
    keys: tuple[str, ...] = MAJOR_KEYS
    order_required: bool = True

    @property
    def looks_at(self) -> frozenset[Look]:
        """Orders, unless no key counts."""
        return frozenset({Look.ORDERS} if self.keys else ())

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Missing, malformed, with a wrong check digit; not that of the order; without an order.

        Another identifier only informs.
        """
        findings = (self._identifier(evidence), *self._against_order(evidence))
        return RuleOutcome(findings, self.action, self.visible)

    def match(self, evidence: Evidence) -> Match:
        """The order of the study, and how its keys compare."""
        return match_order(
            evidence.keys,
            evidence.orders,
            AccessionNumber=evidence.AccessionNumber,
            StudyInstanceUID=evidence.StudyInstanceUID,
            linked=evidence.standing.linked,
            compared=self.keys,
        )

    def _identifier(self, evidence: Evidence) -> StudyFinding:
        if not evidence.PatientID.strip():
            return StudyFinding(RULE, "missing", Severity.ERROR)
        issuer = evidence.IssuerOfPatientID
        if self.issuers and issuer and issuer not in self.issuers:
            return StudyFinding(RULE, "other_identifier", Severity.INFO, "of another issuer")
        match hkid.classify(evidence.PatientID):
            case hkid.HkidForm.VALID:
                return StudyFinding(RULE, "check_digit_agrees", Severity.INFO)
            case hkid.HkidForm.WRONG_CHECK_DIGIT:
                return StudyFinding(RULE, "wrong_check_digit", Severity.ERROR)
            case hkid.HkidForm.MALFORMED:
                return StudyFinding(RULE, "malformed", Severity.ERROR)
            case hkid.HkidForm.OTHER:
                return StudyFinding(RULE, "other_identifier", Severity.INFO, "not checked")

    def _against_order(self, evidence: Evidence) -> Iterator[StudyFinding]:
        if not self.keys:
            return
        match = self.match(evidence)
        if match.order is None:
            if self.order_required and evidence.feed_alive:
                yield StudyFinding(RULE, NO_ORDER, Severity.WARNING)
            return
        for key in match.against:
            missing = match.agreements[key] is Agreement.MISSING
            code = f"{_SLUGS[key]}_{'missing' if missing else 'differs'}"
            detail = f"the order has {'one' if missing else 'another'}, found by {match.found}"
            yield StudyFinding(RULE, code, Severity.ERROR, detail)
        if not match.against:
            yield StudyFinding(RULE, "matched", Severity.INFO, f"by {match.found}")
        if chinese_names_differ(evidence.PatientName, match.order.keys.PatientName):
            yield StudyFinding(RULE, "chinese_name_differs", Severity.INFO)

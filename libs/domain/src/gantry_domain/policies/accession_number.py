"""The rule `accession_number`: its format, its codes, and whether it is this study's alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gantry_domain.policies import accession
from gantry_domain.policies.evidence import Evidence, Look
from gantry_domain.policies.findings import Action, RuleOutcome, Severity, StudyFinding
from gantry_domain.policies.matching import match_order

RULE = "accession_number"
NOT_UNIQUE = "not_unique"


@dataclass(frozen=True, slots=True)
class AccessionNumberFormat:
    """The accession number in the format of the Hospital Authority, with its check character.

    `hospitals` and `departments` are the codes that are known; none: any. `years`: the number is of
    the study's year or of so many before; None: of any. `unique`: no other study may have it.
    `as_ordered`: it has to be that of the order which the study's UID or a person names.
    """

    check_name: str
    check: accession.CheckCharacter | None = field(repr=False)
    action: Action
    visible: bool = True
    hospitals: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()
    years: int | None = None
    unique: bool = False
    as_ordered: bool = False

    @property
    def looks_at(self) -> frozenset[Look]:
        """Orders and studies of the same number, as far as they count."""
        looks = {Look.ORDERS: self.as_ordered, Look.NAMESAKES: self.unique}
        return frozenset(look for look, counts in looks.items() if counts)

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """Missing, malformed, unknown codes, not its own; "not checked" only informs."""
        return RuleOutcome(tuple(self._findings(evidence)), self.action, self.visible)

    def _findings(self, evidence: Evidence) -> Iterator[StudyFinding]:
        number = evidence.AccessionNumber
        if not number:
            yield StudyFinding(RULE, "missing", Severity.WARNING)
        elif not accession.well_formed(number):
            detail = f"{len(number)} characters, not in the format of 16"
            yield StudyFinding(RULE, "malformed", Severity.WARNING, detail)
        else:
            yield self._check(number)
            yield from self._codes(number, evidence.StudyDate)
        if self.unique and evidence.namesakes:
            yield StudyFinding(RULE, NOT_UNIQUE, Severity.WARNING, "another study has it too")
        if self.as_ordered and self._another_was_ordered(evidence):
            yield StudyFinding(RULE, "differs_from_order", Severity.WARNING)

    def _check(self, number: str) -> StudyFinding:
        if self.check is None:
            return StudyFinding(RULE, "not_checked", Severity.INFO, "check character: none is set")
        if self.check(number[:15]) != number[15]:
            detail = f"check character by {self.check_name}"
            return StudyFinding(RULE, "wrong_check_character", Severity.WARNING, detail)
        return StudyFinding(RULE, "checked", Severity.INFO, f"by {self.check_name}")

    def _codes(self, number: str, StudyDate: str) -> Iterator[StudyFinding]:
        parts = accession.parts(number)
        if self.hospitals and parts.hospital not in self.hospitals:
            yield StudyFinding(RULE, "unknown_hospital", Severity.WARNING)
        if self.departments and parts.department not in self.departments:
            yield StudyFinding(RULE, "unknown_department", Severity.WARNING)
        year = StudyDate[:4]
        if self.years is not None and year.isascii() and year.isdigit() and len(year) == 4:
            before = (int(year) - int(parts.year)) % 100
            if before > self.years:
                yield StudyFinding(RULE, "wrong_year", Severity.WARNING)

    def _another_was_ordered(self, evidence: Evidence) -> bool:
        """Whether the order that was found otherwise has another number."""
        match = match_order(
            evidence.keys,
            evidence.orders,
            AccessionNumber=evidence.AccessionNumber,
            StudyInstanceUID=evidence.StudyInstanceUID,
            linked=evidence.standing.linked,
            compared=(),
        )
        ordered = "" if match.order is None else match.order.AccessionNumber
        return bool(ordered) and ordered != evidence.AccessionNumber

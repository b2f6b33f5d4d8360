"""Findings, and the verdict that follows from them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gantry_domain.policies.standing import UNDECIDED, Standing


class Severity(StrEnum):
    """How much a finding weighs: only from WARNING on does a rule's action happen."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Action(StrEnum):
    """What a violated rule asks for."""

    WARN = "warn"
    HOLD = "hold"
    REJECT = "reject"
    """The image that is one too many is refused at the door; where that was not possible the study
    is refused."""


class VerdictKind(StrEnum):
    """What the policies say of a study."""

    ACCEPTED = "accepted"
    HELD = "held"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class StudyFinding:
    """What a rule says of a study. `code` is a slug; `detail` holds no patient data."""

    rule: str
    code: str
    severity: Severity
    detail: str = ""

    @property
    def weighs(self) -> bool:
        """Whether it is a fault, and not only information."""
        return self.severity is not Severity.INFO


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """The findings of one rule, and what is to happen if one of them weighs."""

    findings: tuple[StudyFinding, ...]
    action: Action
    visible: bool

    @property
    def violated(self) -> bool:
        """Whether the rule's action happens."""
        return any(finding.weighs for finding in self.findings)

    def asks_for(self, action: Action, accepted: frozenset[tuple[str, str]]) -> bool:
        """Whether this is to happen for it; `accepted` are faults that a person took as they are,
        by rule and code."""
        return self.action is action and any(
            finding.weighs and (finding.rule, finding.code) not in accepted
            for finding in self.findings
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a study: forwarded or not, shown or not, and why."""

    kind: VerdictKind
    visible: bool
    findings: tuple[StudyFinding, ...] = ()


def decide(
    outcomes: Iterable[RuleOutcome], *, was_visible: bool, standing: Standing = UNDECIDED
) -> Verdict:
    """The verdict that follows from the rules' outcomes and from what people decided.

    Held stops forwarding. Whether clinicians see a held study is for the rules that hold it to
    say; one that hides it is enough. A study that was visible is never hidden by a rule again.
    """
    outcomes = tuple(outcomes)
    findings = tuple(finding for outcome in outcomes for finding in outcome.findings)
    if standing.refused:
        return Verdict(VerdictKind.REFUSED, visible=False, findings=findings)
    if standing.released:
        return Verdict(VerdictKind.ACCEPTED, visible=True, findings=findings)
    accepted = standing.accepted
    if any(outcome.asks_for(Action.REJECT, accepted) for outcome in outcomes):
        return Verdict(VerdictKind.REFUSED, visible=was_visible, findings=findings)
    holding = [outcome for outcome in outcomes if outcome.asks_for(Action.HOLD, accepted)]
    return Verdict(
        kind=VerdictKind.HELD if holding else VerdictKind.ACCEPTED,
        visible=was_visible or all(outcome.visible for outcome in holding),
        findings=findings,
    )

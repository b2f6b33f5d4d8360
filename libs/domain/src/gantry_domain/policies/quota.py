"""The rule about how much a sender may bring in a day: instances, studies, bytes."""

from collections.abc import Iterable
from dataclasses import dataclass

from gantry_domain.policies.evidence import Evidence, Look
from gantry_domain.policies.findings import Action, RuleOutcome, Severity, StudyFinding
from gantry_domain.policies.rules import Rule, Scoped
from gantry_domain.routes import StudyFacts, meets


@dataclass(frozen=True, slots=True)
class Amounts:
    """So much in a day of one calling AE title; None: any number."""

    instances: int | None = None
    studies: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """At most these amounts a day of each calling AE title. It is counted at the door."""

    most: Amounts
    action: Action
    visible: bool = True

    @property
    def looks_at(self) -> frozenset[Look]:
        """Nothing besides what the door wrote down."""
        return frozenset()

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """A warning if the door found that its sender brought too much; what was refused there is
        refused already."""
        findings: tuple[StudyFinding, ...] = ()
        if evidence.over_quota:
            detail = ", ".join(sorted(evidence.over_quota))
            findings = (StudyFinding("quota", "over_quota", Severity.WARNING, detail),)
        action = Action.WARN if self.action is Action.REJECT else self.action
        return RuleOutcome(findings, action, self.visible)


@dataclass(frozen=True, slots=True)
class QuotaAtDoor:
    """What the rules say of a sender: amounts from which on objects are refused, and amounts from
    which on their studies are told of it."""

    refused: Amounts
    told: Amounts


def has_quotas(rules: Iterable[Rule]) -> bool:
    """Whether senders have to be counted."""
    return any(_quota(rule) is not None for rule in rules)


def quota_at_door(rules: Iterable[Rule], facts: StudyFacts) -> QuotaAtDoor | None:
    """The lowest amounts of those rules that are for an object with these facts; None: none is."""
    found = [
        quota
        for rule in rules
        if not isinstance(rule, Scoped) or meets(dict(rule.when), facts)
        if (quota := _quota(rule)) is not None
    ]
    if not found:
        return None
    return QuotaAtDoor(
        refused=_lowest(each.most for each in found if each.action is Action.REJECT),
        told=_lowest(each.most for each in found),
    )


def _lowest(amounts: Iterable[Amounts]) -> Amounts:
    found = list(amounts)

    def least(values: Iterable[int | None]) -> int | None:
        return min((value for value in values if value is not None), default=None)

    return Amounts(
        least(each.instances for each in found),
        least(each.studies for each in found),
        least(each.bytes for each in found),
    )


def _quota(rule: Rule) -> Quota | None:
    inner = rule.rule if isinstance(rule, Scoped) else rule
    return inner if isinstance(inner, Quota) else None

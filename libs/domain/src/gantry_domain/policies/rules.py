"""The rules in force: frozen values made from the configuration, each pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from gantry_domain.policies.evidence import Evidence, Look
from gantry_domain.policies.findings import RuleOutcome, Verdict, decide
from gantry_domain.routes import meets

# To be increased when a rule judges otherwise than before, so that every study is judged anew.
_EDITION = 2


class Rule(Protocol):
    """One rule of the policy set."""

    @property
    def looks_at(self) -> frozenset[Look]:
        """What has to be gathered for it."""
        ...

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """The findings, and what is to happen if one of them weighs."""
        ...


@dataclass(frozen=True, slots=True)
class Scoped:
    """A rule for some studies only: those that meet every condition, as for a route."""

    rule: Rule
    when: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def looks_at(self) -> frozenset[Look]:
        """What the rule and its conditions ask for."""
        asked = {key for key, _ in self.when}
        senders = {Look.SENDERS} if asked & {"calling_ae", "called_ae"} else set()
        return self.rule.looks_at | senders

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """The rule's outcome; without findings for a study that is not meant."""
        outcome = self.rule.judge(evidence)
        if meets(dict(self.when), evidence.facts):
            return outcome
        return RuleOutcome((), outcome.action, outcome.visible)


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

    @property
    def looks_at(self) -> frozenset[Look]:
        """What has to be gathered for all of them."""
        return frozenset(look for rule in self.rules for look in rule.looks_at)

    def judge(self, evidence: Evidence, *, was_visible: bool) -> Verdict:
        """The verdict on a study; with no rules every study is accepted."""
        return decide(
            (rule.judge(evidence) for rule in self.rules),
            was_visible=was_visible,
            standing=evidence.standing,
        )

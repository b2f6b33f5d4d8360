"""What the rules say before an image is stored: how many its study may have."""

from collections.abc import Iterable

from gantry_domain.policies.findings import Action
from gantry_domain.policies.rules import Rule, Scoped
from gantry_domain.policies.study_rules import ImagesPerStudy
from gantry_domain.routes import StudyFacts, meets

KNOWN_AT_DOOR = frozenset({"calling_ae", "called_ae", "partition"})
"""What the conditions of a rule with the action `reject` can ask for."""


def has_limits(rules: Iterable[Rule]) -> bool:
    """Whether any of them limits at the door."""
    return any(_limit(rule) is not None for rule in rules)


def limit_at_door(rules: Iterable[Rule], facts: StudyFacts) -> int | None:
    """The lowest limit of those rules that are for an image with these facts; None: none is."""
    limits = (
        _limit(rule)
        for rule in rules
        if not isinstance(rule, Scoped) or meets(dict(rule.when), facts)
    )
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(rule: Rule) -> int | None:
    inner = rule.rule if isinstance(rule, Scoped) else rule
    if isinstance(inner, ImagesPerStudy) and inner.action is Action.REJECT:
        return inner.limit
    return None

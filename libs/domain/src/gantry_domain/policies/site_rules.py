"""A site's own rules, by entry point.

    [project.entry-points."gantry.policies"]
    paediatric_dose = "hospital.rules:paediatric_dose"

The entry point is a function: it is given the `options` of the configuration and returns another,
from `Evidence` to findings. Both have to be pure: the same gives the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

from gantry_domain.errors import ConfigurationError
from gantry_domain.policies.evidence import Evidence, Look
from gantry_domain.policies.findings import Action, RuleOutcome, StudyFinding

ENTRY_POINTS = "gantry.policies"

Judge = Callable[[Evidence], Iterable[StudyFinding]]

_EVERYTHING = frozenset(Look)


@dataclass(frozen=True, slots=True)
class SiteRule:
    """A rule of a package, with what the configuration tells it.

    `version` is that of the package: another one judges every study anew.
    """

    name: str
    version: str
    options: tuple[tuple[str, str], ...]
    judge_by: Judge = field(repr=False, compare=False)
    action: Action
    visible: bool = True

    @property
    def looks_at(self) -> frozenset[Look]:
        """Nobody knows, so everything."""
        return _EVERYTHING

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """The findings of the package, under the name of the rule."""
        return RuleOutcome(tuple(self.judge_by(evidence)), self.action, self.visible)


def find_site_rule(name: str) -> EntryPoint:
    """Where the rule of this name comes from. Raises `ConfigurationError`."""
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point
    known = ", ".join(point.name for point in entry_points(group=ENTRY_POINTS)) or "none"
    raise ConfigurationError(f"there is no rule {name!r} of a package; known are {known}")


def load_site_rule(
    name: str, options: Mapping[str, str], *, action: Action, visible: bool
) -> SiteRule:
    """The rule of this name. Raises `ConfigurationError`, also for options that it refuses."""
    point = find_site_rule(name)
    try:
        judge_by: Judge = point.load()(dict(options))
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigurationError(f"the rule {name!r} cannot be made: {error}") from error
    version = "" if point.dist is None else point.dist.version
    return SiteRule(name, version, tuple(sorted(options.items())), judge_by, action, visible)

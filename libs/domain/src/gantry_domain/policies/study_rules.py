"""Rules about the study as a whole: how much it is, what it is, and whether it is one patient's."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gantry_domain.policies.evidence import Evidence, Look
from gantry_domain.policies.findings import Action, RuleOutcome, Severity, StudyFinding
from gantry_domain.policies.major_keys import Agreement, compare_keys


@dataclass(frozen=True, slots=True)
class ImagesPerStudy:
    """At most `limit` images per study; `limit` itself is allowed."""

    limit: int
    action: Action
    visible: bool = True

    @property
    def looks_at(self) -> frozenset[Look]:
        """Nothing besides the study."""
        return frozenset()

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """A warning above the limit, and one for what was refused at the door."""
        rule = "images_per_study"
        if evidence.images > self.limit:
            detail = f"{evidence.images} images, {self.limit} are allowed"
            found = StudyFinding(rule, "too_many_images", Severity.WARNING, detail)
            return RuleOutcome((found,), self.action, self.visible)
        if self.action is Action.REJECT and evidence.refused_at_door:
            detail = f"{evidence.refused_at_door} times"
            found = StudyFinding(rule, "images_refused", Severity.WARNING, detail)
            return RuleOutcome((found,), Action.WARN, self.visible)
        return RuleOutcome((), self.action, self.visible)


@dataclass(frozen=True, slots=True)
class StudyConsistency:
    """All of a study is one patient's, who has the same name, birth date and sex in each series."""

    action: Action
    visible: bool = False

    @property
    def looks_at(self) -> frozenset[Look]:
        """Each series."""
        return frozenset({Look.SERIES})

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """An error for several patients, a warning for each key that differs between series."""
        return RuleOutcome(tuple(self._findings(evidence)), self.action, self.visible)

    def _findings(self, evidence: Evidence) -> Iterator[StudyFinding]:
        rule = "study_consistency"
        if len(evidence.patients) > 1:
            detail = f"{len(evidence.patients)} identifiers"
            yield StudyFinding(rule, "several_patients", Severity.ERROR, detail)
        differing = {
            key
            for one in evidence.series
            for key, said in compare_keys(one.keys, evidence.keys).items()
            if said is Agreement.DIFFERS and key != "PatientID"
        }
        if differing:
            detail = ", ".join(sorted(differing))
            yield StudyFinding(rule, "demographics_differ", Severity.WARNING, detail)


@dataclass(frozen=True, slots=True)
class RequiredAttributes:
    """Attributes that have to have a value: of the study, and of each of its series."""

    study: tuple[str, ...]
    series: tuple[str, ...]
    action: Action
    visible: bool = True

    @property
    def looks_at(self) -> frozenset[Look]:
        """Each series, if attributes of series are required."""
        return frozenset({Look.SERIES} if self.series else ())

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """A warning that names those which are missing."""
        missing = [key for key in self.study if key not in evidence.present]
        missing += [
            key for key in self.series if any(key not in each.present for each in evidence.series)
        ]
        findings: tuple[StudyFinding, ...] = ()
        if missing:
            findings = (
                StudyFinding(
                    "required_attributes", "missing", Severity.WARNING, ", ".join(missing)
                ),
            )
        return RuleOutcome(findings, self.action, self.visible)


@dataclass(frozen=True, slots=True)
class SopClassAllowed:
    """SOP classes by UID, where `*` stands for any characters: those allowed (none: all) without
    those refused."""

    allow: tuple[str, ...]
    refuse: tuple[str, ...]
    action: Action
    visible: bool = True

    @property
    def looks_at(self) -> frozenset[Look]:
        """Nothing besides the study."""
        return frozenset()

    def judge(self, evidence: Evidence) -> RuleOutcome:
        """A warning that names the classes that are not allowed."""
        found = [uid for uid in evidence.facts.SOPClassesInStudy if not self._allowed(uid)]
        findings: tuple[StudyFinding, ...] = ()
        if found:
            findings = (
                StudyFinding(
                    "sop_class_allowed", "not_allowed", Severity.WARNING, ", ".join(found)
                ),
            )
        return RuleOutcome(findings, self.action, self.visible)

    def _allowed(self, uid: str) -> bool:
        if any(fnmatchcase(uid, pattern) for pattern in self.refuse):
            return False
        return not self.allow or any(fnmatchcase(uid, pattern) for pattern in self.allow)

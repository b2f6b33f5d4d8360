"""What the configuration says of judging: the rules, and which studies each is for."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from gantry_domain.attributes import BY_KEYWORD, Level
from gantry_domain.errors import ConfigurationError
from gantry_domain.policies import accession
from gantry_domain.policies.accession_number import AccessionNumberFormat
from gantry_domain.policies.door import KNOWN_AT_DOOR
from gantry_domain.policies.findings import Action
from gantry_domain.policies.major_keys import MAJOR_KEYS
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.quota import Amounts, Quota
from gantry_domain.policies.rules import PolicySet, Rule, Scoped
from gantry_domain.policies.site_rules import SiteRule, find_site_rule, load_site_rule
from gantry_domain.policies.study_rules import (
    ImagesPerStudy,
    RequiredAttributes,
    SopClassAllowed,
    StudyConsistency,
)
from gantry_domain.routes import CONDITIONS
from gantry_runtime.forwarding import one_or_more
from gantry_runtime.section import Section
from gantry_runtime.values import Size

Texts = Annotated[tuple[str, ...], Field(strict=False)]


class _Policy(Section):
    """What every rule is told: for which studies, and what happens to one that violates it."""

    action: Literal["warn", "hold"] = "warn"
    visible: bool | None = None
    """Whether clinicians see a study that this rule holds; None: as is usual for the rule."""
    when: Annotated[dict[str, Texts], BeforeValidator(one_or_more)] = Field(default_factory=dict)
    """Conditions as of a route; without any the rule is for every study."""

    @field_validator("when")
    @classmethod
    def _conditions(cls, when: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for key, patterns in when.items():
            if key not in CONDITIONS:
                raise ValueError(f"a rule can ask for {', '.join(CONDITIONS)}, not for {key}")
            if not patterns:
                raise ValueError(f"lists nothing under {key}, so it would match no study")
        return when

    def _shown(self, *, usual: bool) -> bool:
        return usual if self.visible is None else self.visible


class ImagesPerStudySection(_Policy):
    """At most `limit` images in a study."""

    rule: Literal["images_per_study"]
    action: Literal["warn", "hold", "reject"] = "warn"  # type: ignore[assignment]
    limit: Annotated[int, Field(ge=1)] = 1000

    @model_validator(mode="after")
    def _known_at_door(self) -> Self:
        unknown = sorted(self.when.keys() - KNOWN_AT_DOOR)
        if self.action == "reject" and unknown:
            known = ", ".join(sorted(KNOWN_AT_DOOR))
            raise ValueError(
                f"with the action reject `when` can ask for {known}, not for {unknown[0]}"
            )
        return self

    def policy(self) -> ImagesPerStudy:
        """The rule as a value."""
        return ImagesPerStudy(self.limit, Action(self.action), self._shown(usual=True))


class QuotaSection(_Policy):
    """At most so much in a day of each calling AE title; the day is that of `timezone`."""

    rule: Literal["quota"]
    action: Literal["warn", "hold", "reject"] = "warn"  # type: ignore[assignment]
    instances: Annotated[int, Field(ge=1)] | None = None
    studies: Annotated[int, Field(ge=1)] | None = None
    bytes: Size | None = None

    @model_validator(mode="after")
    def _something_known_at_door(self) -> Self:
        if self.instances is None and self.studies is None and self.bytes is None:
            raise ValueError("says neither instances nor studies nor bytes, so it limits nothing")
        unknown = sorted(self.when.keys() - KNOWN_AT_DOOR)
        if unknown:
            known = ", ".join(sorted(KNOWN_AT_DOOR))
            raise ValueError(f"`when` of a quota can ask for {known}, not for {unknown[0]}")
        return self

    def policy(self) -> Quota:
        """The rule as a value."""
        most = Amounts(self.instances, self.studies, self.bytes)
        return Quota(most, Action(self.action), self._shown(usual=True))


class AccessionNumberSection(_Policy):
    """The format of the accession number, its codes, and how its check character is computed."""

    rule: Literal["accession_number"]
    format: Literal["ha"] = "ha"
    check: str = "none"
    hospitals: Texts = ()
    """The codes that are known; none: any."""
    departments: Texts = ()
    years: Annotated[int, Field(ge=0, le=99)] | None = None
    """The number is of the study's year, or of so many before; None: of any."""
    unique: bool = True
    """Whether no other study may have it."""
    as_ordered: bool = True
    """Whether it has to be that of the order, where that is found by the study's UID."""

    @field_validator("check")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            accession.load_check(name)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return name

    def policy(self) -> AccessionNumberFormat:
        """The rule as a value."""
        return AccessionNumberFormat(
            self.check,
            accession.load_check(self.check),
            Action(self.action),
            self._shown(usual=True),
            hospitals=self.hospitals,
            departments=self.departments,
            years=self.years,
            unique=self.unique,
            as_ordered=self.as_ordered,
        )


class PatientIdentitySection(_Policy):
    """Which identifier the Patient ID is, and which keys have to be those of the order."""

    rule: Literal["patient_identity"]
    identifier: Literal["hkid"] = "hkid"
    issuers: Texts = ()
    """Issuers of Patient ID whose identifiers are looked at; none: all."""
    keys: Texts = MAJOR_KEYS
    """Of the four major keys those that have to agree with the order; none: orders do not count."""
    order: Literal["required", "if_any"] = "required"
    """Whether a study without an order is at fault while orders come in."""

    @field_validator("keys")
    @classmethod
    def _major_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for key in keys:
            if key not in MAJOR_KEYS:
                raise ValueError(f"{key!r} is none of {', '.join(MAJOR_KEYS)}")
        return keys

    def policy(self) -> PatientIdentity:
        """The rule as a value."""
        return PatientIdentity(
            Action(self.action),
            self._shown(usual=False),
            self.issuers,
            keys=self.keys,
            order_required=self.order == "required",
        )


class StudyConsistencySection(_Policy):
    """All of a study is one patient's."""

    rule: Literal["study_consistency"]

    def policy(self) -> StudyConsistency:
        """The rule as a value."""
        return StudyConsistency(Action(self.action), self._shown(usual=False))


class RequiredAttributesSection(_Policy):
    """Attributes that have to have a value."""

    rule: Literal["required_attributes"]
    attributes: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]

    @field_validator("attributes")
    @classmethod
    def _indexed(cls, keywords: tuple[str, ...]) -> tuple[str, ...]:
        for keyword in keywords:
            found = BY_KEYWORD.get(keyword)
            if found is None or found.computed or found.level is Level.INSTANCE:
                raise ValueError(f"{keyword!r} is no attribute of a patient, a study or a series")
        return keywords

    def policy(self) -> RequiredAttributes:
        """The rule as a value."""
        series = tuple(key for key in self.attributes if BY_KEYWORD[key].level is Level.SERIES)
        return RequiredAttributes(
            tuple(key for key in self.attributes if key not in series),
            series,
            Action(self.action),
            self._shown(usual=True),
        )


class SopClassAllowedSection(_Policy):
    """Which SOP classes may come."""

    rule: Literal["sop_class_allowed"]
    allow: Texts = ()
    """UIDs, in which `*` stands for any characters; none: all."""
    refuse: Texts = ()

    def policy(self) -> SopClassAllowed:
        """The rule as a value."""
        return SopClassAllowed(
            self.allow, self.refuse, Action(self.action), self._shown(usual=True)
        )


class SiteRuleSection(_Policy):
    """A rule of a package that is installed beside Gantry."""

    rule: Literal["site"]
    name: Annotated[str, Field(min_length=1)]
    options: dict[str, str] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _installed(cls, name: str) -> str:
        try:
            find_site_rule(name)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return name

    def policy(self) -> SiteRule:
        """The rule as a value. Raises `ConfigurationError` for options that it refuses."""
        return load_site_rule(
            self.name,
            self.options,
            action=Action(self.action),
            visible=self._shown(usual=True),
        )


PolicySection = Annotated[
    ImagesPerStudySection
    | QuotaSection
    | AccessionNumberSection
    | PatientIdentitySection
    | StudyConsistencySection
    | RequiredAttributesSection
    | SopClassAllowedSection
    | SiteRuleSection,
    Field(discriminator="rule"),
]


def policy_set(sections: Iterable[PolicySection]) -> PolicySet:
    """The policies as values. Raises `ConfigurationError` for options that a package refuses."""
    return PolicySet.of(map(_rule, sections))


def _rule(section: PolicySection) -> Rule:
    rule = section.policy()
    return Scoped(rule, tuple(section.when.items())) if section.when else rule

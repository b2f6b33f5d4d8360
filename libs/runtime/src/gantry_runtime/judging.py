"""What the configuration says of judging: policies, and when a study counts as complete."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from gantry_domain.completeness import QuietTimes
from gantry_domain.errors import ConfigurationError
from gantry_domain.policies import accession
from gantry_domain.policies.findings import Action
from gantry_domain.policies.rules import (
    AccessionNumberFormat,
    ImagesPerStudy,
    PatientIdentity,
    PolicySet,
)
from gantry_runtime.section import Section
from gantry_runtime.values import AETitle, Duration, parse_duration


class _Policy(Section):
    """What every rule is told: what happens to a study that violates it."""

    action: Literal["warn", "hold"] = "warn"
    visible: bool | None = None
    """Whether clinicians see a study that this rule holds; None: as is usual for the rule."""

    def _shown(self, *, usual: bool) -> bool:
        return usual if self.visible is None else self.visible


class ImagesPerStudySection(_Policy):
    """At most `limit` images in a study."""

    rule: Literal["images_per_study"]
    limit: Annotated[int, Field(ge=1)] = 1000

    def policy(self) -> ImagesPerStudy:
        """The rule as a value."""
        return ImagesPerStudy(self.limit, Action(self.action), self._shown(usual=True))


class AccessionNumberSection(_Policy):
    """The format of the accession number, and how its check character is computed."""

    rule: Literal["accession_number"]
    format: Literal["ha"] = "ha"
    check: str = "none"

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
        )


class PatientIdentitySection(_Policy):
    """Which identifier the Patient ID is."""

    rule: Literal["patient_identity"]
    identifier: Literal["hkid"] = "hkid"
    issuers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Issuers of Patient ID whose identifiers are looked at; none: all."""

    def policy(self) -> PatientIdentity:
        """The rule as a value."""
        return PatientIdentity(Action(self.action), self._shown(usual=False), self.issuers)


PolicySection = Annotated[
    ImagesPerStudySection | AccessionNumberSection | PatientIdentitySection,
    Field(discriminator="rule"),
]


def policy_set(sections: Iterable[PolicySection]) -> PolicySet:
    """The policies as values."""
    return PolicySet.of(section.policy() for section in sections)


class CompleteAfter(Section):
    """How long nothing may arrive before a study counts as complete."""

    default: Duration = parse_duration("5m")
    modalities: dict[str, Duration] = Field(default_factory=dict)
    partners: dict[AETitle, Duration] = Field(default_factory=dict)
    """By calling AE title; goes before the modality's."""
    longest: Duration = parse_duration("30m")
    """How long a study waits, after its last image or report, for images that its modality told of
    by MPPS, or for the end of a step that it began."""

    def quiet_times(self) -> QuietTimes:
        """The times as a value."""
        return QuietTimes(self.default, self.modalities, self.partners, self.longest)


def expand_quiet_time(value: Any) -> Any:
    """A duration alone is the default."""
    return value if isinstance(value, Mapping | CompleteAfter) else {"default": value}


QuietTime = Annotated[CompleteAfter, BeforeValidator(expand_quiet_time)]

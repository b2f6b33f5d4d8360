"""What the configuration says of quiet: when a study counts as complete, and a series as quiet."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from gantry_domain.completeness import QuietTimes
from gantry_runtime.section import Section
from gantry_runtime.values import AETitle, Duration, parse_duration


class CompleteAfter(Section):
    """How long nothing may arrive before a study counts as complete."""

    default: Duration = parse_duration("5m")
    modalities: dict[str, Duration] = Field(default_factory=dict)
    partners: dict[AETitle, Duration] = Field(default_factory=dict)
    """By calling AE title; goes before the modality's."""
    committed: dict[AETitle, Duration] = Field(default_factory=dict)
    """By calling AE title: of a study that it asked us to keep, all of it, by storage commitment.
    For devices that ask once they are through; absent: such a request says nothing."""
    counted: list[AETitle] = Field(default_factory=list)
    """Calling AE titles whose images are believed how many there are of their study (Number of
    Study Related Instances)."""
    learn: bool = False
    """Whether partners whose studies never pause for so long have shorter times, which are learned
    of what they sent."""
    learned_at_least: Duration = parse_duration("30s")
    """No learned time is shorter."""
    longest: Duration = parse_duration("30m")
    """How long a study waits, after its last image or report, for images that its modality told of
    by MPPS, or for the end of a step that it began."""
    series: Duration = parse_duration("1m")
    """How long nothing of a series may arrive before routes with `trigger: series` take it."""

    def quiet_times(self, partners: Collection[str] = ()) -> QuietTimes:
        """The times as a value; `partners` are those that can be learned of."""
        return QuietTimes(
            self.default,
            self.modalities,
            self.partners,
            longest=self.longest,
            committed=self.committed,
            learning=frozenset(partners) if self.learn else frozenset(),
            learned_at_least=self.learned_at_least,
            counted=frozenset(self.counted),
        )


def expand_quiet_time(value: Any) -> Any:
    """A duration alone is the default."""
    return value if isinstance(value, Mapping | CompleteAfter) else {"default": value}


QuietTime = Annotated[CompleteAfter, BeforeValidator(expand_quiet_time)]

"""What the configuration says of quiet: when a study counts as complete, and a series as quiet."""

from collections.abc import Mapping
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
    longest: Duration = parse_duration("30m")
    """How long a study waits, after its last image or report, for images that its modality told of
    by MPPS, or for the end of a step that it began."""
    series: Duration = parse_duration("1m")
    """How long nothing of a series may arrive before routes with `trigger: series` take it."""

    def quiet_times(self) -> QuietTimes:
        """The times as a value."""
        return QuietTimes(self.default, self.modalities, self.partners, self.longest)


def expand_quiet_time(value: Any) -> Any:
    """A duration alone is the default."""
    return value if isinstance(value, Mapping | CompleteAfter) else {"default": value}


QuietTime = Annotated[CompleteAfter, BeforeValidator(expand_quiet_time)]

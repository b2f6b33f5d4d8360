"""Reads what a service's ``/metrics`` shows."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@dataclass(frozen=True, slots=True)
class Metrics:
    """One scrape."""

    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, text: str) -> "Metrics":
        """From the text format."""
        families = text_string_to_metric_families(text)
        return cls(tuple(sample for family in families for sample in family.samples))

    def matching(self, name: str, **labels: str) -> Iterator[Sample]:
        """The samples of that name that bear at least these labels."""
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample

    def value(self, name: str, **labels: str) -> float:
        """The sum over the samples that match; 0 where there is none."""
        return sum(sample.value for sample in self.matching(name, **labels))

    def names(self) -> set[str]:
        """The names of all samples."""
        return {sample.name for sample in self.samples}

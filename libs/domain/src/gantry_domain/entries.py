"""One readable object as the index takes it in."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from gantry_domain.attributes import Level
from gantry_domain.levels import LevelValues, level_values
from gantry_domain.policies.findings import Severity
from gantry_domain.series_moves import SeriesMove

# Of an object whose file meta information names none.
DEFAULT_PARTITION = "main"


@dataclass(frozen=True, slots=True)
class ObjectFinding:
    """What is odd about one object. `rule` is a slug; `detail` holds no patient data."""

    rule: str
    severity: Severity
    tag: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What the header of an object says, with the facts of its file.

    `size` is in bytes of the whole file, `dataset_offset` where the data set begins in it,
    `sha256` that of the data set as sent. `attributes` is the DICOM JSON model and `header` its
    stored form, `frames` that of the table of its frames, None where that is still to be made.
    `moved`: the moves that brought it from `sent_study` to where it is.
    """

    object_id: UUID
    partition: str
    size: int
    dataset_offset: int
    sha256: bytes
    TransferSyntaxUID: str
    SOPClassUID: str
    SOPInstanceUID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    calling_ae: str
    called_ae: str
    attributes: dict[str, Any] = field(repr=False)
    header: bytes = field(repr=False)
    frames: bytes | None = field(default=None, repr=False)
    findings: tuple[ObjectFinding, ...] = ()
    moved: tuple[SeriesMove, ...] = ()
    sent_study: str = ""

    @property
    def study_key(self) -> tuple[str, str]:
        """Partition and StudyInstanceUID."""
        return self.partition, self.StudyInstanceUID

    @property
    def instance_key(self) -> tuple[str, str]:
        """Partition and SOPInstanceUID."""
        return self.partition, self.SOPInstanceUID


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that cannot be indexed. `reason` is a slug that may be shown and counted."""

    object_id: UUID
    size: int
    sha256: bytes | None
    reason: str
    partition: str = DEFAULT_PARTITION


def study_values(attributes: dict[str, Any]) -> LevelValues:
    """What a study's row holds: its own attributes and those of its patient."""
    return level_values(attributes, Level.PATIENT, Level.STUDY)

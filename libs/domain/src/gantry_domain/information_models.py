"""The information models of query and retrieve: their SOP classes, levels and unique keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gantry_domain.attributes import Level

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_STUDY_ONLY_FIND = "1.2.840.10008.5.1.4.1.2.3.1"
PATIENT_STUDY_ONLY_MOVE = "1.2.840.10008.5.1.4.1.2.3.2"
PATIENT_STUDY_ONLY_GET = "1.2.840.10008.5.1.4.1.2.3.3"
COMPOSITE_INSTANCE_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.4.2"
COMPOSITE_INSTANCE_ROOT_GET = "1.2.840.10008.5.1.4.1.2.4.3"
WITHOUT_BULK_DATA_GET = "1.2.840.10008.5.1.4.1.2.5.3"

# PS3.4 Tables C.6-1 to C.6-5.
UNIQUE_KEYS: Mapping[Level, str] = MappingProxyType(
    {
        Level.PATIENT: "PatientID",
        Level.STUDY: "StudyInstanceUID",
        Level.SERIES: "SeriesInstanceUID",
        Level.INSTANCE: "SOPInstanceUID",
    }
)

# Query/Retrieve Level (0008,0052), PS3.4 C.4.1.1.3.1.
_LEVEL_NAMES: Mapping[Level, str] = MappingProxyType(
    {
        Level.PATIENT: "PATIENT",
        Level.STUDY: "STUDY",
        Level.SERIES: "SERIES",
        Level.INSTANCE: "IMAGE",
    }
)


@dataclass(frozen=True, slots=True)
class InformationModel:
    """One model; `levels` from its root. A class is None where the model has no such service.

    Without `bulk_data` instances lose what PS3.4 Z.1.3 says on their way out.
    """

    find_class: str | None
    move_class: str | None
    get_class: str
    levels: tuple[Level, ...]
    bulk_data: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Its SOP classes."""
        classes = (self.find_class, self.move_class, self.get_class)
        return tuple(uid for uid in classes if uid is not None)

    def level_named(self, name: str) -> Level | None:
        """The level that (0008,0052) names; None if the model has none of that name."""
        for level in self.levels:
            if _LEVEL_NAMES[level] == name.strip().upper():
                return level
        return None

    def above(self, level: Level) -> tuple[Level, ...]:
        """The levels between the root and this one."""
        return self.levels[: self.levels.index(level)]


PATIENT_ROOT = InformationModel(
    PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, PATIENT_ROOT_GET, tuple(UNIQUE_KEYS)
)
STUDY_ROOT = InformationModel(
    STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET, tuple(UNIQUE_KEYS)[1:]
)
# Retired in 2004 and still asked for.
PATIENT_STUDY_ONLY = InformationModel(
    PATIENT_STUDY_ONLY_FIND,
    PATIENT_STUDY_ONLY_MOVE,
    PATIENT_STUDY_ONLY_GET,
    tuple(UNIQUE_KEYS)[:2],
)
# PS3.4 Annex Y; without its second level, which makes new instances of some frames.
COMPOSITE_INSTANCE_ROOT = InformationModel(
    None, COMPOSITE_INSTANCE_ROOT_MOVE, COMPOSITE_INSTANCE_ROOT_GET, (Level.INSTANCE,)
)

# PS3.4 Annex Z.
WITHOUT_BULK_DATA = InformationModel(
    None, None, WITHOUT_BULK_DATA_GET, (Level.INSTANCE,), bulk_data=False
)

INFORMATION_MODELS = (
    PATIENT_ROOT,
    STUDY_ROOT,
    PATIENT_STUDY_ONLY,
    COMPOSITE_INSTANCE_ROOT,
    WITHOUT_BULK_DATA,
)


def level_name(level: Level) -> str:
    """The value of (0008,0052) for a level."""
    return _LEVEL_NAMES[level]


MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
"""PS3.4 Annex K; it has no levels."""
MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
"""PS3.4 Annex F."""
WORKLIST_CLASSES = (MODALITY_WORKLIST_FIND, MODALITY_PERFORMED_PROCEDURE_STEP)
"""What the worklist service answers for."""

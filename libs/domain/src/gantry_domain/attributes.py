"""The attribute table: which attributes the index holds, at which level, and how they match.

The schema, QIDO-RS, C-FIND and the conformance statement read it and nothing else, so that what
is searchable, what is returned and what is documented are the same (PS3.4 C.6, PS3.18 10.6.3).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache

from gantry_domain.dictionary import KEYWORDS, VRS


class Level(StrEnum):
    """The levels of the information model, from the top (PS3.4 C.6.1.1)."""

    PATIENT = "patient"
    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


class Matching(Enum):
    """How a key attribute is compared (PS3.4 C.2.2.2)."""

    TEXT = "single value or wildcard"
    NAME = "single value or wildcard, over all component groups, without case"
    UID = "list of UID"
    DATE = "single value or range of dates"
    TIME = "single value or range of times"
    NUMBER = "single value"
    SET = "any of several values"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of the index.

    `matching` is None where it is only returned. `required` attributes are always in an answer
    (PS3.18 Tables 10.6.3-3 to -5). `computed` ones come from the index, not from a header.
    """

    keyword: str
    level: Level
    matching: Matching | None = None
    required: bool = False
    computed: bool = False

    @property
    def tag(self) -> str:
        """The tag as in the DICOM JSON model: 8 upper-case hex digits."""
        return f"{KEYWORDS[self.keyword]:08X}"

    @property
    def vr(self) -> str:
        """The value representation of PS3.6."""
        return VRS[KEYWORDS[self.keyword]]

    @property
    def column(self) -> str:
        """The name of the attribute's column: the keyword in lower case with underscores."""
        return _column(self.keyword)


@cache  # each search asks for it dozens of times
def _column(keyword: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", keyword)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", words).lower()


_P, _ST, _SE, _I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("PatientName", _P, Matching.NAME, required=True),
    Attribute("PatientID", _P, Matching.TEXT, required=True),
    Attribute("IssuerOfPatientID", _P, Matching.TEXT),
    Attribute("PatientBirthDate", _P, Matching.DATE, required=True),
    Attribute("PatientBirthTime", _P),
    Attribute("PatientSex", _P, Matching.TEXT, required=True),
    Attribute("OtherPatientIDs", _P),
    Attribute("PatientComments", _P),
    Attribute("StudyInstanceUID", _ST, Matching.UID, required=True),
    Attribute("StudyDate", _ST, Matching.DATE, required=True),
    Attribute("StudyTime", _ST, Matching.TIME, required=True),
    Attribute("AccessionNumber", _ST, Matching.TEXT, required=True),
    Attribute("IssuerOfAccessionNumberSequence", _ST),
    Attribute("StudyID", _ST, Matching.TEXT, required=True),
    Attribute("ReferringPhysicianName", _ST, Matching.NAME, required=True),
    Attribute("StudyDescription", _ST, Matching.TEXT),
    Attribute("NameOfPhysiciansReadingStudy", _ST),
    Attribute("AdmittingDiagnosesDescription", _ST),
    Attribute("PatientAge", _ST),
    Attribute("PatientSize", _ST),
    Attribute("PatientWeight", _ST),
    Attribute("TimezoneOffsetFromUTC", _ST, required=True),
    Attribute("ModalitiesInStudy", _ST, Matching.SET, required=True, computed=True),
    Attribute("SOPClassesInStudy", _ST, Matching.SET, computed=True),
    Attribute("NumberOfStudyRelatedSeries", _ST, required=True, computed=True),
    Attribute("NumberOfStudyRelatedInstances", _ST, required=True, computed=True),
    Attribute("SeriesInstanceUID", _SE, Matching.UID, required=True),
    Attribute("Modality", _SE, Matching.TEXT, required=True),
    Attribute("SeriesNumber", _SE, Matching.NUMBER, required=True),
    Attribute("SeriesDescription", _SE, Matching.TEXT, required=True),
    Attribute("SeriesDate", _SE, Matching.DATE),
    Attribute("SeriesTime", _SE, Matching.TIME),
    Attribute("BodyPartExamined", _SE, Matching.TEXT),
    Attribute("Laterality", _SE),
    Attribute("ProtocolName", _SE, Matching.TEXT),
    Attribute("InstitutionName", _SE, Matching.TEXT),
    Attribute("InstitutionalDepartmentName", _SE),
    Attribute("StationName", _SE, Matching.TEXT),
    Attribute("Manufacturer", _SE, Matching.TEXT),
    Attribute("ManufacturerModelName", _SE, Matching.TEXT),
    Attribute("PerformingPhysicianName", _SE, Matching.NAME),
    Attribute("OperatorsName", _SE, Matching.NAME),
    Attribute("PerformedProcedureStepStartDate", _SE, Matching.DATE, required=True),
    Attribute("PerformedProcedureStepStartTime", _SE, Matching.TIME, required=True),
    Attribute("RequestAttributesSequence", _SE, required=True),
    Attribute("NumberOfSeriesRelatedInstances", _SE, required=True, computed=True),
    Attribute("SOPInstanceUID", _I, Matching.UID, required=True),
    Attribute("SOPClassUID", _I, Matching.UID, required=True),
    Attribute("InstanceNumber", _I, Matching.NUMBER, required=True),
    Attribute("AcquisitionNumber", _I),
    Attribute("ContentDate", _I, Matching.DATE),
    Attribute("ContentTime", _I, Matching.TIME),
    Attribute("ImageType", _I),
    Attribute("NumberOfFrames", _I, required=True),
    Attribute("Rows", _I, required=True),
    Attribute("Columns", _I, required=True),
    Attribute("BitsAllocated", _I, required=True),
    Attribute("AvailableTransferSyntaxUID", _I, computed=True),
)

BY_KEYWORD: dict[str, Attribute] = {attribute.keyword: attribute for attribute in ATTRIBUTES}
BY_TAG: dict[str, Attribute] = {attribute.tag: attribute for attribute in ATTRIBUTES}


def attributes_at(*levels: Level) -> Iterator[Attribute]:
    """The attributes of the given levels, in the order of the table."""
    return (attribute for attribute in ATTRIBUTES if attribute.level in levels)

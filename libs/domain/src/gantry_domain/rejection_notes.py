"""Rejection notes of IHE IOCM (RAD TF-2 4.66): Key Object Selection documents (PS3.3 A.35.4) that
say which instances are no longer to be used, and by their title (PS3.16 CID 7031) why.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any
from uuid import UUID

from gantry_domain.dictionary import KEYWORDS, VRS
from gantry_domain.json_encoding import encode_document
from gantry_domain.json_model import Element
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_domain.uids import uid_of

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"

_TEMPLATE = "2010"  # PS3.16, Key Object Selection
# Type 2 of the patient and the study, and what tells namesakes apart.
_OF_STUDY = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
)
_IF_KNOWN = ("IssuerOfPatientID", "StudyDescription")


class RejectionTitle(StrEnum):
    """The code of the title."""

    QUALITY = "113001"
    PATIENT_SAFETY = "113037"
    WORKLIST = "113038"
    EXPIRED = "113039"

    @property
    def meaning(self) -> str:
        """As PS3.16 has it."""
        return _MEANINGS[self]


_MEANINGS = {
    RejectionTitle.QUALITY: "Rejected for Quality Reasons",
    RejectionTitle.PATIENT_SAFETY: "Rejected for Patient Safety Reasons",
    RejectionTitle.WORKLIST: "Incorrect Modality Worklist Entry",
    RejectionTitle.EXPIRED: "Data Retention Policy Expired",
}


@dataclass(frozen=True, slots=True, order=True)
class Rejected:
    """An instance that is rejected."""

    SeriesInstanceUID: str
    SOPClassUID: str
    SOPInstanceUID: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionNote:
    """A note that is made: `content` is its data set in Explicit VR Little Endian."""

    SOPInstanceUID: str
    title: RejectionTitle
    content: bytes


def rejection_note(
    number: UUID,
    title: RejectionTitle,
    rejected: Iterable[Rejected],
    *,
    StudyInstanceUID: str,
    attributes: Mapping[str, Any],
    at: datetime,
) -> RejectionNote:
    """The note about instances of a study, whose `attributes` (DICOM JSON model) are those that its
    reader knows.

    `number` is its own; `at` the moment in the zone of its dates.
    """
    uid, instances = uid_of(number), sorted(set(rejected))
    document: dict[str, Element] = {}
    for keyword in _OF_STUDY:
        tag = _tag(keyword)
        document[tag] = dict(attributes.get(tag, {"vr": VRS[KEYWORDS[keyword]]}))
    for keyword in _IF_KNOWN:
        if _tag(keyword) in attributes:
            document[_tag(keyword)] = dict(attributes[_tag(keyword)])
    document |= _elements(
        SOPClassUID=KEY_OBJECT_SELECTION,
        SOPInstanceUID=uid,
        ContentDate=f"{at:%Y%m%d}",
        ContentTime=f"{at:%H%M%S}",
        Modality="KO",
        Manufacturer="Gantry",
        SeriesDescription="Rejection Note",
        ReferencedPerformedProcedureStepSequence=[],
        StudyInstanceUID=StudyInstanceUID,
        SeriesInstanceUID=uid_of(UUID(int=number.int ^ 1)),
        SeriesNumber=1,
        InstanceNumber=1,
        ValueType="CONTAINER",
        ConceptNameCodeSequence=[
            _elements(CodeValue=title, CodingSchemeDesignator="DCM", CodeMeaning=title.meaning)
        ],
        ContinuityOfContent="SEPARATE",
        CurrentRequestedProcedureEvidenceSequence=[_evidence(StudyInstanceUID, instances)],
        ContentTemplateSequence=[_elements(MappingResource="DCMR", TemplateIdentifier=_TEMPLATE)],
        ContentSequence=[_named(each) for each in instances],
    )
    pieces = encode_document(document, {})
    content = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return RejectionNote(SOPInstanceUID=uid, title=title, content=content)


def _evidence(StudyInstanceUID: str, instances: Sequence[Rejected]) -> dict[str, Element]:
    series = [
        _elements(
            SeriesInstanceUID=uid, ReferencedSOPSequence=[_reference(each) for each in members]
        )
        for uid, members in groupby(instances, key=lambda each: each.SeriesInstanceUID)
    ]
    return _elements(StudyInstanceUID=StudyInstanceUID, ReferencedSeriesSequence=series)


def _named(each: Rejected) -> dict[str, Element]:
    """The item of the content that names an instance."""
    known = STORAGE_CLASSES.get(each.SOPClassUID)
    return _elements(
        RelationshipType="CONTAINS",
        ValueType="IMAGE" if known is not None and known.image else "COMPOSITE",
        ReferencedSOPSequence=[_reference(each)],
    )


def _reference(each: Rejected) -> dict[str, Element]:
    return _elements(
        ReferencedSOPClassUID=each.SOPClassUID, ReferencedSOPInstanceUID=each.SOPInstanceUID
    )


def _elements(**values: object) -> dict[str, Element]:
    """Elements by keyword; a list is a sequence."""
    return {
        _tag(keyword): {
            "vr": VRS[KEYWORDS[keyword]],
            "Value": value if isinstance(value, list) else [value],
        }
        for keyword, value in values.items()
    }


def _tag(keyword: str) -> str:
    return f"{KEYWORDS[keyword]:08X}"

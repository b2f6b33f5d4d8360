"""The records of a DICOMDIR (PS3.3 F.5): which type an instance has, and its keys.

The keys are those of PS3.3 and of the general purpose profiles (PS3.11 Tables D.3-2 and H.3-2).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gantry_domain.dictionary import KEYWORDS, VRS
from gantry_domain.sop_classes import STORAGE_CLASSES

Document = Mapping[str, Any]
"""Attributes by tag (8 upper-case hex digits), in the DICOM JSON model (PS3.18 Annex F)."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a type of record: with a value, maybe empty, and only if there is a value."""

    always: tuple[str, ...] = ()
    maybe_empty: tuple[str, ...] = ()
    if_there: tuple[str, ...] = ()


def _keys(always: str = "", maybe_empty: str = "", if_there: str = "") -> Keys:
    return Keys(tuple(always.split()), tuple(maybe_empty.split()), tuple(if_there.split()))


_CONTENT = "InstanceNumber ContentDate ContentTime"
_NAMED_CONTENT = _keys(f"{_CONTENT} ContentLabel", "ContentDescription ContentCreatorName")
_FUNCTIONAL = "ImagePositionPatient ImageOrientationPatient PixelSpacing"
_OF_PICTURES = (
    "ReferencedImageSequence Rows Columns FrameOfReferenceUID SynchronizationFrameOfReferenceUID"
    f" NumberOfFrames AcquisitionTimeSynchronized AcquisitionDateTime {_FUNCTIONAL}"
)

PATIENT, STUDY, SERIES, IMAGE = "PATIENT", "STUDY", "SERIES", "IMAGE"

KEYS: Mapping[str, Keys] = {
    PATIENT: _keys("PatientID", "PatientName", "PatientBirthDate PatientSex"),
    STUDY: _keys(
        "StudyDate StudyTime StudyID StudyInstanceUID", "StudyDescription AccessionNumber"
    ),
    SERIES: _keys(
        "Modality SeriesInstanceUID SeriesNumber",
        "",
        "SeriesDescription InstitutionName InstitutionAddress PerformingPhysicianName",
    ),
    IMAGE: _keys(
        "InstanceNumber",
        "",
        f"ImageType CalibrationImage LossyImageCompressionRatio {_OF_PICTURES}",
    ),
    "RT DOSE": _keys("InstanceNumber DoseSummationType"),
    "RT STRUCTURE SET": _keys(
        "InstanceNumber StructureSetLabel", "StructureSetDate StructureSetTime"
    ),
    "RT PLAN": _keys("InstanceNumber RTPlanLabel", "RTPlanDate RTPlanTime"),
    "RT TREAT RECORD": _keys("InstanceNumber", "TreatmentDate TreatmentTime"),
    "PRESENTATION": _keys(
        "PresentationCreationDate PresentationCreationTime InstanceNumber ContentLabel",
        "ContentDescription ContentCreatorName",
        "ReferencedSeriesSequence BlendingSequence",
    ),
    "WAVEFORM": _keys(_CONTENT),
    "RAW DATA": _keys(_CONTENT),
    "SR DOCUMENT": _keys(
        f"{_CONTENT} CompletionFlag VerificationFlag",
        "",
        "VerificationDateTime ConceptNameCodeSequence",
    ),
    "KEY OBJECT DOC": _keys(_CONTENT, "", "ConceptNameCodeSequence"),
    "SPECTROSCOPY": _keys(
        f"ImageType {_CONTENT} NumberOfFrames Rows Columns DataPointRows DataPointColumns",
        "",
        f"ReferencedImageEvidenceSequence {_OF_PICTURES}",
    ),
    "ENCAP DOC": _keys(
        "InstanceNumber MIMETypeOfEncapsulatedDocument",
        "ContentDate ContentTime DocumentTitle ConceptNameCodeSequence",
        "HL7InstanceIdentifier",
    ),
    "REGISTRATION": _NAMED_CONTENT,
    "FIDUCIAL": _NAMED_CONTENT,
    "VALUE MAP": _NAMED_CONTENT,
    "MEASUREMENT": _NAMED_CONTENT,
    "SURFACE": _NAMED_CONTENT,
    "TRACT": _NAMED_CONTENT,
    "SURFACE SCAN": _keys("ContentDate ContentTime"),
    "STEREOMETRIC": _keys(),
    "ASSESSMENT": _keys("InstanceNumber InstanceCreationDate", "InstanceCreationTime"),
}

# By the name of the SOP class, so that classes that PS3.6 adds find theirs; the first that fits.
_TYPES = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"Key Object Selection", "KEY OBJECT DOC"),
        (r"\bSR\b|Procedure Log|Prescription Report|Volume Report", "SR DOCUMENT"),
        (r"Presentation State|Basic Structured Display", "PRESENTATION"),
        (r"Waveform", "WAVEFORM"),
        (r"RT Dose Storage", "RT DOSE"),
        (r"RT Structure Set", "RT STRUCTURE SET"),
        (r"RT (Ion )?Plan Storage", "RT PLAN"),
        (r"Treatment (Summary )?Record", "RT TREAT RECORD"),
        (r"MR Spectroscopy", "SPECTROSCOPY"),
        (r"Raw Data", "RAW DATA"),
        (r"Encapsulated", "ENCAP DOC"),
        (r"Spatial Registration", "REGISTRATION"),
        (r"Spatial Fiducials", "FIDUCIAL"),
        (r"Real World Value Mapping", "VALUE MAP"),
        (r"Stereometric Relationship", "STEREOMETRIC"),
        (r"Measurements Storage", "MEASUREMENT"),
        (r"Surface Segmentation", "SURFACE"),
        (r"Surface Scan", "SURFACE SCAN"),
        (r"Tractography", "TRACT"),
        (r"Content Assessment", "ASSESSMENT"),
    )
)

# What a record must have and an instance may lack is supplied by whoever makes the file-set
# (PS3.11 D.3.3.1): a value that nobody takes for a finding, by VR.
_SUPPLIED = {"DA": "19000101", "TM": "000000", "IS": 0, "US": 1, "UL": 1, "CS": "UNKNOWN"}
_SUPPLIED_TEXT = "UNKNOWN"

_VERIFICATION = "VerificationDateTime"
_VERIFYING_OBSERVERS = f"{KEYWORDS['VerifyingObserverSequence']:08X}"
_SHARED_FUNCTIONAL_GROUPS = f"{KEYWORDS['SharedFunctionalGroupsSequence']:08X}"


def record_type(SOPClassUID: str) -> str:
    """The type of the record of an instance."""
    known = STORAGE_CLASSES.get(SOPClassUID)
    name = "" if known is None else known.name
    return next((kind for pattern, kind in _TYPES if pattern.search(name)), IMAGE)


def record_keys(kind: str, attributes: Document) -> dict[str, Any]:
    """The keys of a record of this type, from the attributes of an instance."""
    keys = KEYS[kind]
    found: dict[str, Any] = {}
    for keyword in (*keys.always, *keys.maybe_empty, *keys.if_there):
        tag = KEYWORDS[keyword]
        name, vr = f"{tag:08X}", VRS[tag]
        element = attributes.get(name)
        if not has_value(element) and keyword in _FUNCTIONAL:
            element = next(_shared(attributes, name), None)
        elif keyword == _VERIFICATION:
            element = _last_verified(attributes, name)
        if element is not None and has_value(element):
            found[name] = element
        elif keyword in keys.always and vr != "SQ":
            found[name] = {"vr": vr, "Value": [_SUPPLIED.get(vr, _SUPPLIED_TEXT)]}
        elif keyword in keys.maybe_empty:
            found[name] = {"vr": vr}
    return dict(sorted(found.items()))


def has_value(element: Any) -> bool:
    """Whether an element of the JSON model is there and says something."""
    values = element.get("Value", ()) if element else ()
    return any(value not in (None, "") for value in values)


def _last_verified(attributes: Document, name: str) -> Any:
    """When somebody last verified a document (PS3.3 C.17.2)."""
    observers = attributes.get(_VERIFYING_OBSERVERS, {}).get("Value", ())
    moments = [item[name] for item in observers if has_value((item or {}).get(name))]
    return max(moments, key=lambda element: str(element["Value"][0]), default=None)


def _shared(attributes: Document, name: str) -> Iterator[Any]:
    """The attribute in the functional groups that all frames share (PS3.3 C.7.6.16)."""
    for group in attributes.get(_SHARED_FUNCTIONAL_GROUPS, {}).get("Value", ()):
        for element in (group or {}).values():
            for item in element.get("Value", ()):
                if isinstance(item, dict) and has_value(item.get(name)):
                    yield item[name]

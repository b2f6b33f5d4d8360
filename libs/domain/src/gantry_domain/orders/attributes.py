"""The attributes of the worklist: where each belongs, and how it is matched (PS3.4 Table K.6-1).

The schema, the worklist SCP and the mapping of HL7 read it and nothing else.
"""

from collections.abc import Iterator
from enum import Enum

from gantry_domain.attributes import Attribute, Level, Matching
from gantry_domain.dictionary import KEYWORDS

SCHEDULED_PROCEDURE_STEP_SEQUENCE = "00400100"


class Place(Enum):
    """What an attribute is of. Those of a step lie within (0040,0100)."""

    PATIENT = "patient"
    ORDER = "order"
    STEP = "step"


# Matching keys with how they are compared; the level of `Attribute` means nothing here.
_MATCHED: dict[Place, dict[str, Matching]] = {
    Place.PATIENT: {
        "PatientName": Matching.NAME,
        "PatientID": Matching.TEXT,
        "IssuerOfPatientID": Matching.TEXT,
        "PatientBirthDate": Matching.DATE,
        "PatientSex": Matching.TEXT,
    },
    Place.ORDER: {
        "AccessionNumber": Matching.TEXT,
        "ReferringPhysicianName": Matching.NAME,
        "RequestingPhysician": Matching.NAME,
        "RequestingService": Matching.TEXT,
        "AdmissionID": Matching.TEXT,
        "CurrentPatientLocation": Matching.TEXT,
        "PlacerOrderNumberImagingServiceRequest": Matching.TEXT,
        "FillerOrderNumberImagingServiceRequest": Matching.TEXT,
        "RequestedProcedureID": Matching.TEXT,
        "RequestedProcedureDescription": Matching.TEXT,
        "RequestedProcedurePriority": Matching.TEXT,
        "StudyInstanceUID": Matching.UID,
    },
    Place.STEP: {
        "Modality": Matching.TEXT,
        "ScheduledStationAETitle": Matching.SET,
        "ScheduledStationName": Matching.TEXT,
        "ScheduledProcedureStepLocation": Matching.TEXT,
        "ScheduledProcedureStepStartDate": Matching.DATE,
        "ScheduledProcedureStepStartTime": Matching.TIME,
        "ScheduledPerformingPhysicianName": Matching.NAME,
        "ScheduledProcedureStepDescription": Matching.TEXT,
        "ScheduledProcedureStepID": Matching.TEXT,
    },
}
# Those that are only returned.
_RETURNED: dict[Place, tuple[str, ...]] = {
    Place.PATIENT: (
        "PatientMotherBirthName", "PatientAddress", "EthnicGroup", "PatientComments",
        "OtherPatientIDs",
    ),
    Place.ORDER: (
        "PatientWeight", "PatientSize", "MedicalAlerts", "Allergies", "PregnancyStatus",
        "PatientState", "SpecialNeeds", "ConfidentialityConstraintOnPatientDataDescription",
        "RequestedProcedureCodeSequence", "PatientTransportArrangements",
        "ReasonForTheRequestedProcedure", "ReasonForRequestedProcedureCodeSequence",
        "RequestedProcedureComments", "ImagingServiceRequestComments", "AdditionalPatientHistory",
        "NamesOfIntendedRecipientsOfResults", "AdmittingDiagnosesDescription",
    ),
    Place.STEP: (
        "ScheduledProtocolCodeSequence", "RequestedContrastAgent", "PreMedication",
        "CommentsOnTheScheduledProcedureStep",
    ),
}  # fmt: skip

PLACES: dict[str, Place] = {
    keyword: place for place in Place for keyword in (*_MATCHED[place], *_RETURNED[place])
}
"""By keyword."""

MATCHED: dict[Place, tuple[Attribute, ...]] = {
    place: tuple(Attribute(keyword, Level.STUDY, kind) for keyword, kind in found.items())
    for place, found in _MATCHED.items()
}
"""The matching keys of each place."""

STATUS = Attribute("ScheduledProcedureStepStatus", Level.STUDY, Matching.TEXT)
"""(0040,0020): computed from the state of the step."""

MATCHED_BY_TAG: dict[Place, dict[str, Attribute]] = {
    place: {attribute.tag: attribute for attribute in found} for place, found in MATCHED.items()
}


def tag_of(keyword: str) -> str:
    """The tag as in the DICOM JSON model."""
    return f"{KEYWORDS[keyword]:08X}"


def searchable_attributes(place: Place) -> Iterator[Attribute]:
    """Those with a column of text: all but the Study Instance UID and sets."""
    return (
        attribute
        for attribute in MATCHED[place]
        if attribute.matching not in (Matching.UID, Matching.SET)
    )

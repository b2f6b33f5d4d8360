"""Which field of a message feeds which attribute: data, with defaults that installations override.

A path is `SEGMENT-FIELD[.COMPONENT[.SUBCOMPONENT]]`, such as PID-5 or OBR-4.2; of observations
those that have one of some codes: `OBX[29463-7|Body Weight]-5`. The first path with a value counts.
The defaults follow IHE Radiology (RAD TF-2 4.4 and appendix B).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from gantry_domain.dictionary import KEYWORDS
from gantry_domain.errors import ConfigurationError
from gantry_domain.orders.attributes import PLACES, Place

_PATH = re.compile(
    r"([A-Z][A-Z0-9]{2})(?:\[([^\]]+)\])?-([1-9]\d{0,2})(?:\.([1-9]\d?))?(?:\.([1-9]\d?))?"
)


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value is. `codes`: of OBX those alone whose OBX-3 has one of them."""

    segment: str
    field: int
    component: int | None = None
    subcomponent: int | None = None
    codes: tuple[str, ...] = ()


@cache
def parse_path(text: str) -> Path:
    """A path as it is written. Raises `ConfigurationError`."""
    match = _PATH.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(f"{text!r} is no path of HL7: write one such as PID-5 or OBR-4.2")
    return Path(
        segment=match[1],
        field=int(match[3]),
        component=int(match[4]) if match[4] else None,
        subcomponent=int(match[5]) if match[5] else None,
        codes=tuple(code.strip().casefold() for code in match[2].split("|")) if match[2] else (),
    )


Mapped = Mapping[str, tuple[Path, ...]]
"""By keyword, in the order in which they are asked."""

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "PatientName": "PID-5",
        "PatientBirthDate": "PID-7",
        "PatientSex": "PID-8",
        "PatientMotherBirthName": "PID-6",
        "PatientAddress": "PID-11",
        "EthnicGroup": "PID-22.2, PID-22.1",
        "PatientWeight": "OBX[29463-7|3141-9|Body Weight]-5",
        "PatientSize": "OBX[8302-2|3137-7|Body Height]-5",
        "MedicalAlerts": "OBR-13",
        "Allergies": "AL1-3.2, AL1-3.1",
        "PregnancyStatus": "PV1-15",
        "PatientState": "OBR-12",
        "ConfidentialityConstraintOnPatientDataDescription": "ORC-28.2, ORC-28.1, PV1-16",
        "AdmissionID": "PV1-19.1, PID-18.1",
        "CurrentPatientLocation": "PV1-3",
        "ReferringPhysicianName": "PV1-8",
        "AccessionNumber": "IPC-1.1, OBR-18.1",
        "RequestingPhysician": "OBR-16, ORC-12",
        "RequestingService": "ORC-17.2, ORC-17.1",
        "PlacerOrderNumberImagingServiceRequest": "ORC-2.1, OBR-2.1, SCH-26.1, SCH-1.1",
        "FillerOrderNumberImagingServiceRequest": "ORC-3.1, OBR-3.1, SCH-27.1, SCH-2.1",
        "RequestedProcedureID": "IPC-2.1, OBR-19.1",
        "RequestedProcedureDescription": "OBR-44.2, OBR-4.2, AIS-3.2, SCH-7.2",
        "RequestedProcedureCodeSequence": "OBR-44, OBR-4, AIS-3",
        "StudyInstanceUID": "IPC-3.1, ZDS-1.1",
        "RequestedProcedurePriority": "TQ1-9.1, ORC-7.6, OBR-27.6, OBR-5",
        "PatientTransportArrangements": "OBR-30",
        "ReasonForTheRequestedProcedure": "OBR-31.2, OBR-31.1",
        "ReasonForRequestedProcedureCodeSequence": "OBR-31",
        "Modality": "IPC-5.1, OBR-24",
        "ScheduledStationAETitle": "IPC-9",
        "ScheduledStationName": "IPC-7",
        "ScheduledProcedureStepLocation": "IPC-8.1, AIL-3.1",
        # Its time is that of the same path: both are of one time stamp.
        "ScheduledProcedureStepStartDate":
            "TQ1-7, ORC-7.4, OBR-27.4, OBR-36, AIS-4, SCH-11.4, ORC-15, OBR-6",
        "ScheduledPerformingPhysicianName": "OBR-34, AIP-3",
        "ScheduledProcedureStepDescription": "IPC-6.2, OBR-4.5, OBR-44.2, OBR-4.2, AIS-3.2",
        "ScheduledProtocolCodeSequence": "IPC-6, OBR-4.4",
        "ScheduledProcedureStepID": "IPC-4.1, OBR-20.1",
    }
)  # fmt: skip


def order_mapping(overrides: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Mapped:
    """The paths of each attribute: the defaults, and what is written over them.

    Raises `ConfigurationError` for an attribute that the worklist does not have, and for what is
    no path.
    """
    for keyword in overrides:
        if keyword not in PLACES or keyword not in KEYWORDS:
            raise ConfigurationError(f"{keyword} is no attribute that orders have")
    written = {keyword: tuple(paths.split(", ")) for keyword, paths in DEFAULTS.items()}
    chosen = written | {keyword: tuple(paths) for keyword, paths in overrides.items()}
    return {keyword: tuple(map(parse_path, paths)) for keyword, paths in chosen.items()}


def of_place(mapped: Mapped, place: Place) -> Mapped:
    """Those whose attributes belong there."""
    return {keyword: paths for keyword, paths in mapped.items() if PLACES[keyword] is place}

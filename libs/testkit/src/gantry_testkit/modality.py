"""Modalities over real associations: they ask for their worklist, and tell what they perform."""

from collections.abc import Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import build_context
from pynetdicom.association import Association

from gantry_domain.information_models import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_WORKLIST_FIND,
)
from gantry_testkit.orders_door import OrdersDoor, acknowledged
from gantry_testkit.query_scu import answers, associated

MPPS, WORKLIST = MODALITY_PERFORMED_PROCEDURE_STEP, MODALITY_WORKLIST_FIND
CONTEXTS = [build_context(WORKLIST), build_context(MPPS)]


def tell(door: OrdersDoor, *messages: bytes) -> None:
    """Send messages, each with a number of its own, which are accepted."""
    numbered = [message.replace(b"|1|P|", f"|{generate_uid()}|P|".encode()) for message in messages]
    assert acknowledged(door.hl7, *numbered) == ["AA"] * len(messages)


def question(step: dict[str, Any] | None = None, **keys: Any) -> Dataset:
    """A query with what a modality asks for (PS3.2 Table B.4.2-24), and these keys."""
    ds = Dataset()
    for keyword in (
        "AccessionNumber PatientName PatientID PatientBirthDate PatientSex PatientWeight"
        " MedicalAlerts PregnancyStatus CurrentPatientLocation RequestedProcedureID"
        " RequestedProcedureDescription StudyInstanceUID RequestedProcedurePriority"
        " ReferringPhysicianName PatientTransportArrangements"
    ).split():
        setattr(ds, keyword, keys.pop(keyword, None))
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    item = Dataset()
    for keyword in (
        "ScheduledStationAETitle ScheduledProcedureStepStartDate Modality"
        " ScheduledProcedureStepStartTime ScheduledProcedureStepDescription"
        " ScheduledProcedureStepID ScheduledProcedureStepStatus ScheduledProcedureStepLocation"
    ).split():
        setattr(item, keyword, (step or {}).get(keyword))
    code = Dataset()
    code.CodeValue = code.CodingSchemeDesignator = code.CodeMeaning = None
    item.ScheduledProtocolCodeSequence = [code]
    ds.ScheduledProcedureStepSequence = [item]
    return ds


def asked(door: OrdersDoor, ds: Dataset, calling: str = "CT01") -> tuple[list[int], list[Dataset]]:
    """The statuses of the answers, and the matches."""
    with associated(door.dimse, calling=calling, contexts=CONTEXTS) as assoc:
        statuses, found = answers(assoc, ds, WORKLIST)
    return [status.Status for status in statuses], found


def accessions(door: OrdersDoor, ds: Dataset, calling: str = "CT01") -> list[str]:
    """The accession numbers of the matches, in their order."""
    statuses, found = asked(door, ds, calling)
    assert statuses[-1] == 0, statuses
    return [match.AccessionNumber for match in found]


def begun(door: OrdersDoor, accession: str) -> Dataset:
    """What a modality tells when it begins with a step of the worklist."""
    _, (match,) = asked(door, question({}, AccessionNumber=accession))
    (step,) = match.ScheduledProcedureStepSequence
    item = Dataset()
    item.StudyInstanceUID = match.StudyInstanceUID
    item.AccessionNumber = match.AccessionNumber
    item.RequestedProcedureID = match.RequestedProcedureID
    item.ScheduledProcedureStepID = step.ScheduledProcedureStepID
    item.ReferencedStudySequence = []
    ds = Dataset()
    ds.ScheduledStepAttributesSequence = [item]
    ds.PatientName = match.PatientName
    ds.PatientID = match.PatientID
    ds.PerformedProcedureStepID = "PPS1"
    ds.PerformedStationAETitle = "CT01"
    ds.PerformedProcedureStepStartDate = "20261121"
    ds.PerformedProcedureStepStartTime = "0830"
    ds.PerformedProcedureStepStatus = "IN PROGRESS"
    ds.Modality = "CT"
    return ds


def ended(state: str, uids: Sequence[str] = (), reason: tuple[str, str] | None = None) -> Dataset:
    """What it tells in the end, or in between: its state, and the images that it made."""
    ds = Dataset()
    ds.PerformedProcedureStepStatus = state
    ds.PerformedProcedureStepEndDate = "20261121"
    series = Dataset()
    series.SeriesInstanceUID = generate_uid()
    series.ReferencedImageSequence = []
    for uid in uids:
        image = Dataset()
        image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        image.ReferencedSOPInstanceUID = uid
        series.ReferencedImageSequence.append(image)
    ds.PerformedSeriesSequence = [series]
    if reason:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = reason
        code.CodeMeaning = "why"
        ds.PerformedProcedureStepDiscontinuationReasonCodeSequence = [code]
    return ds


class Modality:
    """Tells what it performs."""

    def __init__(self, assoc: Association, commands: list[Dataset]) -> None:
        self._assoc = assoc
        self.commands = commands
        """The command sets that it was answered with."""

    def create(self, ds: Dataset, uid: str | None) -> Dataset:
        """The answer to an N-CREATE."""
        status: Dataset = self._assoc.send_n_create(ds, MPPS, uid)[0]
        return status

    def set(self, ds: Dataset, uid: str) -> Dataset:
        """The answer to an N-SET."""
        status: Dataset = self._assoc.send_n_set(ds, MPPS, uid)[0]
        return status


def unscheduled(study: str | None = None) -> Dataset:
    """What it tells when it begins with something of which no worklist told it."""
    ds = Dataset()
    item = Dataset()
    item.StudyInstanceUID = study or generate_uid()
    item.AccessionNumber = None
    ds.ScheduledStepAttributesSequence = [item]
    ds.PerformedProcedureStepStatus = "IN PROGRESS"
    ds.PerformedProcedureStepID = "U1"
    return ds

"""Rejection notes: before new values, and when a study is refused, to who understands them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from gantry_archive.deciding import Decider
from gantry_archive.rejecting import Rejecting
from gantry_domain.decisions import DecisionKind
from gantry_domain.deliveries import DeliveryState
from gantry_domain.rejection_notes import KEY_OBJECT_SELECTION, RejectionTitle
from gantry_testkit.correcting_site import EXPLICIT, IMPLICIT, RIGHT, Site, read
from gantry_testkit.forwarding import AnsweringScp
from gantry_testkit.stored import CT_IMAGE, NO_POLICIES, new_uid, rows

TITLES = {"PEER": RejectionTitle.EXPIRED}


class Reader:
    """A destination that takes notes, or fails at them for now."""

    def __init__(self) -> None:
        self.fails = 0
        syntaxes = [EXPLICIT, IMPLICIT]
        self.scp = AnsweringScp(self._answer, {CT_IMAGE: syntaxes, KEY_OBJECT_SELECTION: syntaxes})

    def _answer(self, event: object) -> int:
        is_note = getattr(event, "request").AffectedSOPClassUID == KEY_OBJECT_SELECTION  # noqa: B009
        if is_note and self.fails:
            self.fails -= 1
            return 0xA700
        return 0

    def taken(self) -> list[Dataset]:
        """What came since the last look."""
        found = [read(content, syntax) for _, syntax, content in self.scp.received]
        self.scp.received.clear()
        return found


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.scp.close()


def decider(site: Site) -> Decider:
    return Decider(
        store=site.archive.store,
        engine=site.engine,
        policies=NO_POLICIES,
        feed=None,
        rejecting=Rejecting(TITLES),
    )


def correct(site: Site, study: str, **values: str) -> None:
    decider(site).decide(
        site.find(study), DecisionKind.CORRECT, corrected=values, by="Dr Ho", reason="mistyped"
    )


def referenced(note: Dataset) -> set[str]:
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in note.ContentSequence
    }
    (evidence,) = note.CurrentRequestedProcedureEvidenceSequence
    (series,) = evidence.ReferencedSeriesSequence
    assert {each.ReferencedSOPInstanceUID for each in series.ReferencedSOPSequence} == named
    return named


def check(note: Dataset, code: str, study: str) -> None:
    assert note.SOPClassUID == KEY_OBJECT_SELECTION
    (title,) = note.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == (code, "DCM")
    assert note.StudyInstanceUID == study
    assert note.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID == study


def test_the_old_values_are_rejected_before_the_new_ones_come(site: Site, reader: Reader) -> None:
    study = site.images()
    site.archive.push(study)
    site.archive.send(reader.scp.port)
    had = {ds.SOPInstanceUID for ds in reader.taken()}
    correct(site, study, **RIGHT)
    # While the note does not arrive nothing new goes out, for it would be rejected by it.
    reader.fails = 1
    assert site.archive.send(reader.scp.port).settlement.state is DeliveryState.FAILED
    assert [ds.SOPClassUID for ds in reader.taken()] == [KEY_OBJECT_SELECTION]
    correct(site, study, StudyID="7")
    site.archive.due_now()
    assert site.archive.send(reader.scp.port).settlement.state is DeliveryState.DELIVERED
    note, *images = reader.taken()
    check(note, "113039", study)
    assert referenced(note) == had
    # It is of the patient that they have it under.
    assert (note.PatientID, note.PatientName) == ("P9", "CHAN^MAN")
    assert {ds.SOPInstanceUID for ds in images} == had
    assert {(ds.PatientID, ds.StudyID) for ds in images} == {("A1234563", "7")}
    decider(site).undo_last(site.find(study), by="Dr Ho", reason="it was right")
    site.archive.send(reader.scp.port)
    note, *images = reader.taken()
    assert (note.PatientID, note.StudyID) == ("A1234563", "7")
    assert len(images) == 2


def test_moved_series_are_rejected_in_the_study_that_they_were_in(
    site: Site, reader: Reader
) -> None:
    study, series, target = new_uid(), new_uid(), new_uid()
    site.image(study, new_uid(), 1)
    site.image(study, series, 2)
    site.archive.push(study)
    site.archive.send(reader.scp.port)
    reader.taken()
    decider(site).move(
        site.find(study), series=[series], to=target, new=True, by="Dr Ho", reason="mixed up"
    )
    site.archive.send(reader.scp.port)
    note, moved = reader.taken()
    check(note, "113039", study)
    assert referenced(note) == {moved.SOPInstanceUID}
    assert moved.StudyInstanceUID == target


def test_who_has_a_study_is_told_that_it_is_refused_and_gets_it_again_when_it_is_not(
    site: Site, reader: Reader
) -> None:
    study, untold = site.images(), site.images()
    for uid in (study, untold):
        site.archive.push(uid)
        site.archive.send(reader.scp.port)
    site.archive.push(study, "OTHER")
    site.archive.send(reader.scp.port, to="OTHER")
    had = {ds.SOPInstanceUID for ds in reader.taken() if ds.StudyInstanceUID == study}
    for uid in (study, untold):
        decider(site).decide(site.find(uid), DecisionKind.REFUSE, by="Dr Ho", reason="of nobody")
    assert site.archive.claim("OTHER") is None  # who does not understand notes gets none
    assert site.archive.send(reader.scp.port).settlement.state is DeliveryState.DELIVERED
    (note,) = reader.taken()
    check(note, "113037", study)
    assert referenced(note) == had
    # What was not told yet when it is undone is never told.
    decider(site).undo_last(site.find(untold), by="Dr Ho", reason="it is of somebody")
    assert site.archive.claim() is None
    decider(site).undo_last(site.find(study), by="Dr Ho", reason="it is of somebody")
    site.archive.send(reader.scp.port)
    assert {ds.SOPInstanceUID for ds in reader.taken()} == had
    assert site.archive.claim() is None


def test_a_note_that_is_refused_is_told_to_people_and_the_new_values_go_all_the_same(
    site: Site,
) -> None:
    study = site.images(1)
    site.archive.push(study)
    site.archive.send(site.peer.port)  # which knows nothing of such documents
    site.peer.received.clear()
    correct(site, study, **RIGHT)
    done = site.archive.send(site.peer.port)
    assert done.settlement.state is DeliveryState.DEAD
    assert done.settlement.reason == "1 of 2 refused"
    ((_, syntax, content),) = site.peer.received
    assert read(content, syntax).PatientID == "A1234563"
    sql = "SELECT n.state, n.reason FROM rejection_note n JOIN delivery d ON d.pk = n.delivery_pk"
    state, reason = rows(site.engine, f"{sql} WHERE d.study_instance_uid = :s", s=study)[0]
    assert (state, KEY_OBJECT_SELECTION in reason) == ("refused", True)


def test_dciodvfy_finds_no_error_in_a_note(site: Site, reader: Reader, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (package dicom3tools)")
    study = site.images(3, PatientName="CHAN^TAI MAN=陳^大文", ReferringPhysicianName="WONG")
    site.archive.push(study)
    site.archive.send(reader.scp.port)
    correct(site, study, PatientID="A1234563")
    reader.scp.received.clear()
    site.archive.send(reader.scp.port)
    file = tmp_path / "note.dcm"
    file.write_bytes(reader.scp.received[0][2])
    done = subprocess.run(
        ["dciodvfy", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    said = done.stderr.splitlines()
    assert "KeyObjectSelectionDocument" in said
    assert [line for line in said if line.startswith("Error")] == []

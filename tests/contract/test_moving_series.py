"""Series that people move to other studies: there on every way out, undone, and after a reindex."""

import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pynetdicom import build_context, build_role, evt

from gantry_archive.deciding import NotDecided
from gantry_archive.deleting import Subject, delete_subject
from gantry_archive.judging import judge_studies
from gantry_archive.reindex import reindex
from gantry_domain.deliveries import DeliveryState
from gantry_domain.information_models import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from gantry_domain.policies.findings import Action
from gantry_domain.policies.rules import PolicySet
from gantry_domain.policies.study_rules import StudyConsistency
from gantry_domain.sight import Sight
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_testkit.correcting_site import EXPLICIT, IMPLICIT, Site, read
from gantry_testkit.query_scu import Retrieved, associated, identifier
from gantry_testkit.stored import CT_IMAGE, NO_POLICIES, new_uid, rows, snapshot

CONSISTENT = PolicySet.of([StudyConsistency(Action.HOLD)])
WHOSE = {"PatientID": "P8", "PatientName": "LEE^SIU=李^小", "AccessionNumber": "B7", "StudyID": "8"}
"""Of the study that the series belong to."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """A study that has a series of another one, and that one."""

    study: str
    own: str
    strange: str
    other: str


def mixed(site: Site, *, strange: int = 2, there: bool = True, **values: Any) -> Mixed:
    found = Mixed(new_uid(), new_uid(), new_uid(), new_uid())
    site.image(found.study, found.own, 1)
    for number in range(strange):
        site.image(found.study, found.strange, number, **values)
    if there:
        site.image(found.other, new_uid(), 1, **WHOSE)
    return found


def uids_in(site: Site, study: str) -> set[str]:
    sql = (
        "SELECT s.series_instance_uid FROM series s JOIN study t ON t.pk = s.study_pk"
        " WHERE t.study_instance_uid = :study"
    )
    return {uid for (uid,) in rows(site.engine, sql, study=study)}


def check(ds: Dataset, found: Mixed) -> None:
    """It is of the other study, and tells where it was."""
    assert ds.StudyInstanceUID == found.other
    assert ds.SeriesInstanceUID == found.strange
    assert (ds.PatientID, str(ds.PatientName)) == ("P8", WHOSE["PatientName"])
    assert (ds.AccessionNumber, ds.StudyID) == ("B7", "8")
    (told,) = ds.OriginalAttributesSequence
    (before,) = told.ModifiedAttributesSequence
    assert before.StudyInstanceUID == found.study
    assert (before.PatientID, before.PatientName) == ("P9", "CHAN^MAN")
    assert "StudyDate" not in before  # it was the same


def test_over_the_web(site: Site) -> None:
    found = mixed(site)
    stored = site.held_by(found.study)
    with (
        site.serve(site.engine, site.archive.store) as base,
        httpx.Client(base_url=base, timeout=60) as client,
    ):
        site.move(found.study, [found.strange], found.other)
        (of_study,) = client.get("/studies", params={"StudyInstanceUID": found.other}).json()
        assert of_study["00201206"]["Value"] == [2]
        assert of_study["00201208"]["Value"] == [3]
        series = client.get(f"/studies/{found.study}/series").json()
        assert [each["0020000E"]["Value"] for each in series] == [[found.own]]
        path = f"/studies/{found.other}/series/{found.strange}"
        metadata = client.get(f"{path}/metadata").json()
        assert len(metadata) == 2
        for each in metadata:
            check(Dataset.from_json(each), found)
        for each in client.get(f"{path}/instances", params={"includefield": "all"}).json():
            assert each["0020000D"]["Value"] == [found.other]
        uid = metadata[0]["00080018"]["Value"][0]
        one = {"Accept": "application/dicom; transfer-syntax=*"}
        got = client.get(f"{path}/instances/{uid}", headers=one)
        check(pydicom.dcmread(io.BytesIO(got.content)), found)
        former = f"/studies/{found.study}/series/{found.strange}/instances/{uid}"
        assert client.get(former, headers=one).status_code == 404
        frames = {"Accept": 'multipart/related; type="application/octet-stream"'}
        pixels = client.get(f"{path}/instances/{uid}/frames/1", headers=frames)
        assert pydicom.dcmread(io.BytesIO(got.content)).PixelData in pixels.content
        rendered = client.get(f"{path}/instances/{uid}/rendered", headers={"Accept": "image/png"})
        assert rendered.status_code == 200
        whole = client.get(
            f"/studies/{found.other}",
            headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
        )
        assert whole.content.count("李^小".encode()) == 3
    site.undo(found.other)
    assert site.held_by(found.study) == stored


def test_over_dimse(site: Site) -> None:
    found = mixed(site, SpecificCharacterSet="ISO_IR 100", StudyDescription="Schädel")
    site.move(found.study, [found.strange], found.other)
    with associated(site.server.address, contexts=[build_context(STUDY_ROOT_FIND)]) as assoc:
        for study, number in ((found.other, 2), (found.study, 0)):
            asked = identifier(
                "IMAGE", StudyInstanceUID=study, SeriesInstanceUID=found.strange, SOPInstanceUID=""
            )
            answers = [each for _, each in assoc.send_c_find(asked, STUDY_ROOT_FIND) if each]
            assert len(answers) == number
    taken: list[tuple[str, bytes]] = []

    def take(event: evt.Event) -> int:
        syntax = str(event.context.transfer_syntax)
        taken.append((syntax, event.encoded_dataset(include_meta=False)))
        return 0

    whole = identifier("SERIES", StudyInstanceUID=found.other, SeriesInstanceUID=found.strange)
    for syntax in (EXPLICIT, IMPLICIT):
        with associated(
            site.server.address,
            contexts=[build_context(STUDY_ROOT_GET), build_context(CT_IMAGE, [syntax])],
            ext_neg=[build_role(CT_IMAGE, scp_role=True)],
            handlers=[(evt.EVT_C_STORE, take)],
        ) as assoc:
            assert Retrieved(list(assoc.send_c_get(whole, STUDY_ROOT_GET))).status == 0
    assert [syntax for syntax, _ in taken] == [EXPLICIT, EXPLICIT, IMPLICIT, IMPLICIT]
    for syntax, encoded in taken:
        check(read(encoded, syntax), found)
    site.peer.received.clear()
    with associated(site.server.address, contexts=[build_context(STUDY_ROOT_MOVE)]) as assoc:
        assert Retrieved(list(assoc.send_c_move(whole, "PEER", STUDY_ROOT_MOVE))).status == 0
    assert len(site.peer.received) == 2
    for _, syntax, encoded in site.peer.received:
        check(read(encoded, syntax), found)


def test_who_has_the_series_gets_it_as_what_it_is_now_and_the_sender_nothing(site: Site) -> None:
    found = mixed(site)
    site.archive.push(found.study)
    site.archive.send(site.peer.port)
    site.archive.push(found.study, "CT01")  # who sent it to us
    site.archive.send(site.peer.port, to="CT01")
    still = site.archive.push(found.strange, "LATER")
    site.peer.received.clear()
    site.move(found.study, [found.strange], found.other)
    assert site.archive.claim("CT01") is None
    # What nobody had of it yet does not go out as part of a study that it is no part of.
    assert site.archive.line(still).state is DeliveryState.CANCELLED
    assert site.archive.send(site.peer.port).settlement.state is DeliveryState.DELIVERED
    assert site.archive.claim() is None
    assert len(site.peer.received) == 2
    for _, syntax, encoded in site.peer.received:
        check(read(encoded, syntax), found)
    site.peer.received.clear()
    site.undo(found.other)
    site.archive.send(site.peer.port)
    assert {read(each).StudyInstanceUID for _, _, each in site.peer.received} == {found.study}
    assert len(site.peer.received) == 2


def test_late_images_follow_and_so_do_corrections(site: Site) -> None:
    found = mixed(site)
    site.correct(found.other, PatientSex="F")
    site.move(found.study, [found.strange], found.other)
    site.image(found.study, found.strange, 7)
    site.correct(found.other, StudyID="9", PatientName="LEE^TAI")
    site.image(found.study, found.strange, 8)
    assert uids_in(site, found.study) == {found.own}
    sql = (
        "SELECT number_of_study_related_instances, patient_id, patient_sex, study_id, patient_name"
        " FROM study WHERE study_instance_uid = :study"
    )
    assert rows(site.engine, sql, study=found.other) == [(5, "P8", "F", "9", "lee^tai")]
    with pytest.raises(NotDecided, match="undo that first"):
        site.undo(found.study)
    with site.serve(site.engine, site.archive.store) as base:
        path = f"{base}/studies/{found.other}/series/{found.strange}/metadata"
        for each in httpx.get(path, timeout=60).json():
            ds = Dataset.from_json(each)
            assert (ds.StudyInstanceUID, ds.StudyID) == (found.other, "9")
            _, corrected = ds.OriginalAttributesSequence
            assert corrected.ModifiedAttributesSequence[0].dir() == ["PatientName", "StudyID"]
    site.undo(found.other)
    site.undo(found.study)  # the move is one of the study that gave the series, too
    assert uids_in(site, found.study) == {found.own, found.strange}
    assert rows(site.engine, sql, study=found.study)[0][:2] == (5, "P9")
    # As a move that was made out of that study on.
    site.move(found.study, [found.strange], found.other)
    third = new_uid()
    site.move(found.other, [found.strange], third, new=True)
    site.image(found.study, found.strange, 9)
    assert rows(site.engine, sql, study=third)[0][:2] == (5, "P8")
    with pytest.raises(NotDecided, match="undo that first"):
        site.undo(found.study)
    site.undo(third)
    assert rows(site.engine, sql, study=third) == []
    assert rows(site.engine, sql, study=found.other)[0][0] == 6


def test_both_studies_are_judged_anew_and_seen_as_before_when_it_is_undone(site: Site) -> None:
    found = mixed(site, there=False, PatientID="P7", PatientName="WONG")
    rows(site.engine, "UPDATE study SET judged_by = NULL, visible = false RETURNING 1")
    judge_studies(site.engine, CONSISTENT)
    rows(
        site.engine,
        "UPDATE study SET visible = false WHERE study_instance_uid = :s RETURNING 1",
        s=found.study,
    )
    before = snapshot(site.engine)
    assert str(site.find(found.study).verdict) == "held"
    site.move(found.study, [found.strange], found.other, CONSISTENT, new=True)
    for study in (found.study, found.other):
        assert str(site.find(study).verdict) == "accepted"
        assert site.find(study).visible
    assert site.find(found.other).evidence.PatientID == "P7"  # nobody said that it is another
    site.undo(found.other, CONSISTENT)
    after = snapshot(site.engine)
    for table, content in before.items():
        if table != "study_finding":
            assert after[table] == content, table
    assert str(site.find(found.study).verdict) == "held"


def test_what_makes_no_sense_is_refused(site: Site) -> None:
    found = mixed(site)
    before = snapshot(site.engine)
    for series, to, new, said in (
        ([found.strange], new_uid(), False, "no study with this UID"),
        ([found.strange], found.other, True, "is there already"),
        ([found.strange], found.study, False, "another study"),
        ([found.strange], "no uid", True, "another study"),
        ([], found.other, False, "at least one"),
        ([new_uid()], found.other, False, "no such series"),
    ):
        with pytest.raises(NotDecided, match=said):
            site.move(found.study, series, to, new=new)
    assert snapshot(site.engine) == before


STEPS = st.lists(
    st.sampled_from(["all", "strange", "new", "back", "correct"]), min_size=1, max_size=4
)


@given(STEPS)
@settings(max_examples=6, deadline=None)
def test_undone_one_by_one_each_answer_is_the_former_one(site: Site, steps: list[str]) -> None:
    found = mixed(site)
    answers = [snapshot(site.engine)]
    decided: list[str] = []
    for step in steps:
        there = uids_in(site, found.study)
        match step:
            case "all" if there:
                decided.append(found.other)
                site.move(found.study, there, found.other)
            case "strange" if found.strange in there:
                decided.append(found.other)
                site.move(found.study, [found.strange], found.other)
            case "new" if there:
                decided.append(new_uid())
                site.move(found.study, [max(there)], decided[-1], new=True)
            case "back" if there and found.strange in uids_in(site, found.other):
                decided.append(found.study)
                site.move(found.other, [found.strange], found.study)
            case "correct":
                decided.append(found.other)
                site.correct(found.other, StudyID=str(len(decided)))
            case _:
                continue
        answers.append(snapshot(site.engine))
    for study, answer in zip(reversed(decided), reversed(answers[:-1]), strict=True):
        site.undo(study)
        now = snapshot(site.engine)
        assert {table for table in answer if now[table] != answer[table]} == set()


def test_a_reindex_moves_too(site: Site, empty_database_url: str) -> None:
    found, undone, gone = mixed(site), mixed(site), mixed(site)
    site.move(found.study, [found.strange], found.other)
    site.image(found.study, found.strange, 5)
    site.correct(found.other, PatientSex="M")
    site.move(undone.study, [undone.strange], undone.other)
    site.image(undone.study, undone.strange, 5)
    site.undo(undone.other)
    site.move(gone.study, [gone.own, gone.strange], gone.other)
    subject = Subject(
        sight=Sight("main"),
        StudyInstanceUID=gone.other,
        SeriesInstanceUID=gone.strange,
        SOPInstanceUID=None,
        by="Dr Ho",
    )
    assert delete_subject(site.archive.store, site.engine, subject) == 2
    rows(site.engine, "UPDATE study SET judged_by = NULL, visible = false RETURNING 1")
    judge_studies(site.engine, NO_POLICIES)
    migrations.upgrade(empty_database_url)
    anew = make_engine(empty_database_url)
    reindex(site.archive.store, anew, policies=NO_POLICIES)
    one, other = snapshot(site.engine), snapshot(anew)
    for table, content in one.items():
        assert content == other[table], table
    for table in ("sent_header", "moved_object"):
        sql = f"SELECT * FROM {table} ORDER BY 1"
        assert rows(anew, sql) == rows(site.engine, sql)
    sql = "SELECT id, study_instance_uid, from_uid, undoing_id FROM decision ORDER BY id"
    assert rows(anew, sql) == rows(site.engine, sql)
    anew.dispose()


def test_over_http_by_who_may_decide(site: Site) -> None:
    found = mixed(site)
    with site.who_decides() as client:
        asked = {"kind": "move", "reason": "mixed up", "series": [found.strange], "new": True}
        path = f"/held/{found.study}"
        done = client.post(f"{path}/decisions", json=asked).json()
        assert done["verdict"] == "accepted"
        made = done["StudyInstanceUID"]
        (line,) = client.get(path).json()["decisions"]
        assert (line["by"], line["from"], line["to"]) == ("dr-ho", found.study, made)
        assert line["series"] == [found.strange]
        assert client.post(f"{path}/decisions", json=asked).status_code == 409
        undo = {"kind": "undo", "reason": "it was right"}
        done = client.post(f"/held/{made}/decisions", json=undo).json()
        assert done == {"StudyInstanceUID": made, "verdict": None, "visible": False}
        assert client.get(f"/held/{made}").status_code == 404


def test_dciodvfy_finds_no_new_error_and_what_names_the_order_is_gone(
    site: Site, tmp_path: Path
) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (package dicom3tools)")
    order = Dataset()
    order.RequestedProcedureID = "R1"
    order.ScheduledProcedureStepID = "S1"
    found = mixed(site, strange=1, RequestAttributesSequence=[order])
    path = f"/studies/{{}}/series/{found.strange}"
    sent = []
    with site.serve(site.engine, site.archive.store) as base:
        for study in (found.study, found.other):
            (each,) = httpx.get(f"{base}{path.format(study)}/instances", timeout=60).json()
            accept = {"Accept": "application/dicom; transfer-syntax=*"}
            uid = each["00080018"]["Value"][0]
            sent.append(
                httpx.get(
                    f"{base}{path.format(study)}/instances/{uid}", headers=accept, timeout=60
                ).content
            )
            if study == found.study:
                site.move(found.study, [found.strange], found.other)
    moved = pydicom.dcmread(io.BytesIO(sent[1]))
    check(moved, found)
    assert "RequestAttributesSequence" not in moved
    before = moved.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert before.RequestAttributesSequence[0].RequestedProcedureID == "R1"
    said = []
    for number, content in enumerate(sent):
        file = tmp_path / f"{number}.dcm"
        file.write_bytes(content)
        done = subprocess.run(
            ["dciodvfy", str(file)], capture_output=True, text=True, check=False, timeout=60
        )
        said.append({line for line in done.stderr.splitlines() if line.startswith("Error")})
    assert said[1] <= said[0]

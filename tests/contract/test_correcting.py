"""What people correct goes out corrected through every door, and what is stored stays as it is."""

import hashlib
import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pynetdicom import build_context, build_role, evt
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider, NotDecided
from gantry_archive.deleting import Subject, delete_subject
from gantry_archive.judging import judge_studies
from gantry_archive.reindex import reindex
from gantry_dimse.server import DimseServer
from gantry_domain.decisions import DecisionKind
from gantry_domain.deliveries import DeliveryState
from gantry_domain.information_models import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from gantry_domain.policies.findings import Action
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.rules import PolicySet
from gantry_domain.sight import Sight
from gantry_query.access import Client, Right, TokenAccess
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.delivery_leases import LeaseLost, pending_items
from gantry_stores.index.judged_studies import JudgedStudy, find_judged
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.query_scu import Retrieved, associated, identifier
from gantry_testkit.stored import CT_IMAGE, image, new_uid, rows, snapshot, stage

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
RIGHT = {"PatientID": "A1234563", "PatientName": "CHAN^TAI MAN=陳^大文", "PatientBirthDate": ""}
NO_RULES = PolicySet.of(())
IDENTITY = PolicySet.of([PatientIdentity(Action.HOLD)])


@dataclass(frozen=True, slots=True)
class Site:
    """An archive, what of it is asked over DIMSE, and where it sends to."""

    archive: ForwardingArchive
    server: DimseServer
    peer: AnsweringScp
    serve: Callable[..., AbstractContextManager[str]]

    @property
    def engine(self) -> Engine:
        return self.archive.engine

    def decider(self, policies: PolicySet = NO_RULES) -> Decider:
        return Decider(store=self.archive.store, engine=self.engine, policies=policies, feed=None)

    def find(self, study: str) -> JudgedStudy:
        with transaction(self.engine) as connection:
            (found,) = find_judged(connection, study)
        return found

    def correct(self, study: str, policies: PolicySet = NO_RULES, **values: str) -> None:
        self.decider(policies).decide(
            self.find(study), DecisionKind.CORRECT, corrected=values, by="Dr Ho", reason="mistyped"
        )

    def undo(self, study: str, policies: PolicySet = NO_RULES) -> None:
        self.decider(policies).undo_last(self.find(study), by="Dr Ho", reason="it was right")

    def images(self, count: int = 2, **values: Any) -> str:
        study, series = new_uid(), new_uid()
        for number in range(count):
            self.image(study, series, number, **values)
        return study

    def image(self, study: str, series: str, number: int = 1, **values: Any) -> None:
        ds = image(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            InstanceNumber=str(number),
            **{"PatientID": "P9", "PatientName": "CHAN^MAN", "PatientBirthDate": "19700102"}
            | values,
        )
        self.archive.index(stage(self.archive.store, ds))

    def held_by(self, study: str) -> list[str]:
        """The hashes of what is stored of a study."""
        found = rows(self.engine, "SELECT id FROM object WHERE study_instance_uid = :s", s=study)
        ids = {str(row[0]) for row in found}
        store = self.archive.store
        return sorted(
            hashlib.sha256(store.read(stat.key)).hexdigest()
            for stat in store.list("objects/")
            if Path(stat.key).stem in ids
        )


@pytest.fixture(scope="module")
def site(
    module_engine: Engine,
    serve: Callable[..., AbstractContextManager[str]],
    serve_find: Callable[..., AbstractContextManager[DimseServer]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    store = DirectoryStore(tmp_path_factory.mktemp("objects"))
    peer = AnsweringScp(lambda _event: 0, {CT_IMAGE: [EXPLICIT, IMPLICIT]})
    configuration = f"""
partners:
  - {{ae_title: PEER, address: "127.0.0.1:{peer.port}"}}
  - {{ae_title: WS1}}
"""
    with serve_find(module_engine, configuration, store) as server:
        yield Site(ForwardingArchive(module_engine, store), server, peer, serve)
    peer.close()


def check(ds: Dataset, *, steps: int = 1, text: str = RIGHT["PatientName"]) -> None:
    """It has the new values, and tells of the old ones."""
    assert (ds.PatientID, str(ds.PatientName), ds.PatientBirthDate) == ("A1234563", text, "")
    assert len(ds.OriginalAttributesSequence) == steps
    item = ds.OriginalAttributesSequence[0]
    assert item.ReasonForTheAttributeModification == "CORRECT"
    assert item.ModifyingSystem == "Gantry"
    (before,) = item.ModifiedAttributesSequence
    assert (before.PatientID, before.PatientName) == ("P9", "CHAN^MAN")
    assert before.PatientBirthDate == "19700102"
    assert len(ds.PixelData) == 512


def read(encoded: bytes, syntax: str = EXPLICIT) -> Dataset:
    """A data set with or without file meta information."""
    if encoded[128:132] == b"DICM":
        return pydicom.dcmread(io.BytesIO(encoded))
    return pydicom.filereader.read_dataset(
        io.BytesIO(encoded), syntax == IMPLICIT, is_little_endian=True
    )


def test_over_the_web(site: Site) -> None:
    study, other = site.images(), site.images()
    stored = site.held_by(study)
    with (
        site.serve(site.engine, site.archive.store) as base,
        httpx.Client(base_url=base, timeout=60) as client,
    ):
        metadata = client.get(f"/studies/{study}/metadata")
        (series,) = {each["0020000E"]["Value"][0] for each in metadata.json()}
        uid = metadata.json()[0]["00080018"]["Value"][0]
        path = f"/studies/{study}/series/{series}/instances/{uid}"
        one = {"Accept": "application/dicom; transfer-syntax=*"}
        before = client.get(path, headers=one)
        site.correct(study, **RIGHT)

        again = client.get(
            f"/studies/{study}/metadata", headers={"If-None-Match": metadata.headers["ETag"]}
        )
        assert again.status_code == 200
        for each in again.json():
            assert each["00100020"]["Value"] == ["A1234563"]
            assert each["00100010"]["Value"][0]["Ideographic"] == "陳^大文"
            (item,) = each["04000561"]["Value"]
            assert item["04000550"]["Value"][0]["00100020"]["Value"] == ["P9"]
        found = client.get("/studies", params={"PatientID": "A1234563"}).json()
        assert [each["0020000D"]["Value"] for each in found] == [[study]]
        found = client.get("/studies", params={"PatientName": "陳*"}).json()
        assert [each["0020000D"]["Value"] for each in found] == [[study]]
        found = client.get("/studies", params={"PatientID": "P9"}).json()
        assert [each["0020000D"]["Value"] for each in found] == [[other]]

        got = client.get(path, headers={**one, "If-None-Match": before.headers["ETag"]})
        assert got.status_code == 200
        assert int(got.headers["Content-Length"]) == len(got.content)
        check(pydicom.dcmread(io.BytesIO(got.content)))
        parts = client.get(
            f"/studies/{study}",
            headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
        )
        assert parts.content.count("陳^大文".encode()) == 2
        site.undo(study)
        assert client.get(path, headers=one).content == before.content
        assert client.get(path, headers=one).headers["ETag"] == before.headers["ETag"]
    assert site.held_by(study) == stored


def test_over_dimse(site: Site) -> None:
    study = site.images(StudyDescription="Schädel", SpecificCharacterSet="ISO_IR 100")
    stored = site.held_by(study)
    site.correct(study, **RIGHT)
    with associated(site.server.address, contexts=[build_context(STUDY_ROOT_FIND)]) as assoc:
        asked = identifier("STUDY", PatientID="A1234563", StudyInstanceUID=study, PatientName="")
        found = [answer for _, answer in assoc.send_c_find(asked, STUDY_ROOT_FIND) if answer]
    assert [str(each.PatientName) for each in found] == [RIGHT["PatientName"]]
    taken: list[tuple[str, bytes]] = []

    def take(event: evt.Event) -> int:
        syntax = str(event.context.transfer_syntax)
        taken.append((syntax, event.encoded_dataset(include_meta=False)))
        return 0

    for syntax in (EXPLICIT, IMPLICIT):
        with associated(
            site.server.address,
            contexts=[build_context(STUDY_ROOT_GET), build_context(CT_IMAGE, [syntax])],
            ext_neg=[build_role(CT_IMAGE, scp_role=True)],
            handlers=[(evt.EVT_C_STORE, take)],
        ) as assoc:
            whole = identifier("STUDY", StudyInstanceUID=study)
            assert Retrieved(list(assoc.send_c_get(whole, STUDY_ROOT_GET))).status == 0
    assert [syntax for syntax, _ in taken] == [EXPLICIT, EXPLICIT, IMPLICIT, IMPLICIT]
    for syntax, encoded in taken:
        check(read(encoded, syntax))
        # Latin letters have no place for the name, so all text is UTF-8 now.
        assert read(encoded, syntax).StudyDescription == "Schädel"
    site.peer.received.clear()
    with associated(site.server.address, contexts=[build_context(STUDY_ROOT_MOVE)]) as assoc:
        whole = identifier("STUDY", StudyInstanceUID=study)
        assert Retrieved(list(assoc.send_c_move(whole, "PEER", STUDY_ROOT_MOVE))).status == 0
    assert len(site.peer.received) == 2
    for _, syntax, encoded in site.peer.received:
        check(read(encoded, syntax))
    assert site.held_by(study) == stored


def test_who_has_old_values_gets_the_new_ones_and_the_sender_nothing(site: Site) -> None:
    study = site.images(3)
    untouched = site.images(1)
    for uid in (study, untouched):
        site.archive.push(uid)
        site.archive.send(site.peer.port)
    site.archive.push(study, "CT01")  # who sent it to us
    site.archive.send(site.peer.port, to="CT01")
    site.peer.received.clear()

    site.correct(study, **RIGHT)
    assert site.archive.claim("CT01") is None
    done = site.archive.send(site.peer.port)
    assert done.settlement.state is DeliveryState.DELIVERED
    assert site.archive.claim() is None
    assert len(site.peer.received) == 3
    for _, syntax, encoded in site.peer.received:
        check(read(encoded, syntax))
    # Taken back: again all of it.
    site.peer.received.clear()
    site.undo(study)
    site.archive.send(site.peer.port)
    assert {read(encoded).PatientID for _, _, encoded in site.peer.received} == {"P9"}
    assert len(site.peer.received) == 3


def test_what_is_on_its_way_while_somebody_corrects_is_sent_once_more(site: Site) -> None:
    study = site.images(2)
    pk = site.archive.push(study)
    claimed = site.archive.claim()
    with transaction(site.engine) as connection:
        items = pending_items(connection, claimed, limit=9)
    assert items[0].stored is not None
    assert items[0].stored.corrections == ()
    site.correct(study, **RIGHT)
    sending = site.archive.sending(site.peer.port, claimed)
    with pytest.raises(LeaseLost):
        sending.run()
    site.peer.received.clear()
    while (claimed := site.archive.claim()) is not None:
        site.archive.sending(site.peer.port, claimed).run()
    assert site.archive.line(pk).state is DeliveryState.DELIVERED
    assert {read(encoded).PatientID for _, _, encoded in site.peer.received} == {"A1234563"}
    assert len(set(site.peer.uids())) == 2


def test_the_rules_judge_what_is_corrected_and_undone_all_is_as_it_was(site: Site) -> None:
    study = site.images(PatientID="A123456(4)")
    judge_studies(site.engine, IDENTITY)
    rows(site.engine, "UPDATE study SET judged_by = NULL, visible = false RETURNING 1")
    judge_studies(site.engine, IDENTITY)
    before = snapshot(site.engine)
    assert str(site.find(study).verdict) == "held"
    site.correct(study, IDENTITY, PatientID="A123456(3)")
    assert str(site.find(study).verdict) == "accepted"
    site.correct(study, IDENTITY, AccessionNumber="N1", PatientName="LEE")
    # What comes later to the study follows, whoever it says that it is of.
    (series,) = rows(
        site.engine,
        "SELECT series_instance_uid FROM series e JOIN study s ON s.pk = e.study_pk"
        " WHERE s.study_instance_uid = :study",
        study=study,
    )
    uid = new_uid()
    site.image(study, *series, 7, SOPInstanceUID=uid)
    (found,) = rows(
        site.engine,
        "SELECT patient_id, accession_number, patient_name, number_of_study_related_instances"
        " FROM study WHERE study_instance_uid = :study",
        study=study,
    )
    assert found == ("A123456(3)", "N1", "lee", 3)
    identities = rows(
        site.engine,
        "SELECT DISTINCT i.patient_identity FROM instance i JOIN series e ON e.pk = i.series_pk"
        " JOIN study s ON s.pk = e.study_pk WHERE s.study_instance_uid = :study",
        study=study,
    )
    assert identities == [('patient:["A123456(3)",""]',)]
    with pytest.raises(NotDecided, match="nothing else"):
        site.correct(study, Modality="MR")
    with pytest.raises(NotDecided, match="is no date"):
        site.correct(study, StudyDate="tomorrow")
    for _ in range(2):
        site.undo(study, IDENTITY)
    assert rows(
        site.engine,
        "SELECT count(*) FROM sent_header h JOIN object o ON o.id ="
        " h.object_id WHERE o.study_instance_uid = :study",
        study=study,
    ) == [(0,)]
    after = snapshot(site.engine)
    assert after["patient"] == before["patient"]
    assert str(site.find(study).verdict) == "held"
    # But for the one that came, all rows are those from before.
    assert set(before["header"]) <= set(after["header"])
    assert set(before["instance"]) <= set(after["instance"])


def test_a_reindex_is_corrected_too(site: Site, empty_database_url: str) -> None:
    study, undone = site.images(), site.images()
    for uid in (study, undone):
        site.correct(uid, **RIGHT)
    site.correct(study, StudyID="7")
    site.undo(undone)
    rows(site.engine, "UPDATE study SET judged_by = NULL, visible = false RETURNING 1")
    judge_studies(site.engine, NO_RULES)
    migrations.upgrade(empty_database_url)
    anew = make_engine(empty_database_url)
    reindex(site.archive.store, anew, policies=NO_RULES)
    one, other = snapshot(site.engine), snapshot(anew)
    for table, content in one.items():
        assert content == other[table], table
    sql = "SELECT * FROM sent_header ORDER BY 1"
    assert rows(anew, sql) == rows(site.engine, sql)
    assert len(rows(anew, sql)) >= 2
    anew.dispose()


def test_the_queue_over_http(site: Site) -> None:
    study = site.images(1)
    token = "v" * 20
    rights = frozenset({Right.READ, Right.REVIEW, Right.DECIDE})
    with (
        site.serve(
            site.engine,
            site.archive.store,
            access=TokenAccess([(Client("dr-ho", rights), [token])]),
            policies=NO_RULES,
        ) as base,
        httpx.Client(
            base_url=base.removesuffix("/dicomweb"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        ) as client,
    ):
        asked = {"kind": "correct", "reason": "mistyped", "attributes": RIGHT}
        path = f"/held/{study}"
        assert client.post(f"{path}/decisions", json=asked).json()["verdict"] == "accepted"
        shown = client.get(path).json()
        assert (shown["PatientID"], shown["PatientName"]) == (
            RIGHT["PatientID"],
            RIGHT["PatientName"],
        )
        (made,) = shown["decisions"]
        assert (made["by"], made["attributes"]) == ("dr-ho", RIGHT)
        asked["attributes"] = {"PatientSex": "male"}
        refused = client.post(f"{path}/decisions", json=asked)
        assert refused.status_code == 409
        assert "male" not in refused.text
        asked["attributes"] = {"PatientSex": 3}  # type: ignore[dict-item]
        assert client.post(f"{path}/decisions", json=asked).status_code == 400


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "JPEG2000.dcm",
        "image_dfl.dcm",
        "CT_small.dcm",
    ],
)
def test_every_encoding_stays_what_it_is_and_dciodvfy_finds_no_new_error(
    site: Site, name: str, tmp_path: Path
) -> None:
    ds = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    # Some of them are the same image.
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = new_uid(), new_uid()
    ds.save_as(tmp_path / "sent.dcm")
    content = (tmp_path / "sent.dcm").read_bytes()
    uid = site.archive.file(tmp_path / "sent.dcm")
    site.correct(str(ds.StudyInstanceUID), **RIGHT | {"PatientBirthDate": "19700102"})
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{uid}"
    syntax = str(ds.file_meta.TransferSyntaxUID)
    sent = []
    with site.serve(site.engine, site.archive.store) as base:
        for wanted in ("*", EXPLICIT):
            accept = {"Accept": f"application/dicom; transfer-syntax={wanted}"}
            got = httpx.get(f"{base}{path}", headers=accept, timeout=60)
            assert got.status_code == 200, got.text
            sent.append(got.content)
    whole = pydicom.dcmread(io.BytesIO(sent[0]))
    assert whole.file_meta.TransferSyntaxUID in (syntax, EXPLICIT)
    for each in sent:
        told = pydicom.dcmread(io.BytesIO(each))
        assert told.PatientID == "A1234563"
        (item,) = told.OriginalAttributesSequence
        assert item.ModifiedAttributesSequence[0].PatientID == ds.PatientID
    if whole.file_meta.TransferSyntaxUID == syntax:
        assert whole.PixelData == ds.PixelData
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (package dicom3tools)")
    said = []
    for number, each in enumerate((content, sent[0])):
        file = tmp_path / f"{number}.dcm"
        file.write_bytes(each)
        done = subprocess.run(
            ["dciodvfy", str(file)], capture_output=True, text=True, check=False, timeout=60
        )
        said.append({line for line in done.stderr.splitlines() if line.startswith("Error")})
    assert said[1] <= said[0]


def test_deleted_and_sent_again_it_is_corrected_still(site: Site) -> None:
    study = site.images(1)
    site.correct(study, **RIGHT)
    sql = "SELECT patient_id, corrected FROM study WHERE study_instance_uid = :study"
    assert rows(site.engine, sql, study=study) == [("A1234563", True)]
    subject = Subject(
        sight=Sight("main"),
        StudyInstanceUID=study,
        SeriesInstanceUID=None,
        SOPInstanceUID=None,
        by="Dr Ho",
    )
    assert delete_subject(site.archive.store, site.engine, subject) == 1
    assert rows(site.engine, sql, study=study) == []
    site.image(study, new_uid())
    assert rows(site.engine, sql, study=study) == [("A1234563", True)]

"""What people correct goes out corrected through every door, and what is stored stays as it is."""

import io
import shutil
import subprocess
from pathlib import Path

import httpx
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import build_context, build_role, evt

from gantry_domain.deliveries import DeliveryState
from gantry_domain.information_models import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from gantry_stores.index.database import transaction
from gantry_stores.index.delivery_leases import LeaseLost, pending_items
from gantry_testkit.correcting_site import EXPLICIT, IMPLICIT, RIGHT, Site, check, read
from gantry_testkit.query_scu import Retrieved, associated, identifier
from gantry_testkit.stored import CT_IMAGE, new_uid


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
        frames = {"Accept": 'multipart/related; type="application/octet-stream"'}
        pixels = client.get(f"{path}/frames/1", headers=frames)
        assert pydicom.dcmread(io.BytesIO(got.content)).PixelData in pixels.content
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

"""Deliveries to who must not know whose the images are: over both ways, twice, converted."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.valuerep import DA
from pynetdicom import build_context
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider
from gantry_archive.place_destinations import Place, PlaceDestination
from gantry_archive.proving import find_instances
from gantry_archive.transforms import Transforms
from gantry_dimse.server import DimseServer
from gantry_domain.decisions import DecisionKind
from gantry_domain.deidentification.pseudonyms import Pseudonyms
from gantry_domain.deliveries import DeliveryState
from gantry_domain.information_models import STUDY_ROOT_FIND, STUDY_ROOT_MOVE
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gantry_stores.index.database import transaction
from gantry_stores.index.judged_studies import find_judged
from gantry_stores.index.proofs import claim_proof, unproved
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import LEASE, TIMEOUTS, AnsweringScp, ForwardingArchive
from gantry_testkit.query_scu import Retrieved, associated, identifier
from gantry_testkit.stored import CT_IMAGE, NO_POLICIES, image, new_uid, stage
from gantry_testkit.stow_peer import Answer, StowPeer, stored

KEY = "a key of thirty-two characters.."
HIDING = Transforms(pseudonyms=Pseudonyms(KEY.encode()))


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


def put(archive: ForwardingArchive, **values: str) -> str:
    """A study of two images of a patient; its UID."""
    study, series = new_uid(), new_uid()
    for _ in range(2):
        ds = image(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            **{"PatientID": "HK-A123456", "PatientName": "CHAN^TAI MAN"} | values,
        )
        archive.index(stage(archive.store, ds))
    return study


def a_folder(beside: Path) -> Place:
    (beside / "exports").mkdir()
    place = Place(beside / "exports")
    place.prepare()
    return place


def over_dimse(archive: ForwardingArchive, study: str, peer: AnsweringScp) -> list[Dataset]:
    before = len(peer.received)
    pk = archive.push(study)
    archive.send(peer.port, transforms=HIDING)
    assert archive.line(pk).state is DeliveryState.DELIVERED, archive.items(pk)
    return [pydicom.dcmread(BytesIO(content)) for _, _, content in peer.received[before:]]


def test_two_sends_in_two_ways_are_the_same_and_two_studies_fit_together(
    archive: ForwardingArchive,
    start_scp: Callable[..., AnsweringScp],
    start_stow: Callable[[Answer], StowPeer],
) -> None:
    first = put(archive, StudyDate="20240229", SeriesDate="20240229")
    second = put(archive, StudyDate="20240310", SeriesDate="20240310")
    peer = start_scp()
    sent = over_dimse(archive, first, peer)
    assert peer.uids() == [ds.SOPInstanceUID for ds in sent]
    implicit = start_scp(contexts={CT_IMAGE: [IMPLICIT_VR_LITTLE_ENDIAN]})
    assert over_dimse(archive, first, implicit) == sent
    web = start_stow(stored)
    archive.push(first)
    archive.send_web(web.base, transforms=HIDING)
    over_web = [pydicom.dcmread(BytesIO(each.files[0])) for each in web.posted]
    assert [ds.SOPInstanceUID for ds in over_web] == [ds.SOPInstanceUID for ds in sent]
    assert all(ds.file_meta.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN for ds in over_web)
    later = over_dimse(archive, second, peer)
    assert {ds.StudyInstanceUID for ds in sent}.isdisjoint({first, second})
    assert len({ds.StudyInstanceUID for ds in [*sent, *later]}) == 2
    assert len({(str(ds.PatientID), str(ds.PatientName)) for ds in [*sent, *later]}) == 1
    days = [DA(ds.StudyDate) for ds in (sent[0], later[0])]
    assert (days[1] - days[0]).days == 10
    assert sent[0].StudyDate != "20240229"
    for _, _, content in peer.received:
        for text in (b"HK-A123456", b"CHAN", b"TAI MAN", first.encode(), second.encode()):
            assert text not in content


def test_files_have_no_identities_either_and_are_found_by_the_uids_that_they_have(
    archive: ForwardingArchive, tmp_path: Path
) -> None:
    study = put(archive)
    place = a_folder(tmp_path)
    pk = archive.push(study)
    archive.send_place(place, prove="find", transforms=HIDING)
    with transaction(archive.engine) as connection:
        proof = claim_proof(connection, lease=LEASE)
        found = unproved(connection, pk)
    assert proof is not None
    destination = PlaceDestination(ae_title="PEER", place=place, transforms=HIDING)
    there = find_instances(proof, found, destination=destination, timeouts=TIMEOUTS)
    assert there == {each.SOPInstanceUID for each in found}
    files = {each.key: place.store().read(each.key) for each in place.store().list("")}
    assert len(files) == 2
    for name, content in files.items():
        ds = pydicom.dcmread(BytesIO(content))
        uids = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
        assert name == f"{'/'.join(uids)}.dcm"
        assert study not in uids
        assert not any(text in content for text in (b"HK-A123456", b"CHAN", study.encode()))


def test_a_folder_gets_the_syntaxes_that_it_is_sent_alone(
    archive: ForwardingArchive, tmp_path: Path
) -> None:
    path = Path(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    study = archive.file(path)
    place = a_folder(tmp_path)
    archive.push(study)
    only = Transforms(syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN,))
    archive.send_place(place, transforms=only)
    (file,) = place.store().list("")
    written = pydicom.dcmread(BytesIO(place.store().read(file.key)))
    assert written.file_meta.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN
    assert (written.pixel_array == pydicom.dcmread(path).pixel_array).all()


def test_what_is_corrected_goes_by_its_corrected_values_and_tells_of_none_before(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    right, wrong = put(archive), put(archive, PatientID="P9", PatientName="WONG^SIU")
    decider = Decider(store=archive.store, engine=archive.engine, policies=NO_POLICIES, feed=None)
    with transaction(archive.engine) as connection:
        (found,) = find_judged(connection, wrong)
    corrected = {"PatientID": "HK-A123456", "PatientName": "CHAN^TAI MAN"}
    decider.decide(found, DecisionKind.CORRECT, corrected=corrected, by="Dr Ho", reason="mistyped")
    peer = start_scp()
    sent = [*over_dimse(archive, right, peer), *over_dimse(archive, wrong, peer)]
    assert len({str(ds.PatientID) for ds in sent}) == 1
    assert len({ds.StudyDate for ds in sent}) == 1
    assert not any("OriginalAttributesSequence" in ds for ds in sent)
    assert not any(b"WONG" in content or b"P9 " in content for _, _, content in peer.received)


def test_what_cannot_be_cleaned_is_withheld_with_the_reason(
    archive: ForwardingArchive,
    start_scp: Callable[..., AnsweringScp],
    start_stow: Callable[[Answer], StowPeer],
) -> None:
    study = put(archive)
    burned = image(StudyInstanceUID=study, BurnedInAnnotation="YES")
    archive.index(stage(archive.store, burned))
    peer, web = start_scp(), start_stow(stored)
    assert len(over_dimse(archive, study, peer)) == 2
    pk = archive.push(study)
    archive.send_web(web.base, transforms=HIDING)
    assert len(web.posted) == 2
    line = archive.line(pk)
    assert (line.state, line.sent, line.withheld) == (DeliveryState.DELIVERED, 2, 1)
    state, status, reason = archive.items(pk)[str(burned.SOPInstanceUID)]
    assert (state, status) == ("withheld", None)
    assert reason == "it cannot be de-identified: text may be burned into its pixels"


def test_of_what_may_not_be_sent_at_all_nobody_is_told(archive: ForwardingArchive) -> None:
    report = image(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22")
    archive.index(stage(archive.store, report))
    pk = archive.push(str(report.StudyInstanceUID))
    archive.send(1, prove="find", transforms=HIDING)  # a port at which nobody listens
    line = archive.line(pk)
    assert (line.state, line.reason) == (DeliveryState.DELIVERED, "1 of 1 withheld")
    assert line.proof is None


def test_nobody_has_it_sent_there_as_it_is_by_a_move_and_it_may_not_ask_itself(
    archive: ForwardingArchive,
    start_scp: Callable[..., AnsweringScp],
    serve_find: Callable[..., AbstractContextManager[DimseServer]],
) -> None:
    study = put(archive)
    peer = start_scp()
    configuration = f"""
partners:
  - {{ae_title: PEER, address: "127.0.0.1:{peer.port}", deidentify: true}}
  - {{ae_title: WS1}}
"""
    serving = serve_find(archive.engine, configuration, archive.store, GANTRY_DEIDENTIFYING_KEY=KEY)
    question = identifier("STUDY", StudyInstanceUID=study)
    with serving as server:
        contexts = [build_context(STUDY_ROOT_MOVE), build_context(STUDY_ROOT_FIND)]
        with associated(server.address, calling="WS1", contexts=contexts) as assoc:
            moved = Retrieved(list(assoc.send_c_move(question, "PEER", STUDY_ROOT_MOVE)))
        with associated(server.address, calling="PEER", contexts=contexts) as assoc:
            ((found, _),) = assoc.send_c_find(question, STUDY_ROOT_FIND)
    assert moved.status == 0xA801
    assert found.Status == 0x0124
    assert peer.received == []

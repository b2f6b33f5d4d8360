"""Deliveries to real peers: everything arrives once, each fault ends where it belongs."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import evt
from sqlalchemy.engine import Engine

from gantry_archive.forwarding import Sending
from gantry_domain.deliveries import DeliveryState, RetryPolicy
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gantry_stores.index import delivery_lists as lists
from gantry_stores.index.database import transaction
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.peers import orthanc, storescp
from gantry_testkit.ports import free_port
from gantry_testkit.stored import image, new_uid, rows, stage

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


def test_a_study_a_series_and_an_image_arrive(archive: ForwardingArchive, tmp_path: Path) -> None:
    study, uids = archive.study(images=4)
    other_series = image(StudyInstanceUID=study)
    archive.index(stage(archive.store, other_series))
    with storescp(tmp_path / "peer", "+xa") as peer:
        pk = archive.push(study)
        finished = archive.send(peer.port)
        assert finished.settlement.state is DeliveryState.DELIVERED
        assert peer.instances() == dict.fromkeys([*uids, str(other_series.SOPInstanceUID)], 1)
        line = archive.line(pk)
        assert (line.state, line.items, line.sent) == (DeliveryState.DELIVERED, 5, 5)
        assert line.delivered_at is not None

        series = archive.push(str(other_series.SeriesInstanceUID))
        single = archive.push(uids[0])
        assert archive.line(series).items == archive.line(single).items == 1
        for _ in range(2):
            assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
        assert archive.claim() is None


def test_every_stored_syntax_reaches_orthanc(archive: ForwardingArchive, tmp_path: Path) -> None:
    names = ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"]
    names += ["JPEG2000.dcm", "image_dfl.dcm", "SC_rgb_jpeg_dcmtk.dcm"]
    uids = []
    with orthanc(tmp_path / "peer") as peer:
        for name in names:
            uid = archive.file(Path(str(get_testdata_file(name, download=False))))
            pk = archive.push(uid)
            archive.send(peer.port)
            assert archive.line(pk).state is DeliveryState.DELIVERED, archive.items(pk)
            uids.append(uid)
        assert peer.instances() == dict.fromkeys(uids, 1)


def test_a_refused_class_of_images_fails_for_good_and_the_rest_arrives(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, uids = archive.study(images=3)
    other = image(StudyInstanceUID=study, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    sent = stage(archive.store, other)
    archive.index(sent)
    peer = start_scp()
    pk = archive.push(study)
    archive.send(peer.port)
    assert sorted(peer.uids()) == sorted(uids)
    line = archive.line(pk)
    assert (line.state, line.reason) == (DeliveryState.DEAD, "1 of 4 refused")
    assert line.refusal is not None
    assert "SOP class 1.2.840.10008.5.1.4.1.1.4" in line.refusal
    # Tried again by a person it sends what was refused, and only that.
    with transaction(archive.engine) as connection:
        assert lists.retry(connection, lists.Selection(pks=[pk])) == [pk]
    archive.send(peer.port)
    assert sorted(peer.uids()) == sorted(uids)
    assert archive.line(pk).state is DeliveryState.DEAD


def test_a_peer_that_accepts_nothing_refuses_everything(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, _ = archive.study(images=2)
    peer = start_scp(contexts={"1.2.840.10008.5.1.4.1.1.4": [EXPLICIT_VR_LITTLE_ENDIAN]})
    pk = archive.push(study)
    archive.send(peer.port)
    assert archive.line(pk).reason == "2 of 2 refused"


@pytest.mark.parametrize(
    ("status", "state", "item"),
    [
        (0xB000, DeliveryState.DELIVERED, "warned"),
        (0x0111, DeliveryState.DELIVERED, "accepted"),
        (0xA900, DeliveryState.DEAD, "refused"),
        (0xA700, DeliveryState.FAILED, "failed"),
    ],
)
def test_each_status_is_recorded(
    archive: ForwardingArchive,
    start_scp: Callable[..., AnsweringScp],
    status: int,
    state: DeliveryState,
    item: str,
) -> None:
    study, (uid,) = archive.study(images=1)
    peer = start_scp(lambda event: status)
    pk = archive.push(study)
    finished = archive.send(peer.port)
    assert finished.settlement.state is state
    found = archive.items(pk)[uid]
    assert found[:2] == (item, status)
    assert found[2] is not None
    assert found[2].startswith(f"{status:04X} ")


def test_a_destination_that_is_down_is_tried_later_and_then_gets_all(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, uids = archive.study(images=2)
    pk = archive.push(study)
    for attempt in (1, 2):
        finished = archive.send(free_port())
        assert finished.settlement.state is DeliveryState.FAILED
        line = archive.line(pk)
        assert line.attempts == attempt
        assert line.reason is not None
        assert "Connection refused" in line.reason
        archive.due_now()
    peer = start_scp()
    assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
    assert sorted(peer.uids()) == sorted(uids)


def test_what_waits_is_not_claimed_before_it_is_due(archive: ForwardingArchive) -> None:
    archive.push(archive.study(images=1)[0])
    slow = RetryPolicy(
        base=timedelta(hours=1), ceiling=timedelta(hours=1), give_up_after=timedelta(days=1)
    )
    retry_after = archive.send(free_port(), policy=slow).settlement.retry_after
    assert retry_after is not None
    assert retry_after <= timedelta(hours=1)
    assert archive.claim() is None


def test_what_is_too_old_is_given_up(archive: ForwardingArchive) -> None:
    pk = archive.push(archive.study(images=1)[0])
    rows(archive.engine, "UPDATE delivery SET unsent_since = now() - interval '2 days' RETURNING 1")
    assert archive.send(free_port()).settlement.state is DeliveryState.DEAD
    line = archive.line(pk)
    assert line.reason is not None
    assert line.reason.startswith("gave up: cannot connect")


def test_one_poisonous_instance_delays_no_other(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, uids = archive.study(images=5)

    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == uids[1]:
            event.assoc.abort()
        return 0x0000

    peer = start_scp(answer)
    pk = archive.push(study)
    assert archive.send(peer.port).settlement.state is DeliveryState.FAILED
    states = {uid: state for uid, (state, _, _) in archive.items(pk).items()}
    assert states == {**dict.fromkeys(uids, "accepted"), uids[1]: "failed"}
    # The next round sends what is left, and nothing else.
    peer.received.clear()
    archive.due_now()
    archive.send(peer.port)
    assert peer.uids() == [uids[1]]


def test_a_destination_that_hangs_ends_the_round_after_one_timeout(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, _ = archive.study(images=3)
    over = threading.Event()

    def answer(event: evt.Event) -> int:
        over.wait(10)
        return 0x0000

    peer = start_scp(answer)
    archive.push(study)
    started = time.monotonic()
    finished = archive.send(peer.port)
    over.set()
    assert time.monotonic() - started < 4
    assert finished.settlement.state is DeliveryState.FAILED
    assert finished.settlement.reason is not None
    assert "did not answer within 2 s" in finished.settlement.reason


def test_a_destination_without_room_is_left_alone_after_three_answers(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, _ = archive.study(images=20)
    peer = start_scp(lambda event: 0xA700)
    pk = archive.push(study)
    archive.send(peer.port)
    assert len(peer.received) == 3
    assert archive.line(pk).reason == "A700 Refused: Out of resources"


def test_stored_syntax_first_else_converted(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp], tmp_path: Path
) -> None:
    path = Path(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    original = pydicom.dcmread(path)
    uid = archive.file(path)
    mr, rle = str(original.SOPClassUID), str(original.file_meta.TransferSyntaxUID)
    for accepted in ([rle, EXPLICIT_VR_LITTLE_ENDIAN], [EXPLICIT_VR_LITTLE_ENDIAN]):
        peer = start_scp(contexts={mr: accepted})
        pk = archive.push(uid)
        assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
        ((_, syntax, data_set),) = peer.received
        assert syntax == accepted[0]
        assert archive.items(pk)[uid][0] == "accepted"
    implicit = start_scp(contexts={mr: [IMPLICIT_VR_LITTLE_ENDIAN]})
    archive.push(uid)
    archive.send(implicit.port)
    ((_, syntax, data_set),) = implicit.received
    received = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data_set), force=True)
    received.file_meta.TransferSyntaxUID = IMPLICIT_VR_LITTLE_ENDIAN
    assert (received.pixel_array == original.pixel_array).all()
    assert received.SOPInstanceUID == uid


def test_pixels_that_cannot_be_decoded_are_refused_by_name(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp], tmp_path: Path
) -> None:
    path = Path(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    ds = pydicom.dcmread(path)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
    ds.PixelData = pydicom.encaps.encapsulate([b"\x0f\x00\x00\x00" + bytes(70)])
    broken = tmp_path / "broken.dcm"
    ds.save_as(broken)
    uid = archive.file(broken)
    peer = start_scp(contexts={str(ds.SOPClassUID): [EXPLICIT_VR_LITTLE_ENDIAN]})
    pk = archive.push(uid)
    archive.send(peer.port)
    state, status, reason = archive.items(pk)[uid]
    assert (state, status) == ("refused", None)
    assert reason is not None
    assert "cannot be decoded" in reason
    assert peer.received == []


def test_an_instance_whose_object_has_gone_is_refused_and_the_rest_arrives(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, uids = archive.study(images=3)
    (key,) = [
        stat.key
        for stat in archive.store.list("objects/")
        if uids[1].encode() in archive.store.read(stat.key)
    ]
    archive.store.delete(key)
    peer = start_scp()
    pk = archive.push(study)
    archive.send(peer.port)
    assert archive.items(pk)[uids[1]] == ("refused", None, "no longer in the object store")
    assert sorted(peer.uids()) == sorted({uids[0], uids[2]})


def test_stopped_it_gives_the_delivery_back_without_a_wait(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, uids = archive.study(images=10)
    claims: list[Sending] = []

    def answer(event: evt.Event) -> int:
        if len(peer.received) == 4:
            claims[0].stop(at_once=False)
        return 0x0000

    peer = start_scp(answer)
    pk = archive.push(study)
    sending = archive.sending(peer.port, archive.claim())
    claims.append(sending)
    assert sending.run().settlement.state is DeliveryState.WAITING
    line = archive.line(pk)
    assert (line.sent, line.attempts, line.reason) == (4, 0, None)
    archive.send(peer.port)
    # Nothing twice, nothing missing.
    assert sorted(peer.uids()) == sorted(uids)

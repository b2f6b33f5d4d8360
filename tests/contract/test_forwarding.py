"""Deliveries to real peers: everything arrives once, each fault ends where it belongs."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import evt
from sqlalchemy.engine import Engine

from gantry_archive.delivery import NothingToPush, plan_push
from gantry_archive.forwarding import Destination, Sending
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_dimse.requesting import Timeouts
from gantry_domain.deliveries import DeliveryState, ItemState, RetryPolicy
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gantry_stores.index import delivery_leases as leases
from gantry_stores.index import delivery_lists as lists
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.objects import DirectoryStore
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.peers import free_port, orthanc, storescp
from gantry_testkit.stored import CT_IMAGE, NO_POLICIES, image, new_uid, receipts, rows, stage

POLICY = RetryPolicy(
    base=timedelta(seconds=1), ceiling=timedelta(seconds=8), give_up_after=timedelta(days=1)
)
LEASE = timedelta(seconds=30)
TIMEOUTS = Timeouts(connect=2.0, acse=2.0, dimse=2.0, network=2.0)
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


class Archive:
    """A store and an index with what the tests put there."""

    def __init__(self, engine: Engine, store: DirectoryStore) -> None:
        self.engine = engine
        self.store = store
        self.outcomes: list[leases.ItemOutcome] = []

    def settled(self, outcome: leases.ItemOutcome, *, size: int, seconds: float) -> None:
        self.outcomes.append(outcome)

    def index(self, *sent: Any) -> None:
        result = index_batch(
            receipts(sent), store=self.store, engine=self.engine, rules=ReadingRules()
        )
        assert len(result.outcomes) == len(sent)
        judge_studies(self.engine, NO_POLICIES)

    def study(self, *, images: int) -> tuple[str, list[str]]:
        """A study of CT images: its UID and those of its instances."""
        study, series = new_uid(), new_uid()
        datasets = [
            image(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=str(n))
            for n in range(images)
        ]
        self.index(*(stage(self.store, ds) for ds in datasets))
        return study, [str(ds.SOPInstanceUID) for ds in datasets]

    def file(self, path: Path) -> str:
        """The object of a DICOM file, stored as it is; its SOP Instance UID."""
        content = path.read_bytes()
        parsed = parse_file_meta(content)
        offset = parsed.dataset_offset
        self.index(stage(self.store, content[offset:], head=content[:offset]))
        return parsed.meta.MediaStorageSOPInstanceUID

    def push(self, uid: str, to: str = "PEER") -> int:
        return plan_push(self.engine, uid, to, partitions=["main"]).pk

    def claim(self, to: str = "PEER", *, concurrency: int = 9, owner: str = "test") -> Any:
        with transaction(self.engine) as connection:
            return leases.claim(
                connection, destination=to, owner=owner, lease=LEASE, concurrency=concurrency
            )

    def sending(self, port: int, claimed: leases.Claim, policy: RetryPolicy = POLICY) -> Sending:
        destination = Destination(
            ae_title=claimed.destination, host="127.0.0.1", port=port, calling_ae="GANTRY"
        )
        return Sending(
            claim=claimed,
            destination=destination,
            engine=self.engine,
            store=self.store,
            timeouts=TIMEOUTS,
            policy=policy,
            observer=self,
        )

    def send(self, port: int, *, policy: RetryPolicy = POLICY) -> leases.Finished:
        """Claim what is due for PEER and send one round of it."""
        claimed = self.claim()
        assert claimed is not None
        return self.sending(port, claimed, policy).run()

    def line(self, pk: int) -> lists.DeliveryLine:
        with transaction(self.engine) as connection:
            (line,) = lists.list_deliveries(connection, lists.Selection(pks=[pk]), limit=2)
        return line

    def items(self, pk: int) -> dict[str, tuple[str, int | None, str | None]]:
        found = rows(
            self.engine,
            "SELECT sop_instance_uid, state, status, reason FROM delivery_item"
            " WHERE delivery_pk = :pk",
            pk=pk,
        )
        return {uid: (state, status, reason) for uid, state, status, reason in found}

    def due_now(self) -> None:
        rows(self.engine, "UPDATE delivery SET next_attempt_at = now() RETURNING pk")


@pytest.fixture
def archive(postgres_url: str, tmp_path: Path) -> Iterator[Archive]:
    engine = make_engine(postgres_url)
    yield Archive(engine, DirectoryStore(tmp_path / "objects"))
    engine.dispose()


class Scp:
    """pynetdicom as a peer: answers by a function, remembers what it received."""

    def __init__(self, answer: Callable[[evt.Event], int], contexts: dict[str, list[str]]) -> None:
        self.received: list[tuple[str, str, bytes]] = []
        self._answer = answer
        ae = PeerAE("PEER")
        ae.maximum_associations = 50
        for uid, syntaxes in contexts.items():
            ae.add_supported_context(uid, syntaxes)
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port: int = self._server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.received.append(
            (
                str(event.request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                event.encoded_dataset(),
            )
        )
        return self._answer(event)

    def uids(self) -> list[str]:
        return [uid for uid, _, _ in self.received]

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def start() -> Iterator[Callable[..., Scp]]:
    peers: list[Scp] = []

    def start_peer(
        answer: Callable[[evt.Event], int] = lambda event: 0x0000,
        contexts: dict[str, list[str]] | None = None,
    ) -> Scp:
        peers.append(Scp(answer, contexts or {CT_IMAGE: [EXPLICIT_VR_LITTLE_ENDIAN]}))
        return peers[-1]

    yield start_peer
    for peer in peers:
        peer.close()


def test_a_study_a_series_and_an_image_arrive(archive: Archive, tmp_path: Path) -> None:
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


def test_every_stored_syntax_reaches_orthanc(archive: Archive, tmp_path: Path) -> None:
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


def test_a_refused_class_fails_for_good_and_the_rest_arrives(
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, uids = archive.study(images=3)
    document = image(StudyInstanceUID=study, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    sent = stage(archive.store, document)
    archive.index(sent)
    peer = start()
    pk = archive.push(study)
    archive.send(peer.port)
    assert sorted(peer.uids()) == sorted(uids)
    line = archive.line(pk)
    assert (line.state, line.reason) == (DeliveryState.DEAD, "1 of 4 refused")
    assert line.refusal is not None
    assert "SOP class 1.2.840.10008.5.1.4.1.1.88.11" in line.refusal
    # Tried again by a person it sends what was refused, and only that.
    with transaction(archive.engine) as connection:
        assert lists.retry(connection, lists.Selection(pks=[pk])) == [pk]
    archive.send(peer.port)
    assert sorted(peer.uids()) == sorted(uids)
    assert archive.line(pk).state is DeliveryState.DEAD


def test_a_peer_that_accepts_nothing_refuses_everything(
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, _ = archive.study(images=2)
    peer = start(contexts={"1.2.840.10008.5.1.4.1.1.4": [EXPLICIT_VR_LITTLE_ENDIAN]})
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
    archive: Archive,
    start: Callable[..., Scp],
    status: int,
    state: DeliveryState,
    item: str,
) -> None:
    study, (uid,) = archive.study(images=1)
    peer = start(lambda event: status)
    pk = archive.push(study)
    finished = archive.send(peer.port)
    assert finished.settlement.state is state
    found = archive.items(pk)[uid]
    assert found[:2] == (item, status)
    assert found[2] is not None
    assert found[2].startswith(f"{status:04X} ")


def test_a_destination_that_is_down_is_tried_later_and_then_gets_all(
    archive: Archive, start: Callable[..., Scp]
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
    peer = start()
    assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
    assert sorted(peer.uids()) == sorted(uids)


def test_what_waits_is_not_claimed_before_it_is_due(archive: Archive) -> None:
    archive.push(archive.study(images=1)[0])
    slow = RetryPolicy(
        base=timedelta(hours=1), ceiling=timedelta(hours=1), give_up_after=timedelta(days=1)
    )
    retry_after = archive.send(free_port(), policy=slow).settlement.retry_after
    assert retry_after is not None
    assert retry_after <= timedelta(hours=1)
    assert archive.claim() is None


def test_what_is_too_old_is_given_up(archive: Archive) -> None:
    pk = archive.push(archive.study(images=1)[0])
    rows(archive.engine, "UPDATE delivery SET unsent_since = now() - interval '2 days' RETURNING 1")
    assert archive.send(free_port()).settlement.state is DeliveryState.DEAD
    line = archive.line(pk)
    assert line.reason is not None
    assert line.reason.startswith("gave up: cannot connect")


def test_one_poisonous_instance_delays_no_other(
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, uids = archive.study(images=5)

    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == uids[1]:
            event.assoc.abort()
        return 0x0000

    peer = start(answer)
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
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, _ = archive.study(images=3)
    over = threading.Event()

    def answer(event: evt.Event) -> int:
        over.wait(10)
        return 0x0000

    peer = start(answer)
    archive.push(study)
    started = time.monotonic()
    finished = archive.send(peer.port)
    over.set()
    assert time.monotonic() - started < 4
    assert finished.settlement.state is DeliveryState.FAILED
    assert finished.settlement.reason is not None
    assert "did not answer within 2 s" in finished.settlement.reason


def test_a_destination_without_room_is_left_alone_after_three_answers(
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, _ = archive.study(images=20)
    peer = start(lambda event: 0xA700)
    pk = archive.push(study)
    archive.send(peer.port)
    assert len(peer.received) == 3
    assert archive.line(pk).reason == "A700 Refused: Out of resources"


def test_stored_syntax_first_else_converted(
    archive: Archive, start: Callable[..., Scp], tmp_path: Path
) -> None:
    path = Path(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    original = pydicom.dcmread(path)
    uid = archive.file(path)
    mr, rle = str(original.SOPClassUID), str(original.file_meta.TransferSyntaxUID)
    for accepted in ([rle, EXPLICIT_VR_LITTLE_ENDIAN], [EXPLICIT_VR_LITTLE_ENDIAN]):
        peer = start(contexts={mr: accepted})
        pk = archive.push(uid)
        assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
        ((_, syntax, data_set),) = peer.received
        assert syntax == accepted[0]
        assert archive.items(pk)[uid][0] == "accepted"
    implicit = start(contexts={mr: [IMPLICIT_VR_LITTLE_ENDIAN]})
    archive.push(uid)
    archive.send(implicit.port)
    ((_, syntax, data_set),) = implicit.received
    received = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data_set), force=True)
    received.file_meta.TransferSyntaxUID = IMPLICIT_VR_LITTLE_ENDIAN
    assert (received.pixel_array == original.pixel_array).all()
    assert received.SOPInstanceUID == uid


def test_pixels_that_cannot_be_decoded_are_refused_by_name(
    archive: Archive, start: Callable[..., Scp], tmp_path: Path
) -> None:
    path = Path(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    ds = pydicom.dcmread(path)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
    ds.PixelData = pydicom.encaps.encapsulate([b"\x0f\x00\x00\x00" + bytes(70)])
    broken = tmp_path / "broken.dcm"
    ds.save_as(broken)
    uid = archive.file(broken)
    peer = start(contexts={str(ds.SOPClassUID): [EXPLICIT_VR_LITTLE_ENDIAN]})
    pk = archive.push(uid)
    archive.send(peer.port)
    state, status, reason = archive.items(pk)[uid]
    assert (state, status) == ("refused", None)
    assert reason is not None
    assert "cannot be decoded" in reason
    assert peer.received == []


def test_an_instance_whose_object_has_gone_is_refused_and_the_rest_arrives(
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, uids = archive.study(images=3)
    (key,) = [
        stat.key
        for stat in archive.store.list("objects/")
        if uids[1].encode() in archive.store.read(stat.key)
    ]
    archive.store.delete(key)
    peer = start()
    pk = archive.push(study)
    archive.send(peer.port)
    assert archive.items(pk)[uids[1]] == ("refused", None, "no longer in the object store")
    assert sorted(peer.uids()) == sorted({uids[0], uids[2]})


def test_stopped_it_gives_the_delivery_back_without_a_wait(
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, uids = archive.study(images=10)
    claims: list[Sending] = []

    def answer(event: evt.Event) -> int:
        if len(peer.received) == 4:
            claims[0].stop(at_once=False)
        return 0x0000

    peer = start(answer)
    pk = archive.push(study)
    sending = archive.sending(peer.port, archive.claim())
    claims.append(sending)
    assert sending.run().settlement.state is DeliveryState.WAITING
    line = archive.line(pk)
    assert (line.sent, line.attempts, line.reason) == (4, 0, None)
    archive.send(peer.port)
    # Nothing twice, nothing missing.
    assert sorted(peer.uids()) == sorted(uids)


def test_a_lease_that_ran_out_is_claimed_and_its_holder_writes_nothing_more(
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, uids = archive.study(images=4)
    peer = start()
    pk = archive.push(study)
    dead = archive.claim(owner="killed")
    with transaction(archive.engine) as connection:
        leases.record(connection, dead, uids[0], leases.ItemOutcome(ItemState.ACCEPTED, 0))
    assert archive.claim() is None
    rows(archive.engine, "UPDATE delivery SET lease_until = now() - interval '1 s' RETURNING 1")
    assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
    assert sorted(peer.uids()) == sorted(uids[1:])
    with pytest.raises(leases.LeaseLost), transaction(archive.engine) as connection:
        leases.record(connection, dead, uids[1], leases.ItemOutcome(ItemState.REFUSED))
    with pytest.raises(leases.LeaseLost):
        archive.sending(peer.port, dead).run()
    assert archive.line(pk).state is DeliveryState.DELIVERED


def test_renewing_keeps_a_lease(archive: Archive) -> None:
    archive.push(archive.study(images=1)[0])
    held = archive.claim(owner="me")
    rows(archive.engine, "UPDATE delivery SET lease_until = now() + interval '1 s' RETURNING 1")
    with transaction(archive.engine) as connection:
        assert leases.renew(connection, owner="me", lease=LEASE) == {held.pk: held.fence}
        assert leases.renew(connection, owner="other", lease=LEASE) == {}
    ((left,),) = rows(archive.engine, "SELECT lease_until - now() FROM delivery")
    assert left > timedelta(seconds=25)


def test_cancelled_it_is_no_longer_sent(archive: Archive, start: Callable[..., Scp]) -> None:
    study, _ = archive.study(images=5)

    def answer(event: evt.Event) -> int:
        if len(peer.received) == 2:
            with transaction(archive.engine) as connection:
                assert lists.cancel(connection, lists.Selection(pks=[pk])) == [pk]
        return 0x0000

    peer = start(answer)
    pk = archive.push(study)
    with pytest.raises(leases.LeaseLost):
        archive.send(peer.port)
    assert len(peer.received) == 2
    assert archive.line(pk).state is DeliveryState.CANCELLED
    assert archive.claim() is None


def test_no_more_at_once_than_the_destination_takes(archive: Archive) -> None:
    for _ in range(3):
        archive.push(archive.study(images=1)[0])
    assert archive.claim(concurrency=2) is not None
    assert archive.claim(concurrency=2) is not None
    assert archive.claim(concurrency=2) is None
    assert archive.claim("OTHER") is None


def test_many_lanes_claim_each_delivery_once(archive: Archive) -> None:
    for _ in range(12):
        archive.push(archive.study(images=1)[0])
    claimed: list[int] = []

    def lane() -> None:
        while (held := archive.claim(concurrency=99)) is not None:
            claimed.append(held.pk)

    threads = [threading.Thread(target=lane) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 12


def test_pushing_twice_is_one_delivery_until_it_is_over(
    archive: Archive, start: Callable[..., Scp]
) -> None:
    study, _ = archive.study(images=1)
    first = plan_push(archive.engine, study, "PEER", partitions=["main"])
    again = plan_push(archive.engine, study, "PEER", partitions=["main"])
    assert (first.created, again.created) == (True, False)
    assert first.pk == again.pk
    archive.send(start().port)
    assert plan_push(archive.engine, study, "PEER", partitions=["main"]).created


def test_what_cannot_be_pushed_is_said(archive: Archive) -> None:
    study, _ = archive.study(images=1)
    with pytest.raises(NothingToPush, match=r"no study, series or instance has the UID 1\.2\.3"):
        archive.push("1.2.3")
    with pytest.raises(NothingToPush, match="no study"):
        plan_push(archive.engine, study, "PEER", partitions=["other"])
    rows(archive.engine, "UPDATE study SET verdict = 'held' RETURNING pk")
    with pytest.raises(NothingToPush, match="held"):
        archive.push(study)


def test_a_study_that_is_held_meanwhile_stays_until_it_is_accepted(archive: Archive) -> None:
    archive.push(archive.study(images=1)[0])
    rows(archive.engine, "UPDATE study SET verdict = 'held' RETURNING pk")
    assert archive.claim() is None
    rows(archive.engine, "UPDATE study SET verdict = 'accepted' RETURNING pk")
    assert archive.claim() is not None


def test_backlog_and_due_destinations(archive: Archive) -> None:
    for destination in ("ONE", "TWO", "TWO"):
        archive.push(archive.study(images=1)[0], destination)
    archive.claim("ONE")
    with transaction(archive.engine) as connection:
        lines = lists.backlog(connection, late_after=timedelta(minutes=15))
        found = {(line.destination, line.state): line.number for line in lines}
        due = leases.due_destinations(connection, ["ONE", "TWO", "THREE"])
    assert found == {("ONE", DeliveryState.SENDING): 1, ("TWO", DeliveryState.WAITING): 2}
    assert due == {"TWO"}
    assert not any(line.late for line in lines)
    with transaction(archive.engine) as connection:
        lines = lists.backlog(connection, late_after=timedelta())
    assert {line.destination: line.late for line in lines} == {"ONE": 1, "TWO": 2}


def test_a_destination_that_nobody_knows_fails_for_now(archive: Archive) -> None:
    pk = archive.push(archive.study(images=1)[0], "GONE")
    with transaction(archive.engine) as connection:
        assert leases.postpone_unknown(connection, known=["PEER"], policy=POLICY, reason="?") == 1
    assert archive.line(pk).state is DeliveryState.FAILED
    rows(
        archive.engine,
        "UPDATE delivery SET unsent_since = now() - interval '2 days',"
        " next_attempt_at = now() RETURNING 1",
    )
    with transaction(archive.engine) as connection:
        leases.postpone_unknown(connection, known=["PEER"], policy=POLICY, reason="?")
    assert archive.line(pk).state is DeliveryState.DEAD

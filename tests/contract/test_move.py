"""C-MOVE over real associations: pynetdicom asks, other archives receive."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AllStoragePresentationContexts, build_context, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from sqlalchemy.engine import Engine

from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.server import DimseServer
from gantry_domain.information_models import (
    COMPOSITE_INSTANCE_ROOT_MOVE,
    PATIENT_ROOT_MOVE,
    PATIENT_STUDY_ONLY_MOVE,
    STUDY_ROOT_MOVE,
)
from gantry_domain.keys import object_key
from gantry_runtime.metrics import sample
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.hostile_peer import HostilePeer
from gantry_testkit.ports import free_port
from gantry_testkit.query_scu import Retrieved, associated, identifier
from gantry_testkit.stored import CT_IMAGE, image, new_uid, rows, stage
from gantry_testkit.waiting import until
from gantry_testkit.window_peer import WindowPeer

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DOCUMENT = "1.2.840.10008.5.1.4.1.1.88.11"

# Each needs a context for the stored syntax and one more: together more than an association has.
CLASSES = [str(context.abstract_syntax) for context in AllStoragePresentationContexts][:70]


class Destination:
    """A storage SCP that tells what it received, and answers as a test wants."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.gate = threading.Event()
        self.abort_at: int | None = None
        self.originators: set[tuple[str, int]] = set()
        self.associations: set[Association] = set()
        self.scp = AnsweringScp(self._answer, {CT_IMAGE: [EXPLICIT, IMPLICIT]})
        self.wide = AnsweringScp(self._take, {uid: [EXPLICIT] for uid in CLASSES})
        self.window = WindowPeer(4, instances=100, at_once=4)
        self.windowed = HostilePeer(self.window)

    def close(self) -> None:
        self.scp.close()
        self.wide.close()
        self.windowed.close()

    def _take(self, event: evt.Event) -> int:
        self.associations.add(event.assoc)
        return 0

    def reset(self) -> None:
        self.answers.clear()
        self.originators.clear()
        self.scp.received.clear()
        self.abort_at = None
        self.gate.set()

    def _answer(self, event: evt.Event) -> int:
        request = event.request
        self.originators.add(
            (request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID)
        )
        self.gate.wait(30)
        if self.abort_at is not None and len(self.scp.received) >= self.abort_at:
            event.assoc.abort()
        return self.answers.get(str(request.AffectedSOPInstanceUID), 0)


@dataclass(frozen=True, slots=True)
class Site:
    """An archive, where it is asked, and where it sends to."""

    archive: ForwardingArchive
    server: DimseServer
    destination: Destination
    folder: Path

    def move(self, ds: Dataset, to: str = "PEER", model: str = STUDY_ROOT_MOVE) -> Retrieved:
        with mover(self.server) as assoc:
            return Retrieved(list(assoc.send_c_move(ds, to, model)))


def mover(server: DimseServer, calling: str = "WS1", *, relational: bool = False):
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = STUDY_ROOT_MOVE
    item.service_class_application_information = b"\1\1"
    models = (
        STUDY_ROOT_MOVE,
        PATIENT_ROOT_MOVE,
        PATIENT_STUDY_ONLY_MOVE,
        COMPOSITE_INSTANCE_ROOT_MOVE,
    )
    return associated(
        server.address,
        calling=calling,
        contexts=[build_context(uid, list(MESSAGE_SYNTAXES)) for uid in models],
        ext_neg=[item] if relational else [],
    )


@pytest.fixture(scope="module")
def destination() -> Iterator[Destination]:
    destination = Destination()
    yield destination
    destination.close()


@pytest.fixture(scope="module")
def whole_site(
    module_engine: Engine,
    destination: Destination,
    serve_find,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("objects")
    store = DirectoryStore(folder)
    configuration = f"""
query: {{max_associations: 3, retrievals: 2}}
forward: {{dimse_timeout: 3s, connect_timeout: 2s}}
partners:
  - {{ae_title: PEER, address: "127.0.0.1:{destination.scp.port}", calling_ae: GANTRYOUT}}
  - {{ae_title: WIDE, address: "127.0.0.1:{destination.wide.port}"}}
  - {{ae_title: WINDOW, address: "127.0.0.1:{destination.windowed.port}", window: 8}}
  - {{ae_title: NOBODY, address: "127.0.0.1:{free_port()}"}}
  - {{ae_title: WS1}}
  - {{ae_title: NORTH, partition: north}}
"""
    with serve_find(module_engine, configuration, store) as server:
        yield Site(ForwardingArchive(module_engine, store), server, destination, folder)


@pytest.fixture
def site(whole_site: Site) -> Iterator[Site]:
    whole_site.destination.reset()
    yield whole_site
    whole_site.destination.reset()
    until(lambda: not whole_site.server.active, "every association has ended")


def test_a_study_a_series_and_an_image_arrive_as_they_are_stored(site: Site) -> None:
    study, uids = site.archive.study(images=5)
    other = image(StudyInstanceUID=study)
    site.archive.index(stage(site.archive.store, other))
    moved = site.move(identifier("STUDY", StudyInstanceUID=study))
    assert (moved.status, moved.counts, moved.identifier) == (0, (6, 0, 0), None)
    assert "NumberOfRemainingSuboperations" not in moved.final
    assert moved.statuses[0].Status == 0xFF00
    assert moved.statuses[0].NumberOfRemainingSuboperations == 6
    assert sorted(site.destination.scp.uids()) == sorted([*uids, other.SOPInstanceUID])
    assert {syntax for _, syntax, _ in site.destination.scp.received} == {EXPLICIT}
    assert site.destination.originators == {("WS1", 1)}

    site.destination.reset()
    series = str(other.SeriesInstanceUID)
    moved = site.move(identifier("SERIES", StudyInstanceUID=study, SeriesInstanceUID=series))
    assert (moved.status, moved.counts) == (0, (1, 0, 0))
    assert site.destination.scp.uids() == [other.SOPInstanceUID]

    site.destination.reset()
    (its_series,) = {
        row[0]
        for row in rows(
            site.archive.engine,
            "SELECT e.series_instance_uid FROM series e JOIN instance i ON i.series_pk = e.pk"
            " WHERE i.sop_instance_uid = :uid",
            uid=uids[0],
        )
    }
    some = identifier(
        "IMAGE", StudyInstanceUID=study, SeriesInstanceUID=its_series, SOPInstanceUID=uids[1:4]
    )
    moved = site.move(some)
    assert (moved.status, moved.counts) == (0, (3, 0, 0))
    assert site.destination.scp.uids() == uids[1:4]


def test_a_patient_and_several_studies(site: Site) -> None:
    patient, studies, uids = new_uid()[-12:], [new_uid(), new_uid(), new_uid()], []
    for study in studies:
        ds = image(StudyInstanceUID=study, PatientID=patient)
        site.archive.index(stage(site.archive.store, ds))
        uids.append(str(ds.SOPInstanceUID))
    for model in (PATIENT_ROOT_MOVE, PATIENT_STUDY_ONLY_MOVE):
        site.destination.reset()
        moved = site.move(identifier("PATIENT", PatientID=patient), model=model)
        assert (moved.status, moved.counts) == (0, (3, 0, 0))
        assert sorted(site.destination.scp.uids()) == sorted(uids)
    ds = identifier("STUDY", PatientID=patient, StudyInstanceUID=studies[:2])
    moved = site.move(ds, model=PATIENT_ROOT_MOVE)
    assert (moved.status, moved.counts) == (0, (2, 0, 0))
    moved = site.move(identifier("STUDY", StudyInstanceUID=studies[1:]))
    assert (moved.status, moved.counts) == (0, (2, 0, 0))


def test_what_is_not_visible_or_elsewhere_is_not_there(site: Site) -> None:
    study, _ = site.archive.study(images=2)
    rows(
        site.archive.engine,
        "UPDATE study SET visible = false WHERE study_instance_uid = :uid RETURNING pk",
        uid=study,
    )
    moved = site.move(identifier("STUDY", StudyInstanceUID=study))
    assert (moved.status, moved.counts) == (0, (0, 0, 0))
    visible, _ = site.archive.study(images=2)
    with mover(site.server, calling="NORTH") as assoc:
        ds = identifier("STUDY", StudyInstanceUID=visible)
        moved = Retrieved(list(assoc.send_c_move(ds, "PEER", STUDY_ROOT_MOVE)))
    assert (moved.status, moved.counts) == (0, (0, 0, 0))
    assert site.destination.scp.received == []


def test_requests_that_make_no_sense(site: Site) -> None:
    study, _ = site.archive.study(images=1)
    unknown = site.move(identifier("STUDY", StudyInstanceUID=study), to="STRANGER")
    assert unknown.status == 0xA801
    for ds, offending in (
        (identifier("STUDY"), 0x0020000D),
        (identifier("STUDY", StudyInstanceUID=""), 0x0020000D),
        (identifier("SERIES", SeriesInstanceUID="1.2"), 0x0020000D),
        (identifier("PATIENT", PatientID="P"), 0x00080052),
        (identifier("FRAME", StudyInstanceUID=study), 0x00080052),
    ):
        moved = site.move(ds)
        assert moved.status == 0xA900
        assert moved.final.OffendingElement == offending
    assert site.destination.scp.received == []
    # The title of a destination in another case, and padded.
    assert site.move(identifier("STUDY", StudyInstanceUID=study), to="peer ").status == 0


def test_an_image_alone_where_that_was_negotiated(site: Site) -> None:
    _, uids = site.archive.study(images=3)
    ds = identifier("IMAGE", SOPInstanceUID=uids[1])
    assert site.move(ds).status == 0xA900
    with mover(site.server, relational=True) as assoc:
        assert assoc.acceptor.sop_class_extended == {STUDY_ROOT_MOVE: b"\1"}
        moved = Retrieved(list(assoc.send_c_move(ds, "PEER", STUDY_ROOT_MOVE)))
        assert (moved.status, moved.counts) == (0, (1, 0, 0))
        assert site.destination.scp.uids() == [uids[1]]
        without = Retrieved(list(assoc.send_c_move(identifier("IMAGE"), "PEER", STUDY_ROOT_MOVE)))
        assert without.status == 0xA900


def test_images_of_any_study_by_the_composite_instance_root(site: Site) -> None:
    (_, one), (_, other) = site.archive.study(images=2), site.archive.study(images=2)
    ds = identifier("IMAGE", SOPInstanceUID=[one[0], other[1]])
    moved = site.move(ds, model=COMPOSITE_INSTANCE_ROOT_MOVE)
    assert (moved.status, moved.counts) == (0, (2, 0, 0))
    assert sorted(site.destination.scp.uids()) == sorted([one[0], other[1]])
    for level in ("STUDY", "FRAME"):
        ds = identifier(level, SOPInstanceUID=one[0], StudyInstanceUID="1.2")
        assert site.move(ds, model=COMPOSITE_INSTANCE_ROOT_MOVE).status == 0xA900


def test_failures_and_warnings_are_counted_and_named(site: Site) -> None:
    study, uids = site.archive.study(images=6)
    refused = image(StudyInstanceUID=study, SOPClassUID=DOCUMENT)
    site.archive.index(stage(site.archive.store, refused))
    lost = rows(
        site.archive.engine,
        "SELECT object_id FROM instance WHERE sop_instance_uid = :uid",
        uid=uids[2],
    )[0][0]
    site.archive.store.delete(object_key(lost))
    site.destination.answers.update({uids[0]: 0xA700, uids[1]: 0xB007})
    moved = site.move(identifier("STUDY", StudyInstanceUID=study))
    assert (moved.status, moved.counts) == (0xB000, (3, 3, 1))
    assert sorted(moved.failed_uids) == sorted([uids[0], uids[2], refused.SOPInstanceUID])

    alone = identifier(
        "SERIES", StudyInstanceUID=study, SeriesInstanceUID=str(refused.SeriesInstanceUID)
    )
    moved = site.move(alone)
    assert (moved.status, moved.counts) == (0xA702, (0, 1, 0))
    assert moved.failed_uids == [refused.SOPInstanceUID]


def test_more_classes_than_one_association_has_contexts_for(site: Site) -> None:
    study = new_uid()
    sent = [image(StudyInstanceUID=study, SOPClassUID=uid) for uid in CLASSES]
    site.archive.index(*(stage(site.archive.store, ds) for ds in sent))
    moved = site.move(identifier("STUDY", StudyInstanceUID=study), to="WIDE")
    assert (moved.status, moved.counts) == (0, (len(CLASSES), 0, 0))
    assert sorted(site.destination.wide.uids()) == sorted(str(ds.SOPInstanceUID) for ds in sent)
    assert len(site.destination.associations) == 2


def test_an_object_that_was_cut_is_not_sent(site: Site) -> None:
    """Neither a small one, read before its turn, nor a large one, found out in the middle."""
    small = image()
    study = str(small.StudyInstanceUID)
    large = image(StudyInstanceUID=study, Rows=1024, Columns=1024, PixelData=bytes(2**21))
    others = [image(StudyInstanceUID=study, SeriesNumber="7") for _ in range(4)]
    sent = [stage(site.archive.store, ds) for ds in (small, large, *others)]
    site.archive.index(*sent)
    for each in sent[:2]:
        path = site.folder / object_key(each.object_id)
        path.write_bytes(path.read_bytes()[:-100])
    moved = site.move(identifier("STUDY", StudyInstanceUID=study))
    assert (moved.status, moved.counts) == (0xB000, (4, 2, 0))
    assert sorted(moved.failed_uids) == sorted([small.SOPInstanceUID, large.SOPInstanceUID])
    assert sorted(site.destination.scp.uids()) == sorted(str(d.SOPInstanceUID) for d in others)


def test_several_at_once_to_who_grants_it_and_counted_by_their_answers(site: Site) -> None:
    study, uids = site.archive.study(images=10)
    window = site.destination.window
    window.left, window.statuses = 10, {uids[2]: 0xC001, uids[6]: 0xB000}
    window.asked.clear()
    window.uids.clear()
    moved = site.move(identifier("STUDY", StudyInstanceUID=study), to="WINDOW")
    assert (moved.status, moved.counts) == (0xB000, (8, 1, 1))
    assert moved.failed_uids == [uids[2]]
    assert sorted(window.uids) == sorted(uids)
    assert window.asked == [8]


def test_of_several_at_once_only_who_ends_the_association_fails(site: Site) -> None:
    study, uids = site.archive.study(images=9)
    window = site.destination.window
    window.left, window.statuses, window.abort_at = 100, {}, lambda uid: uid == uids[4]
    window.asked.clear()
    window.uids.clear()
    moved = site.move(identifier("STUDY", StudyInstanceUID=study), to="WINDOW")
    window.abort_at = lambda _uid: False
    assert (moved.status, moved.counts) == (0xB000, (8, 1, 0))
    assert moved.failed_uids == [uids[4]]
    assert window.asked[0] == 8
    assert set(window.asked[1:]) == {1}


def test_a_destination_that_is_not_there(site: Site) -> None:
    study, uids = site.archive.study(images=4)
    moved = site.move(identifier("STUDY", StudyInstanceUID=study), to="NOBODY")
    assert (moved.status, moved.counts) == (0xA702, (0, 4, 0))
    assert sorted(moved.failed_uids) == sorted(uids)


def test_a_destination_that_goes_in_the_middle(site: Site) -> None:
    study, uids = site.archive.study(images=12)
    site.destination.abort_at = 4
    moved = site.move(identifier("STUDY", StudyInstanceUID=study))
    completed, failed, warning = moved.counts
    # It takes new associations and aborts each at its first instance: three are tried.
    assert (moved.status, completed, warning) == (0xB000, 3, 0)
    assert failed == 9
    assert len(moved.failed_uids) == 9
    assert set(moved.failed_uids) <= set(uids)
    assert len(site.destination.scp.received) == 6


def test_cancelled_in_the_middle(site: Site) -> None:
    study, _ = site.archive.study(images=10)
    site.destination.gate.clear()
    with mover(site.server) as assoc:
        ds = identifier("STUDY", StudyInstanceUID=study)
        responses = assoc.send_c_move(ds, "PEER", STUDY_ROOT_MOVE, msg_id=7)
        first, _ = next(responses)
        assert (first.Status, first.NumberOfRemainingSuboperations) == (0xFF00, 10)
        until(lambda: site.destination.scp.received, "the first is on its way")
        context = next(c for c in assoc.accepted_contexts if c.abstract_syntax == STUDY_ROOT_MOVE)
        assoc.send_c_cancel(7, context.context_id)
        time.sleep(0.3)
        site.destination.gate.set()
        moved = Retrieved(list(responses))
    assert moved.status == 0xFE00
    assert moved.counts == (1, 0, 0)
    assert moved.final.NumberOfRemainingSuboperations == 9
    assert len(site.destination.scp.received) == 1


def test_the_client_goes_in_the_middle(site: Site) -> None:
    study, _ = site.archive.study(images=10)
    site.destination.gate.clear()
    gone = {"service": "move", "partner": "WS1", "level": "study", "status": "gone"}
    before = sample("gantry_query_retrievals_total", **gone) or 0
    with mover(site.server) as assoc:
        ds = identifier("STUDY", StudyInstanceUID=study)
        next(assoc.send_c_move(ds, "PEER", STUDY_ROOT_MOVE))
        until(lambda: site.destination.scp.received, "the first is on its way")
        assoc.abort()
    until(lambda: not site.server.active, "the association has ended", seconds=5)
    until(lambda: sample("gantry_query_retrievals_total", **gone) == before + 1, "counted")
    site.destination.gate.set()
    # Both turns are free again.
    for _ in range(2):
        assert site.move(identifier("STUDY", StudyInstanceUID=new_uid())).status == 0
    assert len(site.destination.scp.received) == 1


def test_a_destination_that_hangs_is_given_up(site: Site) -> None:
    study, uids = site.archive.study(images=3)
    site.destination.gate.clear()
    moved = site.move(identifier("STUDY", StudyInstanceUID=study))
    site.destination.gate.set()
    assert (moved.status, moved.counts) == (0xA702, (0, 3, 0))
    assert sorted(moved.failed_uids) == sorted(uids)
    assert [status.Status for status in moved.statuses].count(0xFF00) >= 3


def test_more_retrievals_than_turns_wait_and_are_told_so(site: Site) -> None:
    study, _ = site.archive.study(images=1)
    site.destination.gate.clear()
    finals: list[Retrieved] = []

    def move() -> None:
        finals.append(site.move(identifier("STUDY", StudyInstanceUID=study)))

    threads = [threading.Thread(target=move) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(site.destination.scp.received) == 2, "two are sending")
    time.sleep(0.2)
    assert len(site.destination.scp.received) == 2
    site.destination.gate.set()
    for thread in threads:
        thread.join(30)
    assert [(moved.status, moved.counts) for moved in finals] == [(0, (1, 0, 0))] * 3
    counted = {"service": "move", "partner": "WS1", "outcome": "completed"}
    assert (sample("gantry_query_sub_operations_total", **counted) or 0) >= 3

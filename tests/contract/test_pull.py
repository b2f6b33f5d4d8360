"""Pulling from an archive that does all that archives do: pynetdicom as its SCP."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from gantry_archive.pulling import (
    NotKnownThere,
    Outcome,
    RemoteStudy,
    Source,
    Wanted,
    remote_studies,
)
from gantry_cli.pull import fetched
from gantry_dimse.find_and_move import FindRefused
from gantry_dimse.peer_errors import NoAcceptedContext, PeerBrokeProtocol, Unreachable
from gantry_dimse.requesting import Timeouts
from gantry_testkit.forwarding import AnsweringScp
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.ports import free_port
from gantry_testkit.stored import CT_IMAGE, image, new_uid

EXPLICIT = "1.2.840.10008.1.2.1"
TODAY = date(2026, 3, 1)


class Remote:
    """An archive with studies of CT images. `before_move` is called with each request."""

    def __init__(self, *, associations: int = 20, classes: tuple[str, ...] | None = None) -> None:
        self.images: dict[str, list[Dataset]] = {}
        self.matches: list[Dataset] = []
        self.find_status = 0x0000
        self.asked: list[Dataset] = []
        self.destinations: dict[str, int] = {}
        self.before_move: Callable[[evt.Event], None] = lambda event: None
        self.running = self.most = 0
        self._lock = threading.Lock()
        ae = PeerAE("REMOTE")
        ae.maximum_associations = associations
        for uid in classes or (
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
        ):
            ae.add_supported_context(uid)
        ae.add_requested_context(CT_IMAGE, EXPLICIT)
        handlers: list[Any] = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert self._server is not None
        self.source = Source(
            ae_title="REMOTE",
            host="127.0.0.1",
            port=self._server.server_address[1],
            calling_ae="GANTRY",
            destination="GANTRY",
            timeouts=Timeouts(connect=5, acse=10, dimse=20, network=20),
            quiet=20,
        )

    def study(self, images: int = 2) -> str:
        uid = new_uid()
        self.images[uid] = [image(StudyInstanceUID=uid) for _ in range(images)]
        return uid

    def match(self, **values: Any) -> None:
        """An answer to each C-FIND."""
        ds = Dataset()
        ds.QueryRetrieveLevel = "STUDY"
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        self.matches.append(ds)

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(event.identifier)
        for ds in self.matches:
            yield 0xFF00, ds
        yield self.find_status, None

    def _move(self, event: evt.Event) -> Iterator[Any]:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            self.before_move(event)
            port = self.destinations.get(event.move_destination.strip())
            if port is None:
                yield None, None
                return
            yield "127.0.0.1", port
            images = self.images.get(event.identifier.StudyInstanceUID, [])
            yield len(images)
            for ds in images:
                yield 0xFF00, ds
        finally:
            with self._lock:
                self.running -= 1

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def make_remote() -> Iterator[Callable[..., Remote]]:
    remotes: list[Remote] = []

    def make(**options: Any) -> Remote:
        remotes.append(Remote(**options))
        return remotes[-1]

    yield make
    for remote in remotes:
        remote.close()


@pytest.fixture
def remote(make_remote: Callable[..., Remote]) -> Remote:
    return make_remote()


def wanted(*uids: str) -> list[RemoteStudy]:
    return [RemoteStudy(uid, "20260101", "CT", None) for uid in uids]


def fetch(remote: Remote, *uids: str, at_once: int = 2) -> dict[str, Outcome]:
    outcomes = list(fetched(remote.source, wanted(*uids), at_once=at_once))
    assert len(outcomes) == len(uids)
    return {outcome.study.StudyInstanceUID: outcome for outcome in outcomes}


class TestFinding:
    def test_asks_day_by_day_and_names_each_study_once(self, remote: Remote) -> None:
        remote.match(
            StudyInstanceUID="1.2.3",
            StudyDate="20260101",
            ModalitiesInStudy=["CT", "SR"],
            NumberOfStudyRelatedInstances="12",
        )
        remote.match(StudyInstanceUID="1.2.4", ModalitiesInStudy="MR")
        remote.match(StudyInstanceUID="1.2.5")
        days = Wanted(since=date(2026, 1, 1), until=date(2026, 1, 2), modality="CT")
        found = list(remote_studies(remote.source, days, today=TODAY))
        # Who does not return the modalities has matched them, or could not.
        assert found == [
            RemoteStudy("1.2.3", "20260101", "CT\\SR", 12),
            RemoteStudy("1.2.5", "", "", None),
        ]
        assert [ds.StudyDate for ds in remote.asked] == ["20260101", "20260102"]
        assert {ds.ModalitiesInStudy for ds in remote.asked} == {"CT"}
        assert {ds.QueryRetrieveLevel for ds in remote.asked} == {"STUDY"}
        assert all("NumberOfStudyRelatedInstances" in ds for ds in remote.asked)

    def test_ends_with_what_the_archive_refuses(self, remote: Remote) -> None:
        remote.match(StudyInstanceUID="1.2.3")
        remote.find_status = 0xA700
        with pytest.raises(FindRefused, match="A700"):
            list(remote_studies(remote.source, Wanted(), today=TODAY))

    def test_believes_no_match_without_a_uid(self, remote: Remote) -> None:
        remote.match(StudyDate="20260101")
        with pytest.raises(PeerBrokeProtocol, match="without a Study Instance UID"):
            list(remote_studies(remote.source, Wanted(), today=TODAY))

    def test_needs_an_archive_that_can_be_asked(self, make_remote: Callable[..., Remote]) -> None:
        deaf = make_remote(classes=("1.2.840.10008.1.1",))
        with pytest.raises(NoAcceptedContext):
            list(remote_studies(deaf.source, Wanted(), today=TODAY))


class TestFetching:
    def test_brings_every_study_at_most_so_many_at_once(
        self, remote: Remote, start_scp: Callable[..., AnsweringScp]
    ) -> None:
        scp = start_scp()
        remote.destinations["GANTRY"] = scp.port
        studies = [remote.study(images=2) for _ in range(6)]
        outcomes = fetch(remote, *studies, at_once=3)
        assert {(outcome.instances, outcome.why) for outcome in outcomes.values()} == {(2, "")}
        sent = [str(ds.SOPInstanceUID) for images in remote.images.values() for ds in images]
        assert sorted(scp.uids()) == sorted(sent)
        assert remote.most <= 3

    def test_names_what_failed_and_goes_on(
        self, remote: Remote, start_scp: Callable[..., AnsweringScp]
    ) -> None:
        good, half, lost, gone = remote.study(), remote.study(images=3), remote.study(), new_uid()
        refused = str(remote.images[half][1].SOPInstanceUID)

        def answer(event: evt.Event) -> int:
            return 0xA700 if event.request.AffectedSOPInstanceUID == refused else 0x0000

        def cut_off(event: evt.Event) -> None:
            if event.identifier.StudyInstanceUID == lost:
                event.assoc.abort()

        remote.destinations["GANTRY"] = start_scp(answer).port
        remote.before_move = cut_off
        outcomes = fetch(remote, lost, half, gone, good, at_once=1)
        assert outcomes[good] == Outcome(outcomes[good].study, 2)
        assert outcomes[half].instances == 2
        assert outcomes[half].why == "1 of 3 instances failed"
        assert outcomes[gone].why == "it has nothing of it to send"
        assert "abort" in outcomes[lost].why

    def test_an_archive_that_does_not_know_us_ends_it(self, remote: Remote) -> None:
        studies = [remote.study() for _ in range(3)]
        with pytest.raises(NotKnownThere, match="does not know the AE title GANTRY"):
            fetch(remote, *studies)

    def test_one_association_is_enough(
        self, make_remote: Callable[..., Remote], start_scp: Callable[..., AnsweringScp]
    ) -> None:
        remote = make_remote(associations=1)
        remote.destinations["GANTRY"] = start_scp().port
        studies = [remote.study() for _ in range(4)]
        outcomes = fetch(remote, *studies, at_once=4)
        assert {outcome.why for outcome in outcomes.values()} == {""}

    def test_an_archive_that_is_away_is_named(self, remote: Remote) -> None:
        away = replace(remote.source, port=free_port())
        with pytest.raises(Unreachable):
            list(fetched(away, wanted("1.2.3", "1.2.4"), at_once=2))

    def test_who_stops_to_listen_ends_it(
        self, remote: Remote, start_scp: Callable[..., AnsweringScp]
    ) -> None:
        """As Ctrl-C does: what is on its way is given up, and no thread stays behind."""
        studies = [remote.study() for _ in range(3)]
        arrived = threading.Event()
        released = threading.Event()

        def hold(event: evt.Event) -> None:
            if event.identifier.StudyInstanceUID != studies[0]:
                arrived.set()
                released.wait(20)

        remote.before_move = hold
        remote.destinations["GANTRY"] = start_scp().port
        outcomes = fetched(remote.source, wanted(*studies), at_once=1)
        assert not next(outcomes).why
        assert arrived.wait(20)
        outcomes.close()  # type: ignore[attr-defined]
        released.set()
        assert not [t for t in threading.enumerate() if t.name.startswith("pull")]

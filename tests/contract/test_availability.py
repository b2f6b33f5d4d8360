"""Instance Availability Notification: partners hear what can be retrieved, and what no longer."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import InstanceAvailabilityNotification
from sqlalchemy.engine import Engine

from gantry_archive.completing import complete_studies
from gantry_archive.deciding import Decider
from gantry_archive.own_statement import own_statement
from gantry_domain.completeness import QuietTimes
from gantry_domain.conformance.model import Statement, StatusClaim
from gantry_domain.decisions import DecisionKind
from gantry_domain.deletions import Deletion
from gantry_domain.errors import ConfigurationError
from gantry_domain.events import Event, EventKind, Happening
from gantry_domain.keys import new_object_id
from gantry_domain.telling import Answer, Outcome
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index import subscribers as lines
from gantry_stores.index.database import transaction
from gantry_stores.index.deleting import delete
from gantry_stores.index.events import note
from gantry_stores.index.judged_studies import find_judged
from gantry_stores.index.subscribers import SubscriberLine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.ports import free_port
from gantry_testkit.stored import NO_POLICIES, image, new_uid, stage
from gantry_testkit.waiting import until
from gantry_worker.availability_teller import availability_subscriptions
from gantry_worker.subscribers import Subscribers

SUBSCRIBER = "ian:RIS"


class Ris:
    """pynetdicom as a system that is told; it answers with `statuses` first."""

    def __init__(self, *statuses: int) -> None:
        self.port = free_port()
        self.told: list[tuple[str, Dataset]] = []
        """The UID of each notification and what it says."""
        self.callers: set[str] = set()
        self._statuses = list(statuses)

    def answer(self, status: int) -> None:
        """The next notification, with this."""
        self._statuses = [status]

    @contextmanager
    def listening(self) -> Iterator[None]:
        ae = PeerAE("RIS")
        ae.add_supported_context(InstanceAvailabilityNotification)
        server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_N_CREATE, self._create)]
        )
        try:
            yield
        finally:
            server.shutdown()

    def _create(self, event: evt.Event) -> tuple[int, Dataset | None]:
        self.callers.add(event.assoc.requestor.ae_title)
        self.told.append((str(event.request.AffectedSOPInstanceUID), event.attribute_list))
        return (self._statuses.pop(0) if self._statuses else 0), None

    def said(self, number: int) -> tuple[str, dict[str, str]]:
        """The study of a notification, and what it says of each instance."""
        ds = self.told[number][1]
        assert ds.ReferencedPerformedProcedureStepSequence == []
        found = {}
        for series in ds.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                assert item.RetrieveAETitle == "HOSPITAL"
                assert item.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
                found[str(item.ReferencedSOPInstanceUID)] = str(item.InstanceAvailability)
        return str(ds.StudyInstanceUID), found


class Scene:
    """An archive, and a worker that tells one partner of it."""

    def __init__(self, engine: Engine, url: str, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.url = url.replace("postgresql+psycopg", "postgresql")
        self.archive = ForwardingArchive(engine, DirectoryStore(folder / "objects"))

    def settings(self, ris: Ris, more: str = "notify: ian") -> Settings:
        file = self.folder / "gantry.yaml"
        file.write_text(
            f"database: {self.url}\n"
            "ae_titles: [HOSPITAL]\n"
            "forward: {backoff: {first: 300ms, longest: 300ms}, connect_timeout: 2s}\n"
            f"partners: [{{ae_title: RIS, address: '127.0.0.1:{ris.port}', calling_ae: OUT,"
            f" {more}}}]\n"
        )
        return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(self.folder)})

    @contextmanager
    def telling(self, ris: Ris) -> Iterator[None]:
        settings = self.settings(ris)
        assert settings.subscribers == (SUBSCRIBER,)
        with transaction(self.engine) as connection:
            lines.add_subscribers(connection, settings.subscribers)
        stopping = threading.Event()
        subscribers = Subscribers(settings, stopping=stopping)
        subscribers.start()
        try:
            yield
        finally:
            stopping.set()
            assert subscribers.join(10)

    def study(self, *, images: int = 2) -> tuple[str, list[str]]:
        found = self.archive.study(images=images)
        self.complete()
        return found

    def complete(self) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        quiet = QuietTimes(default=timedelta(minutes=5))
        assert complete_studies(self.engine, quiet, all_indexed_until=later, now=later) == 1

    def delete(self, study: str, instance: str | None = None, series: str | None = None) -> None:
        deletion = Deletion(
            id=new_object_id(),
            partition="main",
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=instance,
            deleted_at=datetime.now(UTC),
            deleted_by="ann",
        )
        with transaction(self.engine) as connection:
            assert delete(connection, deletion)

    def refuse(self, study: str) -> None:
        decider = Decider(
            store=self.archive.store, engine=self.engine, policies=NO_POLICIES, feed=None
        )
        with transaction(self.engine) as connection:
            (found,) = find_judged(connection, study)
        decider.decide(found, DecisionKind.REFUSE, by="ann", reason="of another hospital")

    def line(self) -> SubscriberLine:
        with transaction(self.engine) as connection:
            (found,) = lines.list_subscribers(connection, [SUBSCRIBER])
        return found


@pytest.fixture
def scene(engine: Engine, postgres_url: str, tmp_path: Path) -> Scene:
    return Scene(engine, postgres_url, tmp_path)


def test_a_complete_study_is_online_again_with_what_came_late_until_it_goes(scene: Scene) -> None:
    ris = Ris()
    with ris.listening(), scene.telling(ris):
        study, uids = scene.study()
        until(lambda: len(ris.told) == 1)
        assert ris.said(0) == (study, dict.fromkeys(uids, "ONLINE"))
        late = image(StudyInstanceUID=study)
        scene.archive.index(stage(scene.archive.store, late))
        scene.complete()
        until(lambda: len(ris.told) == 2)
        everything = [*uids, str(late.SOPInstanceUID)]
        assert ris.said(1) == (study, dict.fromkeys(everything, "ONLINE"))
        other, of_other = scene.study()
        until(lambda: len(ris.told) == 3)
        scene.refuse(other)
        until(lambda: len(ris.told) == 4)
        assert ris.said(3) == (other, dict.fromkeys(of_other, "UNAVAILABLE"))
        never, _uids = scene.archive.study(images=1)
        scene.refuse(never)  # nobody has heard of it, and nobody does
        scene.delete(study, str(late.SOPInstanceUID), str(late.SeriesInstanceUID))
        until(lambda: len(ris.told) == 5)
        assert ris.said(4) == (study, {str(late.SOPInstanceUID): "UNAVAILABLE"})
        scene.delete(study)
        until(lambda: len(ris.told) == 6)
        assert ris.said(5) == (study, dict.fromkeys(everything, "UNAVAILABLE"))
    assert ris.callers == {"OUT"}
    assert len({uid for uid, _ in ris.told}) == 6


def test_it_is_told_again_until_it_is_taken(scene: Scene) -> None:
    ris = Ris(0x0110, 0x0213, 0x0111)
    with scene.telling(ris):
        study, _uids = scene.study()
        until(lambda: scene.line().failures >= 1)  # nobody is there
        with ris.listening():
            until(lambda: scene.line().behind is None)
            assert len(ris.told) == 3  # the third time it says that it has it
            assert len({uid for uid, _ in ris.told}) == 1
            assert ris.said(2)[0] == study


def test_what_is_refused_is_kept_with_its_status(scene: Scene) -> None:
    ris = Ris(0x0106)
    with ris.listening(), scene.telling(ris):
        scene.study()
        until(lambda: scene.line().refused == 1)
        assert scene.line().reason == "status 0106"
        study, _uids = scene.study()
        until(lambda: len(ris.told) == 2)
        assert ris.said(1)[0] == study


# By what our statement claims of an answer: what becomes of the notification.
CLAIMED = {
    "the notification counts as taken": Outcome.TAKEN,
    "the notification is sent again later, with growing delays": Outcome.LATER,
    "nothing is notified there for a while, and then all of it again": Outcome.AWAY,
    "the notification is kept, and not sent again by itself": Outcome.REFUSED,
}


def test_what_a_partner_answers_means_what_is_claimed(scene: Scene) -> None:
    ris = Ris()
    assert notified(own_statement(scene.settings(ris, "prove: find"))) == []
    settings = scene.settings(ris)
    claims = notified(own_statement(settings))
    assert {CLAIMED[claim.behaviour] for claim in claims} == set(Outcome)
    (subscription,) = availability_subscriptions(settings)
    study, _uids = scene.study()
    happening = Happening(kind=EventKind.COMPLETE, partition="main", StudyInstanceUID=study)
    with ris.listening(), closing(subscription.teller(scene.engine)) as teller:
        for number, claim in enumerate(claims):
            ris.answer(int(claim.code, 16))
            answer = teller.tell(Event(number, datetime.now(UTC), happening))
            assert answer is not None
            assert answer.outcome is CLAIMED[claim.behaviour], claim
        ris.answer(0xC123)
        answer = teller.tell(Event(99, datetime.now(UTC), happening))
        assert answer == Answer(Outcome.REFUSED, "status C123")
    assert len(ris.told) == len(claims) + 1


def notified(statement: Statement) -> list[StatusClaim]:
    return [each for each in statement.statuses if "Notification" in each.service]


def test_a_big_study_is_told_in_parts(scene: Scene) -> None:
    ris = Ris()
    with ris.listening(), scene.telling(ris):
        study, uids = new_uid(), [new_uid() for _ in range(1001)]
        one_series = {"StudyInstanceUID": study, "SeriesInstanceUID": new_uid()}
        fill(scene.engine, [indexed({**one_series, "SOPInstanceUID": uid}) for uid in uids])
        happening = Happening(kind=EventKind.COMPLETE, partition="main", StudyInstanceUID=study)
        with transaction(scene.engine) as connection:
            note(connection, [happening])
        until(lambda: len(ris.told) == 2)
        found = [ris.said(0), ris.said(1)]
        assert [(of, len(said)) for of, said in found] == [(study, 1000), (study, 1)]
        assert {uid for _, said in found for uid in said} == set(uids)
        until(lambda: scene.line().behind is None)


def test_who_is_told_has_an_address(scene: Scene) -> None:
    with pytest.raises(ConfigurationError, match="notify is over DIMSE: it needs an address"):
        load_settings(
            {
                "GANTRY_CONFIG": str(_written(scene.folder)),
                "GANTRY_DATA": str(scene.folder),
            }
        )


def _written(folder: Path) -> Path:
    file = folder / "wrong.yaml"
    file.write_text("partners: [{ae_title: RIS, notify: ian}]\n")
    return file

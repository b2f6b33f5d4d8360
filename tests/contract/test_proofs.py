"""A delivery is proved when its destination says that it keeps it, and not before."""

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy.engine import Engine

from gantry_archive.dimse_door import partners_of
from gantry_archive.served_contexts import storage_contexts
from gantry_archive.transforms import AS_THEY_ARE, Transforms
from gantry_domain.deidentification.pseudonyms import Pseudonyms
from gantry_domain.deliveries import DeliveryState
from gantry_ingress.committing import commitment_operations
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.commitment import Keeper
from gantry_testkit.door import Door
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.peers import dcmqrscp, orthanc
from gantry_testkit.ports import free_port
from gantry_testkit.stored import new_uid, rows
from gantry_testkit.waiting import until
from gantry_worker.proofs import Proofs

KEY = "a key of thirty-two characters.."
HIDING = Transforms(pseudonyms=Pseudonyms(KEY.encode()))
_SECTION = "{wait: 2s, answer_within: 1s, attempts: 2, resends: 1}"


class Scene:
    """An archive whose front door hears reports."""

    def __init__(self, engine: Engine, url: str, folder: Path) -> None:
        self.engine, self.url, self.folder = engine, url, folder
        self.archive = ForwardingArchive(engine, DirectoryStore(folder / "objects"))
        self.threads = ThreadPoolExecutor(2)
        self.door = self.open_door(self.settings("PEER", free_port(), "commitment"))

    def open_door(self, settings: Settings) -> Door:
        """Where reports are heard."""
        partners = partners_of(settings, settings.ingress, accept_unknown=True)
        return Door(
            supported=storage_contexts(settings),
            admit=partners.admit,
            operations=commitment_operations(
                settings, engine=self.engine, threads=self.threads, partners=partners
            ),
        )

    def settings(self, title: str, port: int, prove: str, more: str = "") -> Settings:
        file = self.folder / "gantry.yaml"
        database = self.url.replace("postgresql+psycopg", "postgresql")
        file.write_text(
            f"database: {database}\n"
            f"forward: {{proof: {_SECTION}, backoff: {{first: 1s, longest: 1s}}}}\n"
            f"partners: [{{ae_title: {title}, address: '127.0.0.1:{port}', prove: {prove}{more}}}]"
        )
        return load_settings(
            {
                "GANTRY_CONFIG": str(file),
                "GANTRY_DATA": str(self.folder),
                "GANTRY_DEIDENTIFYING_KEY": KEY,
            }
        )

    @contextmanager
    def proving(
        self, port: int, *, title: str = "PEER", prove: str = "commitment", more: str = ""
    ) -> Iterator[None]:
        """A worker that asks this destination."""
        stopping = threading.Event()
        proofs = Proofs(self.settings(title, port, prove, more), stopping=stopping)
        proofs.start()
        try:
            yield
        finally:
            stopping.set()
            assert proofs.join(30)

    def deliver(
        self,
        port: int,
        *,
        images: int,
        title: str = "PEER",
        prove: str = "commitment",
        transforms: Transforms = AS_THEY_ARE,
    ) -> tuple[int, list[str]]:
        """A study that has arrived: its delivery, and its instances."""
        study, uids = self.archive.study(images=images)
        pk = self.archive.push(study, title)
        finished = self.archive.send(port, to=title, prove=prove, transforms=transforms)
        assert finished.settlement.state is DeliveryState.DELIVERED
        return pk, uids

    def proof(self, pk: int) -> tuple[Any, ...]:
        """State and reason, and how many items are proved."""
        (found,) = rows(
            self.engine,
            "SELECT f.state, f.reason, (SELECT count(*) FROM delivery_item p"
            " WHERE p.delivery_pk = f.delivery_pk AND p.proved_at IS NOT NULL)"
            " FROM proof f WHERE f.delivery_pk = :pk",
            pk=pk,
        )
        return found

    def proved(self, pk: int, number: int) -> None:
        until(lambda: self.proof(pk) == ("proved", None, number), "it is proved")
        assert self.archive.line(pk).proof == "proved"


@pytest.fixture(scope="module")
def scene(module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    engine = make_engine(module_postgres_url, pool_size=8)
    scene = Scene(engine, module_postgres_url, tmp_path_factory.mktemp("proofs"))
    yield scene
    scene.door.server.close()
    scene.threads.shutdown()
    engine.dispose()


@pytest.fixture
def keeper(scene: Scene) -> Iterator[Callable[[str], Keeper]]:
    made: list[Keeper] = []

    def make(reports: str) -> Keeper:
        made.append(Keeper(reports, port_of_asker=scene.door.port))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("reports", ["new", "same"])
def test_what_is_not_kept_is_sent_again_and_then_all_is_proved(
    scene: Scene, keeper: Callable[[str], Keeper], reports: str
) -> None:
    peer = keeper(reports)
    pk, uids = scene.deliver(peer.port, images=3)
    assert scene.proof(pk) == ("due", None, 0)
    peer.loses = {uids[1]}
    with scene.proving(peer.port):
        until(lambda: scene.proof(pk)[0] == "resending", "it is known what is missing")
        assert scene.archive.line(pk).state is DeliveryState.WAITING
        scene.archive.send(peer.port, prove="commitment")
        scene.proved(pk, 3)
    assert sorted(peer.received) == sorted([*uids, uids[1]])
    # Only what is not proved is asked for again.
    assert [len(each.ReferencedSOPSequence) for each in peer.asked] == [3, 1]
    until(lambda: peer.answers == [0, 0], "both reports were taken")


@pytest.mark.parametrize("reports", ["new", "same"])
def test_who_knows_them_under_other_uids_is_asked_by_these(scene: Scene, reports: str) -> None:
    door = scene.open_door(scene.settings("PEER", 1, "commitment", ", deidentify: true"))
    peer = Keeper(reports, port_of_asker=door.port)
    try:
        pk, uids = scene.deliver(peer.port, images=2, transforms=HIDING)
        theirs = [HIDING.uid(uid) for uid in uids]
        assert sorted(peer.received) == sorted(theirs)
        peer.loses = {theirs[1]}
        with scene.proving(peer.port, more=", deidentify: true"):
            until(lambda: scene.proof(pk)[0] == "resending", "it is known what is missing")
            assert scene.archive.items(pk)[uids[1]][::2] == ("failed", "not committed (0112)")
            scene.archive.send(peer.port, prove="commitment", transforms=HIDING)
            scene.proved(pk, 2)
    finally:
        peer.close()
        door.server.close()


def test_what_is_never_kept_ends_as_refused(scene: Scene, keeper: Callable[[str], Keeper]) -> None:
    peer = keeper("new")
    pk, uids = scene.deliver(peer.port, images=2)
    peer.loses = {uids[0]}
    with scene.proving(peer.port):
        until(lambda: scene.proof(pk)[0] == "resending", "it is missing")
        peer.loses = {uids[0]}
        scene.archive.send(peer.port, prove="commitment")
        until(lambda: scene.proof(pk)[0] == "failed", "it is missing again")
    assert scene.archive.line(pk).state is DeliveryState.DEAD
    assert scene.archive.items(pk)[uids[0]][::2] == ("refused", "not committed (0112)")


def test_without_a_report_it_stays_without_proof_and_a_late_one_counts(
    scene: Scene, keeper: Callable[[str], Keeper]
) -> None:
    peer = keeper("never")
    pk, _uids = scene.deliver(peer.port, images=1)
    with scene.proving(peer.port):
        until(lambda: scene.proof(pk)[0] == "failed", "nobody waits any more")
    assert scene.proof(pk)[1] == "no answer to 2 questions"
    assert len(peer.asked) == 2
    assert scene.archive.line(pk).state is DeliveryState.DELIVERED
    report = peer.report_on(peer.asked[0])
    empty = Dataset()
    empty.RetrieveAETitle = "PEER"
    stranger = copy.deepcopy(report)
    stranger.TransactionUID = new_uid()
    peer.tell(stranger)
    peer.tell(report, event_type=3)
    peer.tell(empty)
    peer.tell(report)
    assert peer.answers == [0x0115, 0x0113, 0x0115, 0x0000]
    scene.proved(pk, 1)


def test_a_destination_that_is_away_is_asked_when_it_is_back(
    scene: Scene, keeper: Callable[[str], Keeper]
) -> None:
    peer = keeper("same")
    pk, _uids = scene.deliver(peer.port, images=1)
    nobody = free_port()
    with scene.proving(nobody):
        until(
            lambda: rows(
                scene.engine,
                "SELECT 1 FROM proof WHERE delivery_pk = :pk AND due_at > now()",
                pk=pk,
            ),
            "it was tried",
        )
    with scene.proving(peer.port):
        scene.proved(pk, 1)


def test_orthanc_commits(scene: Scene, tmp_path: Path) -> None:
    options = {
        "DicomModalities": {"gantry": ["GANTRY", "127.0.0.1", scene.door.port]},
        "StorageCommitmentReportsSize": 100,
    }
    with orthanc(tmp_path / "peer", options=options) as peer:
        # To the front door it is whom its own title names.
        pk, _uids = scene.deliver(peer.port, images=2, title="ORTHANC")
        with scene.proving(peer.port, title="ORTHANC"):
            scene.proved(pk, 2)


def test_a_query_proves_what_it_finds(scene: Scene, tmp_path: Path) -> None:
    with dcmqrscp(tmp_path / "peer") as peer:
        hidden, _uids = scene.deliver(
            peer.port, images=2, title="DCMQRSCP", prove="find", transforms=HIDING
        )
        with scene.proving(peer.port, title="DCMQRSCP", prove="find", more=", deidentify: true"):
            scene.proved(hidden, 2)
        pk, uids = scene.deliver(peer.port, images=3, title="DCMQRSCP", prove="find")
        # As if it had lost it: under this UID it never got anything.
        rows(
            scene.engine,
            "UPDATE delivery_item SET sop_instance_uid = '1.2.3.4' WHERE delivery_pk = :pk"
            " AND sop_instance_uid = :uid RETURNING 1",
            pk=pk,
            uid=uids[2],
        )
        with scene.proving(peer.port, title="DCMQRSCP", prove="find"):
            until(lambda: scene.proof(pk)[0] == "resending", "it is missing")
    assert scene.proof(pk)[2] == 2
    assert scene.archive.items(pk)["1.2.3.4"][0] == "failed"

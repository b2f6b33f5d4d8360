"""Storage commitment asked of us: true answers, and a requester who hears them in the end."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid
from sqlalchemy.engine import Engine

from gantry_archive.completing import complete_studies
from gantry_archive.dimse_door import partners_of
from gantry_archive.served_contexts import storage_contexts
from gantry_domain.keys import object_key
from gantry_ingress.committing import commitment_operations
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index import commitments as commitment_rows
from gantry_stores.index.database import transaction
from gantry_stores.objects import DirectoryStore
from gantry_testkit.commitment import Pair, Requester, action_information
from gantry_testkit.door import Door
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.ports import free_port
from gantry_testkit.stored import CT_IMAGE, encoded, image, rows, stage
from gantry_testkit.waiting import until
from gantry_worker.commitments import Commitments


class Scene:
    """An archive with its front door, and devices that are partners of it."""

    def __init__(self, engine: Engine, url: str, folder: Path) -> None:
        self.engine = engine
        self.archive = ForwardingArchive(engine, DirectoryStore(folder / "objects"))
        self.folder = folder
        self.url = url
        self.ports = {title: free_port() for title in ("MODALITY", "AWAY", "NOISY", "SAME")}
        self.settings = self._settings()
        self.threads = ThreadPoolExecutor(4)
        limits = self.settings.ingress
        partners = partners_of(self.settings, limits, accept_unknown=True)
        self.door = Door(
            supported=storage_contexts(self.settings),
            admit=partners.admit,
            operations=commitment_operations(
                self.settings, engine=engine, threads=self.threads, partners=partners
            ),
        )

    def _settings(self) -> Settings:
        file = self.folder / "gantry.yaml"
        database = self.url.replace("postgresql+psycopg", "postgresql")
        partners = "".join(
            f"  - {{ae_title: {title}, address: 'localhost:{port}'"
            f"{', commitment_report: same' if title == 'SAME' else ''}}}\n"
            for title, port in self.ports.items()
        )
        file.write_text(
            f"database: {database}\nae_titles: [GANTRY, OLDPACS]\n"
            "commitment: {backoff: {first: 1s, longest: 1s}}\n"
            "complete_after: {default: 5m, committed: {MODALITY: 1m}}\n"
            f"partners:\n{partners}  - {{ae_title: CAMERA, may: [find]}}\n"
        )
        return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(self.folder)})

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker that answers."""
        stopping = threading.Event()
        commitments = Commitments(
            self.settings, store=lambda: self.archive.store, stopping=stopping
        )
        commitments.start()
        try:
            yield
        finally:
            stopping.set()
            assert commitments.join(30)

    def caught_up(self) -> None:
        """What the sweep says when it has looked."""
        with transaction(self.engine) as connection:
            commitment_rows.note_caught_up(connection, datetime.now(UTC) + timedelta(minutes=1))

    def complete(self, study: str, *, after: timedelta) -> bool:
        """Whether it is, when the sweep ran at such a time from now."""
        now = datetime.now(UTC) + after
        quiet = self.settings.complete_after.quiet_times()
        complete_studies(self.engine, quiet, all_indexed_until=now, now=now)
        ((found,),) = rows(
            self.engine,
            "SELECT coalesce(completed_revision = revision, false) FROM study"
            " WHERE study_instance_uid = :uid",
            uid=study,
        )
        return bool(found)

    def state(self, TransactionUID: str) -> tuple[Any, ...]:
        """State and reason of a request."""
        (found,) = rows(
            self.engine,
            "SELECT state, reason FROM commitment WHERE transaction_uid = :uid AND NOT conflicting",
            uid=TransactionUID,
        )
        return found

    def close(self) -> None:
        self.door.server.close()
        self.threads.shutdown()


@pytest.fixture(scope="module")
def scene(
    module_engine: Engine, module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    scene = Scene(module_engine, module_postgres_url, tmp_path_factory.mktemp("commitment"))
    yield scene
    scene.close()


@pytest.fixture
def requester(scene: Scene) -> Iterator[Callable[..., Requester]]:
    made: list[Requester] = []

    def make(title: str = "MODALITY", **options: Any) -> Requester:
        made.append(Requester(title, port=scene.ports.get(title, 0), **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def pairs(*uids: str) -> list[Pair]:
    return [(CT_IMAGE, uid) for uid in uids]


def test_what_is_kept_is_committed_from_the_title_that_was_asked(
    scene: Scene, requester: Callable[..., Requester]
) -> None:
    _study, uids = scene.archive.study(images=3)
    device = requester()
    asked = generate_uid()
    with scene.working():
        information = action_information(asked, pairs(*uids, uids[0]))
        assert device.ask(scene.door.port, information, called_ae="OLDPACS") == 0
        until(lambda: device.told, "it is told")
        (told,) = device.told
        assert (told.event_type, told.TransactionUID) == (1, asked)
        assert (told.calling_ae, told.retrieve_ae) == ("OLDPACS", "OLDPACS")
        assert (sorted(told.committed), told.failed) == (sorted(uids), {})
        until(lambda: scene.state(asked)[0] == "reported", "that is known")
        # The same again is answered again.
        device.ask(scene.door.port, information)
        until(lambda: len(device.told) == 2, "it is told again")
        assert sorted(device.told[1].committed) == sorted(uids)
        # Another question under the same number is not.
        device.ask(scene.door.port, action_information(asked, pairs(uids[0])))
        until(lambda: len(device.told) == 3, "it is told what is wrong")
        assert device.told[2].failed == {uids[0]: 0x0131}
        assert scene.state(asked)[0] == "reported"


def test_who_asks_to_keep_all_of_a_study_is_through_with_it(
    scene: Scene, requester: Callable[..., Requester]
) -> None:
    study, uids = scene.archive.study(images=3)
    never, soon = generate_uid(), timedelta(seconds=100)
    device, stranger = requester(), requester("AWAY")

    def asks(who: Requester, *named: str) -> None:
        before = len(who.told)
        who.ask(scene.door.port, action_information(generate_uid(), pairs(*named)))
        scene.caught_up()
        until(lambda: len(who.told) > before, "it is told")

    with scene.working():
        asks(device, *uids[:2])
        asks(device, *uids, never)
        asks(stranger, *uids)
        assert not scene.complete(study, after=soon)
        asks(device, *uids)
        assert not scene.complete(study, after=timedelta())
        late = image(StudyInstanceUID=study)
        scene.archive.index(stage(scene.archive.store, late))
        assert not scene.complete(study, after=soon)
        asks(device, *uids, str(late.SOPInstanceUID))
        assert scene.complete(study, after=soon)
    assert rows(scene.engine, "SELECT calling_ae FROM study_asked") == []


def test_what_is_not_kept_fails_with_its_reason_and_the_rest_is_committed(
    scene: Scene, requester: Callable[..., Requester]
) -> None:
    _study, uids = scene.archive.study(images=4)
    store = scene.archive.store
    gone, changed, shorter, kept = uids
    keys = {
        uid: object_key(object_id)
        for uid, object_id in rows(
            scene.engine,
            "SELECT sop_instance_uid, id FROM object WHERE sop_instance_uid = ANY(:uids)",
            uids=uids,
        )
    }
    store.delete(keys[gone])
    content = store.read(keys[changed])
    rewritten(store, keys[changed], content[:-1] + bytes([content[-1] ^ 1]))
    rewritten(store, keys[shorter], store.read(keys[shorter])[:-2])
    cut = image()
    scene.archive.index(stage(store, encoded(cut)[:-100]))
    never = generate_uid()
    device = requester()
    information = action_information(
        generate_uid(),
        [
            *pairs(gone, changed, shorter, kept, never, str(cut.SOPInstanceUID)),
            ("1.2.840.10008.5.1.4.1.1.4", scene.archive.study(images=1)[1][0]),
            ("1.2.3.4", "1.2.3.5"),
        ],
    )
    with scene.working():
        assert device.ask(scene.door.port, information) == 0
        scene.caught_up()
        until(lambda: device.told, "it is told")
    (told,) = device.told
    assert (told.event_type, told.committed) == (2, [kept])
    conflicting = information.ReferencedSOPSequence[6].ReferencedSOPInstanceUID
    assert told.failed == {
        gone: 0x0112,
        changed: 0x0110,
        shorter: 0x0110,
        never: 0x0112,
        str(cut.SOPInstanceUID): 0x0110,
        str(conflicting): 0x0119,
        "1.2.3.5": 0x0122,
    }


def rewritten(store: Any, key: str, content: bytes) -> None:
    store.delete(key)
    writer = store.create(key)
    writer.write([content])
    writer.commit()


def test_a_request_before_the_index_waits_for_it(
    scene: Scene, requester: Callable[..., Requester]
) -> None:
    ds = image()
    sent = stage(scene.archive.store, ds)
    device = requester()
    asked = generate_uid()
    with scene.working():
        device.ask(scene.door.port, action_information(asked, pairs(str(ds.SOPInstanceUID))))
        until(
            lambda: rows(
                scene.engine,
                "SELECT 1 FROM commitment WHERE transaction_uid = :uid AND due_at > now()"
                " AND state = 'waiting'",
                uid=asked,
            ),
            "it was looked at",
        )
        assert not device.told
        scene.archive.index(sent)
        until(lambda: device.told, "it is told")
    assert device.told[0].committed == [str(ds.SOPInstanceUID)]


def test_a_requester_who_is_gone_is_told_when_he_is_back_also_by_another_worker(
    scene: Scene, requester: Callable[..., Requester]
) -> None:
    _study, uids = scene.archive.study(images=1)
    device = requester("AWAY", listen=False)
    asked = generate_uid()
    # Nobody works between the request and the report.
    device.ask(scene.door.port, action_information(asked, pairs(*uids)))
    assert scene.state(asked) == ("waiting", None)
    with scene.working():
        until(lambda: scene.state(asked)[1], "it was tried")
    state, reason = scene.state(asked)
    assert state == "checked"
    assert "cannot connect" in reason
    device.listen()
    with scene.working():
        until(lambda: scene.state(asked)[0] == "reported", "it is told")
    assert device.told[0].committed == uids


def test_what_a_requester_answers_says_whether_he_is_told_again(
    scene: Scene, requester: Callable[..., Requester]
) -> None:
    _study, uids = scene.archive.study(images=1)
    device = requester("NOISY")
    answers = iter([0x0110, 0x0213, 0x0115])
    device.answer = lambda: next(answers)
    asked = generate_uid()
    with scene.working():
        device.ask(scene.door.port, action_information(asked, pairs(*uids)))
        until(lambda: scene.state(asked)[0] == "dead", "it is over")
    assert scene.state(asked)[1] == "the requester answered 0115"
    assert len(device.told) == 3


@pytest.mark.parametrize("title", ["SAME", "STRANGER"])
def test_who_wants_it_so_or_has_no_address_is_told_over_the_association_of_the_request(
    scene: Scene, requester: Callable[..., Requester], title: str
) -> None:
    _study, uids = scene.archive.study(images=2)
    device = requester(title, listen=False)
    asked = generate_uid()
    with scene.working():
        device.ask(
            scene.door.port,
            action_information(asked, pairs(*uids)),
            until=lambda: until(
                lambda: scene.state(asked)[0] == "reported", "it was told and answered"
            ),
        )
    (told,) = device.told
    assert (told.event_type, sorted(told.committed)) == (1, sorted(uids))


@pytest.mark.parametrize(
    ("title", "options", "status"),
    [
        ("CAMERA", {}, 0x0124),
        ("MODALITY", {"instance": "1.2.3"}, 0x0112),
        ("MODALITY", {"action": 2}, 0x0123),
        ("MODALITY", {}, 0x0115),
    ],
)
def test_a_request_that_cannot_be_is_refused(
    scene: Scene,
    requester: Callable[..., Requester],
    title: str,
    options: dict[str, Any],
    status: int,
) -> None:
    asked = generate_uid()
    device = requester(title, listen=False)
    named = pairs("1.2.3") if status != 0x0115 else []
    information = action_information(asked, named)
    assert device.ask(scene.door.port, information, **options) == status
    assert not rows(
        scene.engine, "SELECT 1 FROM commitment WHERE transaction_uid = :uid", uid=asked
    )

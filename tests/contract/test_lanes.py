"""Lanes at work: left alone, paused, slowed down, kept for the night; none minds the others."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from gantry_domain.deliveries import DeliveryState
from gantry_runtime.process import Process
from gantry_runtime.settings import load_settings
from gantry_stores.index import lanes
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.ports import free_port
from gantry_testkit.stored import image, rows, stage
from gantry_testkit.stow_peer import Answer, Asked, Said, StowPeer, stored
from gantry_testkit.waiting import until
from gantry_worker.lanes import Forwarding


class Scene:
    """An archive, and the worker's process of lanes in this one."""

    def __init__(self, engine: Engine, url: str, folder: Path) -> None:
        self.engine, self.url, self.folder = engine, url, folder
        self.archive = ForwardingArchive(engine, DirectoryStore(folder / "objects"))

    @contextmanager
    def forwarding(self, *partners: str, forward: str = "") -> Iterator[None]:
        """Forwards to these partners, each as in the configuration."""
        database = self.url.replace("postgresql+psycopg", "postgresql")
        (self.folder / "gantry.yaml").write_text(
            f"database: {database}\nobjects: {self.folder / 'objects'}\n"
            f"forward: {{backoff: {{first: 1s, longest: 1s}}, open_after: 2{forward}}}\n"
            "partners:\n" + "".join(f"  - {{{partner}}}\n" for partner in partners)
        )
        settings = load_settings(
            {
                "GANTRY_CONFIG": str(self.folder / "gantry.yaml"),
                "GANTRY_DATA": str(self.folder),
            }
        )
        process = Process(name="lanes", status=None, sockets={})
        forwarding = Forwarding(settings, process)
        forwarding.start()

        def look() -> None:
            while not process.stopping.is_set():
                process.stopping.wait(min(forwarding.look(), 0.1))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            process.stopping.set()
            thread.join()
            forwarding.stop()

    def state(self, pk: int) -> DeliveryState:
        return self.archive.line(pk).state

    def delivered(self, *pks: int, seconds: float = 60) -> None:
        until(
            lambda: all(self.state(pk) is DeliveryState.DELIVERED for pk in pks),
            "all is delivered",
            seconds=seconds,
        )

    def lane(self, title: str) -> lanes.LaneLine | None:
        with transaction(self.engine) as connection:
            found = [each for each in lanes.list_lanes(connection) if each.destination == title]
        return found[0] if found else None


@pytest.fixture(scope="module")
def scene(module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    engine = make_engine(module_postgres_url, pool_size=8)
    yield Scene(engine, module_postgres_url, tmp_path_factory.mktemp("lanes"))
    engine.dispose()


def partner(title: str, port: int, more: str = "") -> str:
    return f"ae_title: {title}, address: '127.0.0.1:{port}'{more}"


def test_who_does_not_answer_is_left_alone_and_gets_all_at_once_when_he_does(
    scene: Scene, start_scp: Callable[..., AnsweringScp]
) -> None:
    port = free_port()
    pushed = [scene.archive.push(scene.archive.study(images=1)[0], "AWAY") for _ in range(4)]
    with scene.forwarding(partner("AWAY", port)):
        until(lambda: (line := scene.lane("AWAY")) and line.opened_at, "it is left alone")
        probed = "SELECT probes FROM lane WHERE destination = 'AWAY'"
        until(lambda: rows(scene.engine, probed)[0][0] >= 1, "what was begun before has ended")
        tried = [scene.archive.line(pk).attempts for pk in pushed]
        until(lambda: rows(scene.engine, probed)[0][0] >= 2, "it is tried by C-ECHO")
        assert [scene.archive.line(pk).attempts for pk in pushed] == tried
        assert "cannot connect" in str(scene.lane("AWAY"))
        peer = start_scp(port=port)
        scene.delivered(*pushed)
    assert len(peer.received) == 4
    assert scene.lane("AWAY") is None


def test_what_waits_for_too_long_for_nobody_is_dead(scene: Scene) -> None:
    pk = scene.archive.push(scene.archive.study(images=1)[0], "GONE")
    with scene.forwarding(partner("GONE", free_port()), forward=", give_up_after: 3s"):
        until(lambda: scene.state(pk) is DeliveryState.DEAD, "it is given up")
    assert "gave up: cannot connect" in str(scene.archive.line(pk).reason)


def test_a_pause_ends_what_is_sent_and_loses_and_repeats_nothing(
    scene: Scene, start_scp: Callable[..., AnsweringScp]
) -> None:
    peer = start_scp(slowly)
    study, uids = scene.archive.study(images=30)
    with scene.forwarding(partner("PAUSED", peer.port)):
        pk = scene.archive.push(study, "PAUSED")
        until(lambda: peer.received, "it has begun")
        with transaction(scene.engine) as connection:
            lanes.pause(connection, "PAUSED", drain=False)
        until(lambda: scene.state(pk) is DeliveryState.WAITING, "it stops", seconds=5)
        arrived = len(peer.received)
        assert arrived < 30
        later = scene.archive.push(scene.archive.study(images=1)[0], "PAUSED")
        time.sleep(1)
        assert len(peer.received) == arrived
        with transaction(scene.engine) as connection:
            assert lanes.resume(connection, "PAUSED")
        scene.delivered(pk, later)
    assert set(uids) < set(peer.uids())
    assert len(peer.received) == 31


def test_drained_what_is_sent_ends_and_nothing_else_begins(
    scene: Scene, start_scp: Callable[..., AnsweringScp]
) -> None:
    peer = start_scp(slowly)
    with scene.forwarding(partner("DRAINED", peer.port), forward=", concurrency: 1"):
        pk = scene.archive.push(scene.archive.study(images=20)[0], "DRAINED")
        until(lambda: peer.received, "it has begun")
        with transaction(scene.engine) as connection:
            lanes.pause(connection, "DRAINED", drain=True)
        later = scene.archive.push(scene.archive.study(images=1)[0], "DRAINED")
        scene.delivered(pk)
        assert scene.state(later) is DeliveryState.WAITING
    assert len(peer.received) == 20


def slowly(_event: object) -> int:
    time.sleep(0.1)
    return 0x0000


def test_a_rate_holds_over_all_associations_of_a_destination(
    scene: Scene, start_scp: Callable[..., AnsweringScp]
) -> None:
    peer = start_scp()
    studies = [scene.archive.study(images=4)[0] for _ in range(2)]
    with scene.forwarding(partner("SLOW", peer.port, ", rate: 2KiB")):
        began = time.monotonic()
        scene.delivered(*[scene.archive.push(study, "SLOW") for study in studies])
        elapsed = time.monotonic() - began
    size = sum(len(content) for _, _, content in peer.received)
    assert len(peer.received) == 8
    assert elapsed > 0.8 * size / 2048


def test_outside_of_its_hours_only_what_a_person_pushed_goes(
    scene: Scene, start_scp: Callable[..., AnsweringScp]
) -> None:
    peer = start_scp()
    now = datetime.now(UTC)
    begin, end = now + timedelta(hours=2), now + timedelta(hours=3)
    span = f"{begin:%H}:00-{end:%H}:00"
    routed = scene.archive.push(scene.archive.study(images=1)[0], "NIGHT")
    rows(
        scene.engine,
        "UPDATE delivery SET origin = 'route' WHERE pk = :pk RETURNING 1",
        pk=routed,
    )
    pushed = scene.archive.push(scene.archive.study(images=1)[0], "NIGHT")
    with scene.forwarding(partner("NIGHT", peer.port, f", send_between: ['{span}']")):
        scene.delivered(pushed)
        assert scene.state(routed) is DeliveryState.WAITING
    with scene.forwarding(partner("NIGHT", peer.port)):
        scene.delivered(routed)


def test_a_web_server_that_asks_to_wait_is_left_alone_as_long_and_proves_what_it_has(
    scene: Scene, start_stow: Callable[[Answer], StowPeer]
) -> None:
    at: list[float] = []

    def answer(asked: Asked) -> Said:
        if asked.method == "GET":
            uids = [each.uid for each in peer.posted[1:]]
            return Said(200, [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids])
        if asked.method == "POST":
            at.append(time.monotonic())
            if len(at) == 1:
                return Said(429, headers={"Retry-After": "2"})
            return stored(asked)
        return Said(405)

    peer = start_stow(answer)
    web = f"ae_title: WEB, dicomweb: '{peer.base}', prove: find"
    pushed = [scene.archive.push(scene.archive.study(images=2)[0], "WEB") for _ in range(3)]
    with scene.forwarding(web, forward=", concurrency: 1"):
        scene.delivered(*pushed)
        until(lambda: all(scene.archive.line(pk).proof == "proved" for pk in pushed), "proved")
    assert len(at) == 7
    assert at[1] - at[0] >= 1.9
    assert [each.method for each in peer.asked][:2] == ["POST", "OPTIONS"]


@pytest.mark.long
def test_seven_destinations_do_not_mind_a_dead_a_slow_and_a_refusing_one(
    scene: Scene, start_scp: Callable[..., AnsweringScp]
) -> None:
    seven = {f"GOOD{n}": start_scp(slowly) for n in range(7)}
    refusing, slow = start_scp(lambda _event: 0xA900), start_scp()
    good = [partner(title, peer.port) for title, peer in seven.items()]
    bad = [
        partner("DEAD", free_port()),
        partner("REFUSES", refusing.port),
        partner("MODEM", slow.port, ", rate: 8kB"),
    ]

    def seconds(titles: Sequence[str], others: Sequence[str], partners: Sequence[str]) -> float:
        study = scene.archive.study(images=60)[0]
        big = image(StudyInstanceUID=study, PixelData=bytes(512 * 1024), Rows=512, Columns=512)
        scene.archive.index(stage(scene.archive.store, big))
        for title in others:
            scene.archive.push(study, title)
        mine = [scene.archive.push(study, title) for title in titles]
        with scene.forwarding(*partners):
            began = time.monotonic()
            scene.delivered(*mine, seconds=300)
            return time.monotonic() - began

    alone = seconds([*seven], [], good)
    beside = seconds([*seven], ["DEAD", "REFUSES", "MODEM"], [*good, *bad])
    assert beside < 1.2 * alone, (alone, beside)
    assert all(len(peer.received) == 122 for peer in seven.values())
    assert len(slow.received) < 61


def test_a_folder_that_goes_is_left_alone_and_sent_to_once_it_is_back(scene: Scene) -> None:
    folder, away = scene.folder / "exports", scene.folder / "away"
    folder.mkdir()
    with scene.forwarding(f"ae_title: VAULT, folder: {folder}, prove: find"):
        study, uids = scene.archive.study(images=2)
        scene.delivered(scene.archive.push(study, "VAULT"))
        proved = "SELECT count(*) FROM proof WHERE destination = 'VAULT' AND state = 'proved'"
        until(lambda: rows(scene.engine, proved)[0][0] == 1, "it is proved")
        folder.rename(away)
        folder.mkdir()  # as the place below a mount is
        later = scene.archive.push(scene.archive.study(images=1)[0], "VAULT")
        until(lambda: (line := scene.lane("VAULT")) and line.opened_at, "it is left alone")
        assert "is it mounted?" in str(scene.lane("VAULT"))
        assert list(folder.iterdir()) == []
        folder.rmdir()
        away.rename(folder)
        scene.delivered(later)
    files = {path.stem for path in folder.rglob("*.dcm")}
    assert set(uids) < files
    assert len(files) == 3

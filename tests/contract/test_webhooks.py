"""Webhooks: in order for each study, signed, at least once, whoever of them is away or dies."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from gantry_cli import subscribers as commands
from gantry_domain.errors import ConfigurationError
from gantry_domain.events import EventKind, Happening
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index import subscribers as lines
from gantry_stores.index.database import transaction
from gantry_stores.index.events import note, publish
from gantry_stores.index.subscribers import SubscriberLine, TurnLost
from gantry_testkit.ports import free_port
from gantry_testkit.stored import new_uid
from gantry_testkit.stow_peer import Asked, Said, StowPeer
from gantry_testkit.waiting import until
from gantry_worker.subscribers import Subscribers

KEYS = {"new": b"n" * 24, "old": b"o" * 24}
SECRETS = ["whsec_" + base64.b64encode(key).decode() for key in KEYS.values()]
OK = Said(204)


def document(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked.body)
    return found


class Scene:
    """Events that happen, and workers that tell of them."""

    def __init__(self, engine: Engine, url: str, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.url = url.replace("postgresql+psycopg", "postgresql")
        self._peers: list[StowPeer] = []

    def peer(self, answer: Callable[[Asked], Said | None] = lambda _: OK) -> StowPeer:
        self._peers.append(StowPeer(answer))
        return self._peers[-1]

    def close(self) -> None:
        for peer in self._peers:
            peer.close()

    @contextmanager
    def telling(
        self, urls: dict[str, str], more: str = "", *, give_up_after: str = "1d"
    ) -> Iterator[Subscribers]:
        """A worker with these webhooks, which are told of what happens from now on."""
        settings = self.settings(urls, more, give_up_after=give_up_after)
        with transaction(self.engine) as connection:
            lines.add_subscribers(connection, settings.subscribers)
        stopping = threading.Event()
        subscribers = Subscribers(settings, stopping=stopping)
        subscribers.start()
        try:
            yield subscribers
        finally:
            stopping.set()
            assert subscribers.join(10)

    def settings(
        self, urls: dict[str, str], more: str = "", *, give_up_after: str = "1d"
    ) -> Settings:
        backoff = "{first: 300ms, longest: 300ms}"
        file = self.folder / f"{new_uid()}.yaml"
        file.write_text(
            f"database: {self.url}\n"
            f"forward: {{backoff: {backoff}, give_up_after: {give_up_after}}}\n"
            "webhooks:\n"
            + "".join(f"  - {{name: {name}, url: '{url}'{more}}}\n" for name, url in urls.items())
        )
        names = {
            "GANTRY_CONFIG": str(file),
            "GANTRY_DATA": str(self.folder),
            "GANTRY_WEBHOOK_SECRETS": json.dumps(dict.fromkeys(urls, SECRETS)),
        }
        return load_settings(names)

    def happen(self, *studies: str, kind: EventKind = EventKind.COMPLETE, **more: Any) -> None:
        """Each in its turn."""
        for study in studies:
            happening = Happening(
                kind=kind,
                StudyInstanceUID=study,
                **{"partition": "main", "visible": True, "instances": 7, **more},
            )
            with transaction(self.engine) as connection:
                note(connection, [happening])
            publish(self.engine)

    def line(self, name: str) -> SubscriberLine:
        with transaction(self.engine) as connection:
            (found,) = lines.list_subscribers(connection, [f"webhook:{name}"])
        return found


@pytest.fixture
def scene(module_engine: Engine, module_postgres_url: str, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(module_engine, module_postgres_url, tmp_path)
    yield scene
    scene.close()


def test_what_fits_is_told_in_order_and_signed(scene: Scene) -> None:
    peer = scene.peer()
    one, other = new_uid(), new_uid()
    with scene.telling({"signed": peer.base}, ", events: [complete, deleted]"):
        scene.happen(one, other)
        scene.happen(one, kind=EventKind.CORRECTED)
        scene.happen(one, visible=False)
        scene.happen(one, partition="north")
        scene.happen(one, kind=EventKind.DELETED, SOPInstanceUID="1.2.3")
        until(lambda: len(peer.posted) == 3)
        until(lambda: scene.line("signed").behind is None)
    told = [document(asked) for asked in peer.posted]
    assert [(each["kind"], each["StudyInstanceUID"]) for each in told] == [
        ("complete", one),
        ("complete", other),
        ("deleted", one),
    ]
    assert told[2].keys() == {
        "id",
        "at",
        "kind",
        "StudyInstanceUID",
        "SOPInstanceUID",
        "instances",
    }
    for asked, each in zip(peer.posted, told, strict=True):
        headers = {name.lower(): value for name, value in asked.headers.items()}
        assert headers["content-type"] == headers["accept"] == "application/json"
        assert headers["webhook-id"] == str(each["id"])
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        content = f"{each['id']}.{headers['webhook-timestamp']}.".encode() + asked.body
        assert headers["webhook-signature"].split() == [
            "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
            for key in KEYS.values()
        ]


def test_a_study_that_is_not_taken_keeps_its_order_and_holds_up_no_other(scene: Scene) -> None:
    bad, good = new_uid(), new_uid()
    failures = iter([Said(500), None, Said(500)])

    def answer(asked: Asked) -> Said | None:
        return next(failures, OK) if document(asked)["StudyInstanceUID"] == bad else OK

    peer = scene.peer(answer)
    with scene.telling({"poisoned": peer.base}):
        scene.happen(bad, good)
        scene.happen(bad, good, kind=EventKind.CORRECTED)
        until(lambda: len(peer.posted) == 7)
        until(lambda: scene.line("poisoned").aside == 0)
    told = [document(asked) for asked in peer.posted]
    of_bad = [each["kind"] for each in told if each["StudyInstanceUID"] == bad]
    assert of_bad == ["complete"] * 4 + ["corrected"]
    assert len({each["id"] for each in told}) == 4
    first_of_good = [each["StudyInstanceUID"] for each in told].index(good)
    taken = [n for n, each in enumerate(told) if each["StudyInstanceUID"] == bad][3]
    assert first_of_good < taken


def test_one_that_is_away_delays_no_other_and_gets_all_when_it_is_back(scene: Scene) -> None:
    alive, studies = scene.peer(), [new_uid() for _ in range(5)]
    port = free_port()
    urls = {"alive": alive.base, "dead": f"http://127.0.0.1:{port}/hook"}
    with scene.telling(urls) as subscribers:
        scene.happen(*studies)
        until(lambda: len(alive.posted) == 5)
        until(lambda: scene.line("dead").failures >= 2)
        line = scene.line("dead")
        assert (line.aside, line.behind is not None) == (0, True)
        assert "cannot connect" in str(line.reason)
        subscribers.measure()
    back = scene.peer()
    with scene.telling({"dead": back.base}):  # another worker, another address
        until(lambda: len(back.posted) == 5)
        assert [document(each)["StudyInstanceUID"] for each in back.posted] == studies
        until(lambda: scene.line("dead").failures == 0)


def test_it_says_when_it_wants_to_hear_more(scene: Scene) -> None:
    asked_at: list[float] = []

    def answer(_asked: Asked) -> Said:
        asked_at.append(time.monotonic())
        return OK if asked_at[1:] else Said(503, headers={"Retry-After": "2"})

    peer = scene.peer(answer)
    with scene.telling({"busy": peer.base}):
        scene.happen(new_uid())
        until(lambda: len(asked_at) == 2)
    assert asked_at[1] - asked_at[0] >= 1.9


def test_redirects_are_not_followed(scene: Scene) -> None:
    elsewhere = scene.peer()
    peer = scene.peer(lambda _: Said(307, headers={"Location": elsewhere.base}))
    with scene.telling({"moved": peer.base}):
        scene.happen(new_uid())
        until(lambda: scene.line("moved").reason == "HTTP 307")
    assert elsewhere.asked == []


def test_one_that_never_answers_is_left_alone(scene: Scene) -> None:
    silent = threading.Event()
    peer = scene.peer(lambda _: OK if silent.wait(20) else None)
    with scene.telling({"silent": peer.base}, ", timeout: 100ms"):
        scene.happen(*(new_uid() for _ in range(30)))
        until(lambda: scene.line("silent").failures == 1)
        line = scene.line("silent")
        assert 3 <= line.aside < 20  # then it is not about the events
        assert "did not answer within 0.1 s" in str(line.reason)
        silent.set()
        until(lambda: scene.line("silent").behind is None)


def test_of_several_workers_one_tells_at_a_time(scene: Scene) -> None:
    peer = scene.peer()
    studies = [new_uid() for _ in range(40)]
    urls = {"shared": peer.base}
    with scene.telling(urls), scene.telling(urls), scene.telling(urls):
        scene.happen(*studies)
        until(lambda: scene.line("shared").behind is None)
    assert [document(each)["StudyInstanceUID"] for each in peer.posted] == studies


def test_what_a_dead_worker_held_is_told_by_another(scene: Scene) -> None:
    peer, study = scene.peer(), new_uid()
    with transaction(scene.engine) as connection:
        lines.add_subscribers(connection, ["webhook:left"])
    scene.happen(study)
    with transaction(scene.engine) as connection:
        held = lines.claim_turn(connection, "webhook:left", lease=timedelta(seconds=2))
        assert held is not None
    with transaction(scene.engine) as connection:
        assert lines.claim_turn(connection, "webhook:left", lease=timedelta(seconds=2)) is None
    with scene.telling({"left": peer.base}):
        until(lambda: peer.posted)
        until(lambda: scene.line("left").behind is None)
    with pytest.raises(TurnLost), transaction(scene.engine) as connection:
        lines.move_on(connection, held, held.last, told=True)


def test_what_is_refused_is_kept_and_told_again_when_a_person_wants_it(scene: Scene) -> None:
    refused, study = [Said(422)], new_uid()
    peer = scene.peer(lambda _: refused[0])
    with scene.telling({"strict": peer.base}):
        scene.happen(study)
        until(lambda: scene.line("strict").refused == 1)
        assert (len(peer.posted), scene.line("strict").reason) == (1, "HTTP 422")
        refused[0] = OK
        scene.happen(study)  # goes on: nothing waits for what is refused
        until(lambda: len(peer.posted) == 2)
        with transaction(scene.engine) as connection:
            assert lines.retry_refused(connection, "webhook:strict") == 1
        until(lambda: len(peer.posted) == 3)
        until(lambda: scene.line("strict").refused == 0)


def test_what_is_not_taken_for_too_long_is_given_up(scene: Scene) -> None:
    peer = scene.peer(lambda _: Said(500))
    with scene.telling({"broken": peer.base}, give_up_after="500ms"):
        scene.happen(new_uid())
        until(lambda: scene.line("broken").refused == 1)
    assert scene.line("broken").reason == "gave up: HTTP 500"
    assert len(peer.posted) >= 2


def test_it_is_paused_resumed_and_told_again_over_http(web, tmp_path: Path) -> None:
    url = web.engine.url.render_as_string(hide_password=False)
    scene = Scene(web.engine, url, tmp_path)
    peer, base = scene.peer(), f"{web.base}/subscribers"
    assert web.client.get(base).json() == [{"subscriber": "webhook:ris", "state": "new"}]
    path = f"{base}/webhook:ris"
    assert web.client.put(path, json={"paused": True}).status_code == 204
    studies = [new_uid() for _ in range(3)]
    with scene.telling({"ris": peer.base}):
        scene.happen(*studies)
        (told,) = web.client.get(base).json()
        assert (told["state"], told["aside"], told["refused"]) == ("paused", 0, 0)
        assert told["oldest_untold"]
        assert peer.posted == []
        assert web.client.put(path, json={"paused": False}).status_code == 204
        until(lambda: scene.line("ris").behind is None)
        first = document(peer.posted[0])["id"]
        assert web.client.post(f"{path}/replay", json={"after": first}).status_code == 204
        until(lambda: len(peer.posted) == 5)
    assert [document(each)["StudyInstanceUID"] for each in peer.posted] == [*studies, *studies[1:]]
    assert web.client.post(f"{path}/retry").status_code == 204
    for asked, body, status in [
        (path, {"paused": "yes"}, 400),
        (f"{path}/replay", {"after": -1}, 400),
        (f"{path}/replay", {}, 400),
    ]:
        method = "PUT" if asked == path else "POST"
        assert web.client.request(method, asked, json=body).status_code == status
    assert web.client.put(f"{path}s", json={"paused": True}).status_code == 404
    scene.close()


def test_the_commands(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    peer = scene.peer(lambda _: Said(401))
    settings = scene.settings({"typed": peer.base})

    def printed(command: Callable[..., int], *args: Any, **more: Any) -> str:
        assert command(settings, *args, **more) == 0
        return capsys.readouterr().out

    assert "webhook:typed  new" in printed(commands.show_subscribers)
    with scene.telling({"typed": peer.base}):
        scene.happen(new_uid())
        until(lambda: scene.line("typed").failures)
        capsys.readouterr()
        shown = printed(commands.show_subscribers)
        assert "webhook:typed  away" in shown
        assert "HTTP 401; tried again in" in shown
    assert "is paused" in printed(commands.pause, "webhook:typed")
    assert "webhook:typed  paused" in printed(commands.show_subscribers)
    assert "told again" in printed(commands.resume, "webhook:typed")
    assert "what came after 7" in printed(commands.replay, "webhook:typed", after=7)
    assert "0 events" in printed(commands.retry, "webhook:typed")
    with pytest.raises(ConfigurationError, match="did you mean webhook:typed"):
        commands.pause(settings, "webhook:type")

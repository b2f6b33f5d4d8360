"""Objects that kill their reader: a real pool, real deaths, and what becomes of the others."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gantry_archive.caution import MOST_ATTEMPTS, CarefulIndexer
from gantry_archive.reading import ReadingRules
from gantry_domain.keys import object_key
from gantry_stores.index import migrations
from gantry_stores.index.database import IndexUnavailable, make_engine, transaction
from gantry_stores.index.suspects import count_attempt
from gantry_stores.objects import DirectoryStore, StoreUnavailable
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.stored import Sent, receipts, rows, states
from gantry_testkit.waiting import until
from gantry_testkit.worker_process import Worker, images, running

CHILDREN = Path(__file__).parent / "runtime_children"


class Poison:
    """What `poisoned_pool` looks at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("kill", "hold"):
            (folder / name).mkdir(parents=True)

    def kills(self, sent: Sent) -> None:
        """Whoever reads the object dies."""
        self._file("kill", sent).touch()

    def holds(self, sent: Sent) -> None:
        """Whoever reads the object waits until it is let go."""
        self._file("hold", sent).touch()

    def let_go(self, sent: Sent) -> None:
        """Nobody is held by the object any more."""
        self._file("hold", sent).unlink()

    def held(self) -> int:
        """The process that is held; 0: none."""
        try:
            return int((self.folder / "held").read_text() or 0)
        except FileNotFoundError:
            return 0

    def _file(self, name: str, sent: Sent) -> Path:
        return self.folder / name / object_key(sent.object_id).encode().hex()


@contextmanager
def poisoned(folder: Path, **options: str) -> Iterator[tuple[Worker, Poison]]:
    poison = Poison(folder / "poison")
    environment = {"POISON": str(poison.folder), "PYTHONPATH": str(CHILDREN)}
    with running(folder, module="poisoned_worker", environment=environment, **options) as worker:
        yield worker, poison


def suspects(worker: Worker) -> int:
    return len(rows(worker.engine, "SELECT object_id FROM suspect"))


def given_up(worker: Worker) -> list[dict[str, object]]:
    """The lines of the log that say so."""
    lines = worker.log.read_text().splitlines()
    return [json.loads(line) for line in lines if '"object_given_up"' in line]


@pytest.mark.long
def test_an_object_that_kills_is_given_up_and_its_companions_are_indexed(tmp_path):
    with poisoned(tmp_path) as (worker, poison):
        sent = images(worker.store, 40)
        deadly = sent[7]
        poison.kills(deadly)
        worker.publish(sent)
        others = [each for each in sent if each is not deadly]
        until(lambda: worker.indexed(others), "its companions are indexed", seconds=120)
        until(lambda: worker.indexed([deadly]), "it is given up", seconds=120)
        assert states(worker.engine, [deadly]) == [("unreadable", "kills_indexer")]
        assert {state for state, _ in states(worker.engine, others)} == {"primary"}
        assert rows(worker.engine, "SELECT size FROM object WHERE state = 'unreadable'") == [
            (deadly.size,)
        ]
        until(lambda: suspects(worker) == 0, "nothing is under suspicion")
        until(
            lambda: rows(worker.engine, "SELECT count(*) FROM study WHERE visible") == [(39,)],
            "the studies of the others are judged",
        )
        (line,) = given_up(worker)
        assert line["level"] == "error"
        assert line["object"] == str(deadly.object_id)
        until(lambda: worker.metric("gantry_worker_suspects") == 0, "suspects are measured")
        # Others who come later are not held up.
        later = images(worker.store, 5)
        worker.publish(later)
        until(lambda: worker.indexed(later), "it works")
        assert worker.ready()


@pytest.mark.long
def test_what_was_counted_survives_the_broker_and_the_sweep_hands_it_over(tmp_path):
    """Each message of the sweep is a new one, and its object may kill again."""
    with poisoned(tmp_path, sweep="{after: 2s, every: 1s}") as (worker, poison):
        deadly, good = images(worker.store, 2)
        poison.kills(deadly)
        worker.publish([deadly, good])
        until(lambda: attempts(worker, deadly) > 0, "an attempt was counted", seconds=90)
        with worker.redis.client() as client:
            client.flushall()
        until(lambda: worker.indexed([deadly, good]), "both have their row", seconds=120)
        assert states(worker.engine, [deadly, good]) == [
            ("unreadable", "kills_indexer"),
            ("primary", None),
        ]
        until(lambda: suspects(worker) == 0, "nothing is under suspicion")


def attempts(worker: Worker, sent: Sent) -> int:
    found = rows(
        worker.engine, "SELECT attempts FROM suspect WHERE object_id = :id", id=sent.object_id
    )
    return int(found[0][0]) if found else -1


@pytest.mark.long
def test_kills_from_outside_condemn_nobody(tmp_path):
    with poisoned(tmp_path) as (worker, poison):
        sent = images(worker.store, 8)
        for each in sent:
            poison.holds(each)
        worker.publish(sent)
        killed: list[int] = []
        for _ in range(5):
            until(lambda: poison.held() not in (0, *killed), "a process has an object in hand")
            pid = poison.held()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        # The first two deaths were of all together, the others of one object each.
        until(lambda: poison.held() not in killed, "a process has an object in hand")
        assert suspects(worker) == 8
        assert sum(max(0, attempts(worker, each)) for each in sent) == 4
        assert max(attempts(worker, each) for each in sent) == 1
        for each in sent:
            poison.let_go(each)
        until(lambda: worker.indexed(sent), "all are indexed")
        assert states(worker.engine, sent) == [("primary", None)] * 8
        until(lambda: suspects(worker) == 0, "nothing is under suspicion")
        assert given_up(worker) == []


class Away(DirectoryStore):
    """A store that fails each read, after doing something."""

    before: Callable[[], object] = staticmethod(lambda: None)

    def read(self, key, offset=0, length=None):
        self.before()
        raise StoreUnavailable


def test_attempts_that_fail_do_not_count(tmp_path, postgres_url):
    engine = make_engine(postgres_url)
    store = DirectoryStore(tmp_path / "objects")
    (suspicious,) = images(store, 1)
    fresh = images(store, 3)
    with transaction(engine) as connection:
        count_attempt(connection, suspicious.object_id)
    failing = CarefulIndexer(store=Away(tmp_path / "objects"), engine=engine, rules=ReadingRules())
    for _ in range(MOST_ATTEMPTS + 1):
        for batch in ([suspicious], fresh, [suspicious, *fresh]):
            with pytest.raises(StoreUnavailable):
                failing.index(receipts(batch), again=True)
    assert rows(engine, "SELECT object_id, attempts FROM suspect") == [(suspicious.object_id, 1)]
    working = CarefulIndexer(store=store, engine=engine, rules=ReadingRules())
    working.index(receipts([suspicious, *fresh]), again=True)
    assert states(engine, [suspicious, *fresh]) == [("primary", None)] * 4
    assert rows(engine, "SELECT object_id, attempts FROM suspect") == []
    engine.dispose()


def test_an_attempt_that_fails_with_the_database_is_taken_back_when_that_returns(tmp_path):
    postgres = PostgresServer()
    try:
        url = postgres.create_database("away")
        migrations.upgrade(url)
        engine = make_engine(url)
        store = Away(tmp_path / "objects")
        (suspicious,) = images(store, 1)
        with transaction(engine) as connection:
            count_attempt(connection, suspicious.object_id)
        indexer = CarefulIndexer(store=store, engine=engine, rules=ReadingRules())
        store.before = postgres.stop
        with pytest.raises(StoreUnavailable):
            indexer.index(receipts([suspicious]), again=True)
        with pytest.raises(IndexUnavailable):
            indexer.index([], again=True)
        postgres.start()
        assert rows(engine, "SELECT attempts FROM suspect") == [(2,)]
        indexer.index([], again=True)
        assert rows(engine, "SELECT attempts FROM suspect") == [(1,)]
        engine.dispose()
    finally:
        postgres.close()

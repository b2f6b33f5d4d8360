"""PgBouncer in transaction mode before PostgreSQL: few sessions, and none is anybody's own."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.reindex import reindex
from gantry_archive.sweep import sweep
from gantry_stores.index import migrations
from gantry_stores.index.asking import ask
from gantry_stores.index.database import make_engine, ping, transaction
from gantry_stores.index.hours import sweep_lock
from gantry_stores.index.values import Values
from gantry_stores.objects import DirectoryStore
from gantry_testkit import unprivileged
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.stored import NO_POLICIES, image, receipts, rows, snapshot, stage

SESSIONS = 3
CLIENTS = 8

_CONFIGURATION = """
[databases]
* = host={server} user=gantry
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
query_wait_timeout = 60
"""


class Pooler:
    """One PgBouncer on a private socket."""

    def __init__(self, server: PostgresServer) -> None:
        program = shutil.which("pgbouncer")
        assert program
        self.server = server
        self.folder = unprivileged.private_folder("gantry-pooler-")
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(server=server.folder, folder=self.folder, sessions=SESSIONS)
        )
        users = self.folder / "users"
        users.write_text('"gantry" ""\n')
        who = unprivileged.account()
        for path in (configuration, users):
            os.chown(path, who.pw_uid, who.pw_gid)
        self._log = (self.folder / "log").open("wb")
        self._process = unprivileged.spawn(
            [program, configuration], cwd=self.folder, log=self._log, stop_signal=signal.SIGTERM
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, "PgBouncer does not answer"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            psycopg.connect(
                host=str(self.folder), port=6432, user="gantry", dbname="postgres"
            ).close()
        except psycopg.OperationalError:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            return False
        return True

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://gantry@/{database}?host={quote(str(self.folder))}&port=6432"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def pooler(postgres_server: PostgresServer) -> Iterator[Pooler]:
    if shutil.which("pgbouncer") is None:
        pytest.skip("there is no PgBouncer here: apt-get install pgbouncer")
    for name in ("pooled", "pooled_again"):
        postgres_server.create_database(name)
    pooler = Pooler(postgres_server)
    yield pooler
    pooler.close()
    for name in ("pooled", "pooled_again"):
        postgres_server.drop_database(name)


def test_migrated_indexed_swept_and_reindexed(pooler: Pooler, tmp_path: Path) -> None:
    for database in ("pooled", "pooled_again"):
        migrations.upgrade(pooler.url(database))
        migrations.upgrade(pooler.url(database))
    store = DirectoryStore(tmp_path / "objects")
    # Many instances of few studies: the writers meet in the same rows.
    studies = [image(PatientID=f"P{number % 2}") for number in range(4)]
    sent = [
        stage(
            store,
            image(
                StudyInstanceUID=studies[number % 4].StudyInstanceUID, PatientID=f"P{number % 2}"
            ),
        )
        for number in range(160)
    ]
    engines = [make_engine(pooler.url("pooled"), pool_size=2) for _ in range(CLIENTS)]

    def work(number: int) -> None:
        mine = sent[number::CLIENTS]
        for start in range(0, len(mine), 5):
            index_batch(
                receipts(mine[start : start + 5]),
                store=store,
                engine=engines[number],
                rules=ReadingRules(),
            )
            judge_studies(engines[number], NO_POLICIES)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
    engine = engines[0]
    judge_studies(engine, NO_POLICIES)
    assert rows(engine, "SELECT count(*) FROM instance") == [(160,)]
    assert rows(engine, "SELECT sum(number_of_study_related_instances) FROM study") == [(160,)]

    # The sweep's lock holds one session; the work of the run goes through others.
    with sweep_lock(engine) as taken:
        assert taken
        with sweep_lock(engines[1]) as again:
            assert not again
        ping(engines[2])
    swept = sweep(store, engine, hand_over=lambda _lost: True, after=timedelta(0), limit=100)
    assert swept is not None
    assert (swept.found, swept.looked) == (0, 1)

    other = make_engine(pooler.url("pooled_again"))
    reindex(store, other, policies=NO_POLICIES)
    assert snapshot(other) == snapshot(engine)
    for each in (*engines, other):
        each.dispose()


def test_the_limits_of_one_transaction_are_not_those_of_the_next(pooler: Pooler) -> None:
    first, second = (
        make_engine(pooler.url("pooled"), statement_timeout=timedelta(seconds=number))
        for number in (7, 9)
    )
    for _ in range(5):
        for engine, said in ((first, "7s"), (second, "9s")):
            with transaction(engine) as connection:
                shown = connection.exec_driver_sql("SHOW statement_timeout").scalar()
            assert shown == said
            for _ in range(2):
                assert ask(engine, "SHOW statement_timeout", Values()) == [(said,)]
    first.dispose()
    second.dispose()
    with psycopg.connect(
        host=str(pooler.folder), port=6432, user="gantry", dbname="pooled"
    ) as bare:
        row = bare.execute("SHOW statement_timeout").fetchone()
        assert row == ("0",)

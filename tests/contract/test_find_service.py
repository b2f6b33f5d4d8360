"""The DIMSE port of the query service as it runs: memory, a database that goes, drain, metrics."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from pynetdicom import build_context
from sqlalchemy import text

from gantry_domain.information_models import STUDY_ROOT_FIND, STUDY_ROOT_MOVE
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.query_process import QueryService
from gantry_testkit.query_scu import answers, associated, count_answers, identifier
from gantry_testkit.waiting import until

MATCHES = 1_000_000
SECRET = "SECRET^PATIENT"

# One process for each door.
ONE_EACH = (
    "http: {processes: 1}\nquery: {processes: 1, max_associations: 3}\n"
    'partners: [{ae_title: WS1, address: "127.0.0.1:9"}]\n'
)

# Copies of one study, made by the server: a million take minutes.
COPIES = """
    INSERT INTO study ({columns}, study_instance_uid)
    SELECT {columns}, '1.2.' || n FROM study CROSS JOIN generate_series({first}, {last}) n
    WHERE study_instance_uid = '1.2'
"""
FEW = 2000


def add_copies(server: PostgresServer, first: int, last: int) -> None:
    """The studies 1.2.first to 1.2.last."""
    engine = make_engine(server.url("index"), statement_timeout=timedelta(minutes=30))
    with engine.begin() as connection:
        names = connection.scalars(
            text(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'study'"
                " AND is_identity = 'NO' AND column_name NOT IN ('pk', 'study_instance_uid')"
                " AND is_generated = 'NEVER'"
            )
        )
        columns = ", ".join(names)
        connection.execute(text(COPIES.format(columns=columns, first=first, last=last)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE study"))
    engine.dispose()


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    server = PostgresServer()
    url = server.create_database("index")
    migrations.upgrade(url)
    engine = make_engine(url)
    uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "SOPInstanceUID": "1.4"}
    fill(engine, [indexed({**uids, "PatientName": SECRET, "PatientID": "P1"})])
    with engine.begin() as connection:
        # The identity goes on behind the row that was written with a number of its own.
        connection.execute(text("ALTER TABLE study ALTER COLUMN pk RESTART WITH 1000"))
    engine.dispose()
    add_copies(server, 1, FEW - 1)
    yield server
    server.close()


@pytest.fixture
def service(tmp_path: Path, database: PostgresServer) -> Iterator[QueryService]:
    service = QueryService(tmp_path, database.url("index"), ONE_EACH)
    service.start()
    until(service.ready, "ready")
    yield service
    service.kill()


ALL = {"StudyInstanceUID": "", "PatientID": "", "PatientName": "", "StudyDate": ""}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_million_matches_cost_no_memory_and_are_cancelled_at_once(service, database) -> None:
    add_copies(database, FEW, MATCHES - 1)
    idle = service.peak_memory("dimse")
    for _ in range(2):
        counted, seconds = count_answers(service.address, identifier("STUDY", **ALL))
        assert counted == {0xFF00: MATCHES, 0: 1}
        peak = service.peak_memory("dimse")
        print(f"{MATCHES / seconds:.0f} answers/s, at most {peak / 2**20:.0f} MiB resident")
        assert peak - idle < 50 * 2**20, f"{idle / 2**20:.1f} MiB, then {peak / 2**20:.1f} MiB"
        assert peak < 150 * 2**20
    with associated(service.address) as assoc:
        responses = assoc.send_c_find(identifier("STUDY", **ALL), STUDY_ROOT_FIND, msg_id=7)
        next(responses)
        assoc.send_c_cancel(7, query_model=STUDY_ROOT_FIND)
        statuses = [status.Status for status, _ in responses]
    assert statuses[-1] == 0xFE00
    # What the connection held when the request came: that the server stops within 16 is seen where
    # nobody's buffers are between (test_find_streams).
    assert len(statuses) < MATCHES / 20
    found = "gantry_query_find_matches_total"
    assert service.metric(found, partner="other", level="study") == pytest.approx(
        2 * MATCHES, abs=MATCHES / 20
    )
    assert SECRET not in service.log.read_text()


def test_a_database_that_goes_and_comes(service, database) -> None:
    ds = identifier("STUDY", StudyInstanceUID="1.2.77")
    contexts = [build_context(STUDY_ROOT_FIND), build_context(STUDY_ROOT_MOVE)]
    with associated(service.address, contexts=contexts) as assoc:
        database.stop()
        try:
            (status,), _ = answers(assoc, ds)
            assert status.Status == 0xA700
            ((status, _),) = assoc.send_c_move(ds, "WS1", STUDY_ROOT_MOVE)
            assert status.Status == 0xA701
            until(lambda: "not available" in service.readiness()[1], "not ready")
        finally:
            database.start()
        until(service.ready, "ready again")
        statuses, _ = answers(assoc, ds)
        assert [s.Status for s in statuses] == [0xFF00, 0]
        # The destination is not there: what it was to get is named.
        ds = identifier("STUDY", StudyInstanceUID="1.2")
        responses = list(assoc.send_c_move(ds, "WS1", STUDY_ROOT_MOVE))
        assert responses[-1][0].Status == 0xA702
        assert responses[-1][1].FailedSOPInstanceUIDList == "1.4"


def test_more_associations_than_there_may_be(service) -> None:
    with ExitStack() as stack:
        four = [stack.enter_context(associated(service.address)) for _ in range(4)]
        assert [assoc.is_established for assoc in four] == [True, True, True, False]
        refusal = four[3].acceptor.primitive
        assert (refusal.result, refusal.result_source, refusal.diagnostic) == (2, 3, 2)
    rejected = "gantry_query_associations_rejected_total"
    until(lambda: service.metric(rejected, partner="WS1", reason="limit") == 1, "counted")
    with associated(service.address) as again:
        assert again.is_established


@pytest.mark.slow
def test_answers_that_have_begun_are_finished_after_sigterm(service) -> None:
    with associated(service.address) as assoc:
        responses = assoc.send_c_find(
            identifier("STUDY", StudyInstanceUID=[f"1.2.{n}" for n in range(1, 2000)]),
            STUDY_ROOT_FIND,
        )
        statuses = [next(responses)[0].Status]
        service.process.send_signal(signal.SIGTERM)
        statuses += [status.Status for status, _ in responses]
        assert statuses == [0xFF00] * 1999 + [0]
    assert service.process.wait(60) == 0
    assert "Traceback" not in service.log.read_text()

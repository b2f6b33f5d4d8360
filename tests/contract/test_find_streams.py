"""C-FIND of many matches: each once, a cap, a cancel, a peer that is gone, a database away."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine

from gantry_dimse.observer import Peer
from gantry_dimse.operations import Cancellation, OperationRequest
from gantry_dimse.partners import Partners
from gantry_dimse.proposals import NegotiatedContexts
from gantry_dimse.reverse_storage import ReverseStorage
from gantry_domain.information_models import STUDY_ROOT, STUDY_ROOT_FIND
from gantry_domain.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN
from gantry_query.find import FindService
from gantry_runtime.metrics import sample
from gantry_stores.index.database import make_engine
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.query_scu import answers, associated, encoded, identifier
from gantry_testkit.waiting import until

MANY = 2600


@pytest.fixture(scope="module")
def many(postgres_server, migrated_template) -> Iterator[Engine]:
    """As many studies as MANY says: several pages."""
    url = postgres_server.create_database("find_many", template=migrated_template)
    engine = make_engine(url, pool_size=8)
    for start in range(0, MANY, 1300):
        fill(
            engine,
            [
                indexed(
                    {
                        "StudyInstanceUID": f"1.4.{n}",
                        "StudyDate": f"2024{n % 12 + 1:02}{n % 28 + 1:02}",
                        "SeriesInstanceUID": f"1.4.{n}.1",
                        "SOPInstanceUID": f"1.4.{n}.1.1",
                        "PatientID": f"P{n}",
                        "PatientName": f"CHAN^{n}",
                    }
                )
                for n in range(start, start + 1300)
            ],
        )
    yield engine
    engine.dispose()


ALL = {"StudyInstanceUID": "", "PatientID": "", "PatientName": "", "StudyDate": ""}


def test_thousands_each_once(many: Engine, serve_find) -> None:
    with serve_find(many) as server, associated(server.address) as assoc:
        statuses, found = answers(assoc, identifier("STUDY", **ALL))
    assert [s.Status for s in statuses] == [0xFF00] * MANY + [0]
    assert len({match.StudyInstanceUID for match in found}) == MANY
    dates = [match.StudyDate for match in found]
    assert dates == sorted(dates, reverse=True)


def test_a_cap_says_that_there_is_more(many: Engine, serve_find) -> None:
    ds = identifier("STUDY", StudyInstanceUID="", PatientID="P177*")
    capped = "query: {max_matches: 5}"
    with serve_find(many, capped) as server, associated(server.address) as assoc:
        statuses, found = answers(assoc, ds)
        assert [s.Status for s in statuses] == [0xFF00] * 5 + [0xA700]
        assert statuses[-1].ErrorComment == "only the first 5 matches are returned"
        assert len(found) == 5
    exactly = "query: {max_matches: 11}"
    with serve_find(many, exactly) as server, associated(server.address) as assoc:
        statuses, found = answers(assoc, ds)
        assert [s.Status for s in statuses] == [0xFF00] * 11 + [0]


def test_a_cancel_is_obeyed_soon(many: Engine, serve_find) -> None:
    before = sample("gantry_query_finds_total", partner="other", level="study", status="FE00")
    with serve_find(many) as server, associated(server.address) as assoc:
        statuses = []
        ds = identifier("STUDY", **ALL)
        for number, (status, _) in enumerate(assoc.send_c_find(ds, STUDY_ROOT_FIND, msg_id=7)):
            if number == 10:
                assoc.send_c_cancel(7, query_model=STUDY_ROOT_FIND)
            statuses.append(status.Status)
        assert statuses[-1] == 0xFE00
        assert len(statuses) < MANY // 2
        # The association goes on.
        _, found = answers(assoc, identifier("STUDY", StudyInstanceUID="1.4.77"))
        assert len(found) == 1
    after = sample("gantry_query_finds_total", partner="other", level="study", status="FE00")
    assert after == before + 1


def test_a_cancel_is_heard_while_the_database_works(many: Engine, serve_find) -> None:
    with serve_find(many) as server, associated(server.address) as assoc:
        with many.connect() as connection, connection.begin():
            connection.execute(text("LOCK TABLE study IN ACCESS EXCLUSIVE MODE"))
            canceller = threading.Timer(
                0.5, lambda: assoc.send_c_cancel(7, query_model=STUDY_ROOT_FIND)
            )
            canceller.start()
            begun = time.monotonic()
            responses = assoc.send_c_find(identifier("STUDY", **ALL), STUDY_ROOT_FIND, msg_id=7)
            statuses = [status.Status for status, _ in responses]
            seconds = time.monotonic() - begun
            canceller.join()
        assert statuses == [0xFE00]
        assert 0.4 < seconds < 3
        _, found = answers(assoc, identifier("STUDY", StudyInstanceUID="1.4.77"))
        assert len(found) == 1


def test_a_peer_that_leaves_in_the_middle_frees_everything(many: Engine, serve_find) -> None:
    def gone() -> float:
        return sample("gantry_query_finds_total", partner="other", level="study", status="gone")

    before = gone()
    with serve_find(many) as server:
        with associated(server.address) as assoc:
            for _ in assoc.send_c_find(identifier("STUDY", **ALL), STUDY_ROOT_FIND):
                break
            assoc.abort()
        until(lambda: server.active == 0, "the association ends")
        until(lambda: gone() == before + 1, "the request is counted as abandoned")
        until(lambda: many.pool.checkedout() == 0, "no connection is held")  # type: ignore[attr-defined]


def test_between_two_pages_no_transaction_is_open(many: Engine, serve_find) -> None:
    """However slowly a peer takes its answers."""
    request = OperationRequest(
        peer=Peer("WS1", "GANTRY", "127.0.0.1"),
        SOPClassUID=STUDY_ROOT_FIND,
        transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN,
        identifier=encoded(identifier("STUDY", **ALL)),
        cancellation=Cancellation(),
        message_id=1,
        move_destination="",
        reverse=ReverseStorage(NegotiatedContexts(()), peer_maximum=0),
    )
    partners = Partners(own_titles=("GANTRY",), callers=(), accept_unknown=True)
    with ThreadPoolExecutor(4) as pages:
        service = FindService(
            engine=many,
            pages=pages,
            first_pages=threading.BoundedSemaphore(1),
            partners=partners,
            model=STUDY_ROOT,
            retrieve_ae="GANTRY",
            zone=ZoneInfo("UTC"),
        )
        answers = service.find(request)
        statuses = []
        while len(statuses) < 150:
            if (answer := next(answers)) is not None:
                statuses.append(answer.status.code)
        busy = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
        )

        def quiet() -> bool:
            with many.connect() as connection:
                if connection.scalar(busy):
                    return False
            return many.pool.checkedout() == 0  # type: ignore[attr-defined]

        until(quiet, "the next page is there, and nothing is open any more")
        request.cancellation.requested = True
        rest = [answer.status.code for answer in answers if answer is not None]
    assert rest == [0xFE00]


def test_a_database_that_is_away_is_said(postgres_url: str, serve_find) -> None:
    engine = make_engine(
        postgres_url.replace("/test_", "/no_such_"), connect_timeout=timedelta(seconds=1)
    )
    with serve_find(engine) as server, associated(server.address) as assoc:
        for _ in range(2):
            (status,), found = answers(assoc, identifier("STUDY", StudyInstanceUID=""))
            assert status.Status == 0xA700
            assert "try again" in status.ErrorComment
            assert not found
        assert assoc.is_established
    engine.dispose()

"""The query service as it runs: its processes, a database that goes and comes, probes, metrics."""

import io
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import httpx
import pytest

from gantry_domain.keys import new_object_id, object_key
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.query_process import QueryService
from gantry_testkit.stored import image
from gantry_testkit.waiting import until

SECRET = "SECRET^PATIENT"


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def service(tmp_path: Path, database: PostgresServer) -> Iterator[QueryService]:
    service = QueryService(tmp_path, database.create_database("index"))
    yield service
    service.kill()


def test_a_life(service, database):
    """Not migrated, ready, database away and back, drained: what a caller sees at each moment."""
    service.start()
    until(lambda: "not migrated" in service.readiness()[1], "the reason")
    assert service.readiness()[0] == 503
    url = database.url("index")
    migrations.upgrade(url)
    until(lambda: service.readiness()[0] == 200, "ready")
    engine = make_engine(url)
    store = DirectoryStore(service.objects)
    object_id = new_object_id()
    writer = store.create(object_key(object_id))
    writer.write([b"x" * 50_000_000])
    writer.commit()
    values = {
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.3",
        "SOPInstanceUID": "1.4",
        "PatientName": SECRET,
    }
    fill(engine, [indexed(values, object_id=object_id, size=50_000_000)])
    engine.dispose()
    (found,) = httpx.get(f"{service.web}/studies?PatientName={SECRET}").json()
    assert found["0020000D"]["Value"] == ["1.2"]
    assert httpx.get(f"{service.web}/studies?StudyDate=x").status_code == 400
    page = httpx.get(f"{service.web.removesuffix('/dicomweb')}/conformance?outline=a", timeout=60)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "A.4.1.1 Application Data Flow" in page.text
    requests = "gantry_query_http_requests_total"

    def counted(status: str) -> float:
        return service.metric(requests, method="GET", route="/studies", status=status)

    until(lambda: (counted("200"), counted("400")) == (1, 1), "the requests are counted")
    assert service.metric("gantry_query_http_sent_bytes_total", route="/studies") > 100

    database.stop()
    away = httpx.get(f"{service.web}/studies", timeout=30)
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    until(lambda: service.readiness()[0] == 503, "not ready")
    database.start()
    until(lambda: service.readiness()[0] == 200, "ready again")
    assert httpx.get(f"{service.web}/studies").status_code == 200

    # An answer that has begun is finished after SIGTERM; who waits for events is let go.
    path = f"{service.web}/studies/1.2/series/1.3/instances/1.4"
    of_events = {"Accept": "text/event-stream"}
    with (
        httpx.stream("GET", f"{service.web}/events", headers=of_events, timeout=30) as events,
        httpx.stream("GET", path, headers={"Accept": "application/dicom"}) as answer,
    ):
        lines = events.iter_lines()
        assert next(lines).startswith("retry:")
        pieces = answer.iter_raw(65536)
        received = len(next(pieces))
        service.process.send_signal(signal.SIGTERM)
        until(lambda: not connects(service.web), "the door is closed")
        received += sum(map(len, pieces))
        assert not [line for line in lines if line.startswith("data")]
    assert received == 50_000_000
    assert service.process.wait(60) == 0
    log = service.log.read_text()
    assert "SECRET" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    "mebibytes",
    [96, pytest.param(2048, marks=[pytest.mark.long, pytest.mark.timeout(1200)])],
)
def test_a_large_body_streams_to_the_store_and_needs_no_index(service, mebibytes):
    """Memory stays small, and neither the database nor the broker is asked."""
    service.start()
    until(lambda: service.readiness()[1], "it answers")
    until(lambda: connects(service.web), "the door is open")
    ds = image(Rows=1, Columns=1)
    ds.PixelData = b""
    head = io.BytesIO()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(head, enforce_file_format=True)
    piece = bytes(range(256)) * 4096
    file = head.getvalue()[:-4] + (mebibytes * len(piece)).to_bytes(4, "little")

    def body() -> Iterator[bytes]:
        yield b"--XX\r\n\r\n" + file
        yield from repeat(piece, mebibytes)
        yield b"\r\n--XX--"

    answer = httpx.post(
        f"{service.web}/studies",
        content=body(),
        headers={"Content-Type": "multipart/related; type=application/dicom; boundary=XX"},
        timeout=1200,
    )
    assert answer.status_code == 200
    (item,) = answer.json()["00081199"]["Value"]
    assert item["00081155"]["Value"] == [ds.SOPInstanceUID]
    (stored,) = service.objects.rglob("*.dcm")
    assert 0 < stored.stat().st_size - mebibytes * len(piece) < 64 * 1024
    with stored.open("rb") as content:
        content.seek(-len(piece), 2)
        assert content.read() == piece
    peak = service.peak_memory()
    print(f"{mebibytes} MiB: at most {peak / 10**6:.0f} MB resident in a process")
    assert peak < 250 * 10**6


def connects(web: str) -> bool:
    url = httpx.URL(web)
    try:
        socket.create_connection((url.host, url.port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_port_in_use_is_one_line(service):
    port = httpx.URL(service.web).port
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(
            [sys.executable, "-m", "gantry_query"],
            env=service.environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert re.fullmatch(
        rf"gantry: port {port} on 127.0.0.1 \(DICOMweb\) is in use.*\n", done.stderr
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen: {address: 0.0.0.0}", "write `auth: none`"),
        ("listen: {address: 0.0.0.0}\nauth: token", "nobody has a token: set GANTRY_HTTP_TOKENS"),
    ],
)
def test_others_are_let_in_only_where_that_is_written_out(service, text, said):
    config = Path(service.environ["GANTRY_CONFIG"])
    config.write_text(f"{config.read_text()}{text}\n")
    done = subprocess.run(
        [sys.executable, "-m", "gantry_query"],
        env=service.environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1

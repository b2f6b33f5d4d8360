"""The query service as it runs: its processes, a database that goes and comes, probes, metrics."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url

from gantry_domain.keys import new_object_id, object_key
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.postgres import PostgresServer

SECRET = "SECRET^PATIENT"


def eventually(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        threading.Event().wait(0.05)


def free_port_base() -> int:
    """A port base of which all ports of the service are free."""
    for base in random.sample(range(8000, 20000, 100), 100):
        try:
            for port in (8080, 9103, 11113):
                socket.create_server(("127.0.0.1", port + base)).close()
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


class QueryService:
    """`python -m gantry_query` over a database and a folder of its own."""

    def __init__(self, folder: Path, database_url: str) -> None:
        base = free_port_base()
        self.objects = folder / "objects"
        DirectoryStore(self.objects)  # as the ingress makes it; the query service never does
        self.log = folder / "log"
        self.web = f"http://127.0.0.1:{8080 + base}/dicomweb"
        self.probes = f"http://127.0.0.1:{9103 + base}"
        url = make_url(database_url).set(drivername="postgresql")
        (folder / "gantry.yaml").write_text(f"database: {url}\nobjects: objects\n")
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("GANTRY_")} | {
            "GANTRY_CONFIG": str(folder / "gantry.yaml"),
            "GANTRY_DATA": str(folder / "data"),
            "GANTRY_PORT_BASE": str(base),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gantry_query"], env=self.environ, stderr=log
            )
        eventually(lambda: self.probe("/healthz") is not None, "an answer to probes")

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def probe(self, path: str) -> httpx.Response | None:
        try:
            return httpx.get(f"{self.probes}{path}", timeout=10)
        except httpx.TransportError:
            return None

    def readiness(self) -> tuple[int, str]:
        answer = self.probe("/readyz")
        assert answer is not None
        return answer.status_code, answer.text

    def metric(self, name: str, **labels: str) -> float:
        answer = self.probe("/metrics")
        assert answer is not None
        families = text_string_to_metric_families(answer.text)
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and s.labels == labels)


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def service(tmp_path: Path, database: PostgresServer) -> Iterator[QueryService]:
    service = QueryService(tmp_path, database.create_database("index"))
    yield service
    if service.process is not None and service.process.poll() is None:
        service.process.kill()
        service.process.wait()


def test_a_life(service, database):
    """Not migrated, ready, database away and back, drained: what a caller sees at each moment."""
    service.start()
    eventually(lambda: "not migrated" in service.readiness()[1], "the reason")
    assert service.readiness()[0] == 503
    url = database.url("index")
    migrations.upgrade(url)
    eventually(lambda: service.readiness()[0] == 200, "ready")
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
    requests = "gantry_query_http_requests_total"

    def counted(status: str) -> float:
        return service.metric(requests, method="GET", route="/studies", status=status)

    eventually(lambda: (counted("200"), counted("400")) == (1, 1), "the requests are counted")
    assert service.metric("gantry_query_http_sent_bytes_total", route="/studies") > 100

    database.stop()
    away = httpx.get(f"{service.web}/studies", timeout=30)
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    eventually(lambda: service.readiness()[0] == 503, "not ready")
    database.start()
    eventually(lambda: service.readiness()[0] == 200, "ready again")
    assert httpx.get(f"{service.web}/studies").status_code == 200

    # An answer that has begun is finished after SIGTERM.
    path = f"{service.web}/studies/1.2/series/1.3/instances/1.4"
    with httpx.stream("GET", path, headers={"Accept": "application/dicom"}) as answer:
        pieces = answer.iter_raw(65536)
        received = len(next(pieces))
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: not connects(service.web), "the door is closed")
        received += sum(map(len, pieces))
    assert received == 50_000_000
    assert service.process.wait(60) == 0
    log = service.log.read_text()
    assert "SECRET" not in log
    assert "Traceback" not in log


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


def test_others_are_let_in_only_where_that_is_written_out(service):
    config = Path(service.environ["GANTRY_CONFIG"])
    config.write_text(config.read_text() + "listen: {address: 0.0.0.0}\n")
    done = subprocess.run(
        [sys.executable, "-m", "gantry_query"],
        env=service.environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "auth: none" in done.stderr
    assert done.stderr.count("\n") == 1

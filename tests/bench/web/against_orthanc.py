"""DICOMweb of Gantry and of Orthanc with SQLite and with PostgreSQL, the same data in one run.

    python tests/bench/web/against_orthanc.py [--studies 20000]

They listen on loopback, are asked by the same clients, turn by turn, and got their data over
STOW-RS; Gantry's index is written by the worker's code before the questions begin. Prints medians,
the factor between them, and the goal of each. PostgreSQL is the same server for Gantry and for
Orthanc (Debian's orthanc-postgresql), which is asked for a whole study alone: of that the goal is
to be as fast as it, and to be as fast as Orthanc with SQLite would be more.
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

from data import CT_SERIES, CT_STUDY, ROOT, ct_series, small_studies

from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.keys import parse_object_key
from gantry_domain.receipts import Receipt
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.peers import ORTHANC_POSTGRESQL, orthanc, orthanc_with_postgresql
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.query_process import QueryService
from gantry_testkit.stored import NO_POLICIES
from gantry_testkit.waiting import until

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
JSON = "application/dicom+json"
PARTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
OCTETS = 'multipart/related; type="application/octet-stream"'
INSTANCE = f"/studies/{CT_STUDY}/series/{CT_SERIES}/instances/{CT_SERIES}.100"


@dataclass(frozen=True)
class Question:
    """What is asked of both, and how many times as fast Gantry has to be."""

    name: str
    path: str
    accept: str
    goal: float
    rounds: int = 15


QUESTIONS = [
    Question(
        "metadata of a series (200)", f"/studies/{CT_STUDY}/series/{CT_SERIES}/metadata", JSON, 4
    ),
    Question("metadata of a study (200)", f"/studies/{CT_STUDY}/metadata", JSON, 4),
    Question("studies: exact PatientID", "/studies?PatientID=P0001234", JSON, 10),
    Question(
        "studies: name *ANNA*, 100 of them", "/studies?PatientName=*ANNA*&limit=100", JSON, 10
    ),
    Question("studies: 1000 by date", "/studies?StudyDate=20230301-20230330", JSON, 10, 5),
    Question("studies: limit=100", "/studies?limit=100", JSON, 10),
    Question(
        "studies: ModalitiesInStudy=MR", "/studies?ModalitiesInStudy=MR&limit=100", JSON, 10, 5
    ),
    Question("one frame (512 KiB)", f"{INSTANCE}/frames/1", OCTETS, 1),
    Question("one instance", INSTANCE, PARTS, 1),
    Question("rendered", f"{INSTANCE}/rendered", "image/jpeg", 1),
    Question("study of 200, SQLite (100 MiB)", f"/studies/{CT_STUDY}", PARTS, 1, 9),
]
OF_POSTGRESQL = [
    Question("study of 200, PostgreSQL (100 MiB)", f"/studies/{CT_STUDY}", PARTS, 1, 9)
]


class Client:
    """One connection to one server."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)
        self._path = parts.path

    def ask(self, path: str, accept: str) -> tuple[int, int]:
        """Status and bytes of an answer."""
        try:
            answer = self._answer(path, accept)
        except (http.client.RemoteDisconnected, BrokenPipeError):
            # Orthanc waits a second for the next request, and the other's turn may take longer.
            self._connection.close()
            answer = self._answer(path, accept)
        size = 0
        while chunk := answer.read(1 << 20):
            size += len(chunk)
        return answer.status, size

    def _answer(self, path: str, accept: str) -> http.client.HTTPResponse:
        self._connection.request("GET", self._path + path, headers={"Accept": accept})
        return self._connection.getresponse()

    def store(self, files: Iterable[bytes]) -> tuple[int, int]:
        """Status and bytes of the answer to one STOW-RS request."""
        parts = (b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + f + b"\r\n" for f in files)
        body = b"".join(parts) + b"--XX--\r\n"
        headers = {
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=XX',
            "Accept": JSON,
        }
        # The body took a while, and Orthanc waits a second for the next request.
        self._connection.close()
        self._connection.request("POST", f"{self._path}/studies", body, headers)
        answer = self._connection.getresponse()
        return answer.status, len(answer.read())


def timed(work: Callable[[], tuple[int, int]]) -> tuple[float, int, int]:
    started = time.perf_counter()
    status, size = work()
    return time.perf_counter() - started, status, size


def requests_of_16(base: str, question: str, seconds: float) -> float:
    stop = time.perf_counter() + seconds

    def ask(_: int) -> int:
        client, number = Client(base), 0
        while time.perf_counter() < stop:
            client.ask(question, JSON)
            number += 1
        return number

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(ask, range(16))) / seconds


def row(name: str, ours: str, theirs: str, factor: float, goal: float) -> None:
    verdict = "met" if factor >= goal else "NOT MET"
    print(
        f"{name:34} {ours:>14} {theirs:>14} {factor:7.1f} x   goal {goal:4.1f} x  {verdict}",
        flush=True,
    )


def compare(gantry: str, other: str, questions: list[Question]) -> None:
    ours, theirs = Client(gantry), Client(other)
    for question in questions:
        times: list[list[float]] = [[], []]
        sizes = [0, 0]
        for turn in range(question.rounds + 1):
            for side, client in enumerate((ours, theirs)):
                seconds, status, size = timed(partial(client.ask, question.path, question.accept))
                assert status == 200, (question.name, side, status)
                sizes[side] = size
                if turn:  # the first round warms up
                    times[side].append(seconds)
        a, b = (statistics.median(each) * 1000 for each in times)
        row(question.name, f"{a:.1f} ms", f"{b:.1f} ms", b / a, question.goal)
        if min(sizes) * 2 < max(sizes):
            print(f"    (answers of {sizes[0]} and {sizes[1]} bytes)")


def compare_together(gantry: str, other: str) -> None:
    a, b = (requests_of_16(base, "/studies?PatientID=P0001234", 4) for base in (gantry, other))
    row("exact PatientID, 16 clients", f"{a:.0f} /s", f"{b:.0f} /s", a / b, 10)


def compare_stores(gantry: str, other: str) -> None:
    rates: list[list[float]] = [[], []]
    for turn in range(3):
        files = ct_series(study=f"{ROOT}.9.{turn}", number=100)
        for side, base in enumerate((gantry, other)):
            seconds, status, _ = timed(partial(Client(base).store, files))
            assert status == 200, status
            rates[side].append(100 / seconds)
    a, b = map(statistics.median, rates)
    row("STOW of 100 x 512 KiB", f"{a:.0f} /s", f"{b:.0f} /s", a / b, 2)


def fill(base: str, files: list[bytes], *, batch: int) -> float:
    client = Client(base)
    started = time.perf_counter()
    for first in range(0, len(files), batch):
        assert client.store(files[first : first + batch])[0] == 200
    return len(files) / (time.perf_counter() - started)


def index(store: DirectoryStore, url: str) -> None:
    """What the workers do."""
    engine = make_engine(url)
    receipts = [Receipt(parse_object_key(found.key)) for found in store.list("objects/")]
    for first in range(0, len(receipts), 200):
        some = receipts[first : first + 200]
        index_batch(some, store=store, engine=engine, rules=ReadingRules())
    judge_studies(engine, NO_POLICIES, limit=10_000_000)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


@contextmanager
def peer(folder: Path, more: dict[str, object] | None = None) -> Iterator[str]:
    """An Orthanc, by the address of its DICOMweb; `more`: options, with plugins of their own."""
    more = more or {}
    settings = {
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "OverwriteInstances": False,
        "LimitFindResults": 0,
        "Verbose": False,
        **more,
        "Plugins": [PLUGIN, *more.get("Plugins", [])],
    }
    with orthanc(folder, options=settings) as archive:
        yield f"http://127.0.0.1:{archive.http_port}/dicom-web"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20_000)
    options = parser.parse_args()
    server = PostgresServer()
    with tempfile.TemporaryDirectory(prefix="gantry-bench-") as folder:
        url = server.create_database("index")
        migrations.upgrade(url)
        (Path(folder) / "gantry").mkdir()
        service = QueryService(Path(folder) / "gantry", url)
        service.start()
        try:
            with ExitStack() as stack:
                until(service.ready, "Gantry is ready")
                sqlite = stack.enter_context(peer(Path(folder) / "sqlite"))
                postgresql = None
                if ORTHANC_POSTGRESQL.exists():
                    server.create_database("orthanc")
                    own = orthanc_with_postgresql(server.folder, "orthanc")
                    postgresql = stack.enter_context(peer(Path(folder) / "postgresql", own))
                files = [*small_studies(options.studies), *ct_series()]
                for base in filter(None, (service.web, sqlite, postgresql)):
                    print(f"{base}: {fill(base, files, batch=200):.0f} files/s stored", flush=True)
                started = time.perf_counter()
                index(DirectoryStore(service.objects), url)
                print(f"indexed by one worker in {time.perf_counter() - started:.1f} s", flush=True)
                compare(service.web, sqlite, QUESTIONS)
                compare_together(service.web, sqlite)
                if postgresql is not None:
                    compare(service.web, postgresql, OF_POSTGRESQL)
                compare_stores(service.web, sqlite)
        finally:
            if service.process.poll() is None:
                service.terminate()
            server.close()


if __name__ == "__main__":
    main()

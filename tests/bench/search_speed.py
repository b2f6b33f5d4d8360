"""Times the main questions of QIDO-RS over many studies: `python tests/bench/search_speed.py`.

Starts a PostgreSQL and one web process of its own, fills the index with rows, and prints for each
question the matches, the median time over HTTP, and how PostgreSQL finds them.
"""

import argparse
import random
import socket
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import httpx
import uvicorn
from sqlalchemy.engine import Engine

from gantry_archive.staging import Stager
from gantry_domain.attributes import Level
from gantry_domain.sight import Sight
from gantry_query.addresses import PublicAddress
from gantry_query.archive import Archive
from gantry_query.decoding import Decoder
from gantry_query.event_feed import EventFeed
from gantry_query.parameters import parse_search
from gantry_query.reception import StoreDoor
from gantry_query.renditions import Renditions
from gantry_query.streams import Threads
from gantry_query.web import make_app
from gantry_stores.index import migrations
from gantry_stores.index.asking import ask
from gantry_stores.index.database import make_engine
from gantry_stores.index.search import statement_of
from gantry_stores.objects import DirectoryStore
from gantry_testkit.index_rows import IndexedInstance, fill, indexed
from gantry_testkit.postgres import PostgresServer

FAMILY = "CHAN WONG LEE LAM CHEUNG HO NG LEUNG CHENG LAU YEUNG TSANG".split()
GIVEN = "TAI SIU MEI WAI KA MING HOI YAN ANNA PETER".split()
IDEOGRAPHS = "陳黃李林張何吳梁鄭劉楊曾大文小明美華家偉海欣安娜"
QUESTIONS = {
    "exact PatientID": "PatientID=P0001234",
    "wildcard name (romanised)": "PatientName=*ANNA^MING0*&limit=5000",
    "wildcard name (two ideographs)": "PatientName=*小明*&limit=100",
    "wildcard name (one letter)": "PatientName=*a*&limit=100",
    "limit=100": "limit=100",
    "OHIF's list": "limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060",
    "dates (about 1000)": "StudyDate=20230101-20230131&limit=5000",
    "one day": "StudyDate=20230101",
    "ModalitiesInStudy=MR, limit=100": "ModalitiesInStudy=MR&limit=100",
    "rare modality": "ModalitiesInStudy=XA&limit=100",
    "accession number": "AccessionNumber=A0001234",
    "PatientID wildcard": "PatientID=*1234&limit=100",
    "offset=10000": "limit=100&offset=10000",
}


def instances(studies: int, per_study: int) -> list[list[IndexedInstance]]:
    chance = random.Random(1)
    start = date(2022, 6, 1)
    made = []
    for n in range(studies):
        name = f"{chance.choice(FAMILY)}^{chance.choice(GIVEN)}^{chance.choice(GIVEN)}{n % 97}"
        ideographs = "^".join(
            (chance.choice(IDEOGRAPHS[:12]), "".join(chance.choices(IDEOGRAPHS[12:], k=2)))
        )
        modality = "XA" if n % 500 == 0 else chance.choice(["CT", "MR", "US", "CR", "DX"])
        values = {
            "StudyInstanceUID": f"1.2.826.0.1.3680043.9.1.{n}",
            "PatientName": f"{name}={ideographs}",
            "PatientID": f"P{n:07}",
            "PatientSex": chance.choice("MF"),
            "PatientBirthDate": "19700101",
            "StudyDate": f"{start + timedelta(days=n * 620 // studies):%Y%m%d}",
            "StudyTime": f"{n % 24:02}{n % 60:02}00",
            "AccessionNumber": f"A{n:07}",
            "StudyDescription": "CT HEAD WITHOUT CONTRAST",
            "ReferringPhysicianName": "HO^DOCTOR",
            "SeriesInstanceUID": f"1.2.826.0.1.3680043.9.1.{n}.1",
            "SeriesNumber": "1",
            "Modality": modality,
        }
        made.append(
            [
                indexed(
                    {
                        **values,
                        "SOPInstanceUID": f"1.2.826.0.1.3680043.9.1.{n}.1.{i}",
                        "InstanceNumber": str(i),
                        "Rows": 512,
                        "Columns": 512,
                    }
                )
                for i in range(per_study)
            ]
        )
    return made


def plan(engine: Engine, question: str, *, run: bool) -> list[str]:
    """How PostgreSQL finds the matches; with `run` it does so, and tells what it took."""
    pairs = [tuple(pair.split("=", 1)) for pair in question.split("&")]
    query = parse_search(Level.STUDY, pairs, within={}).query
    statement = statement_of(query, sight=Sight("main"))
    explain = "EXPLAIN ANALYZE" if run else "EXPLAIN"
    return [row[0] for row in ask(engine, f"{explain} {statement.text}", statement.values)]


def scans(lines: list[str]) -> str:
    """What a plan reads, in a line."""
    nodes = [line.split("(cost")[0].strip(" ->") for line in lines if "(cost" in line]
    return "; ".join(node for node in nodes if "Scan" in node)


def median_ms(client: httpx.Client, url: str, rounds: int) -> tuple[float, int]:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer = client.get(url)
        times.append(time.perf_counter() - started)
        assert answer.status_code == 200, answer.text
    return statistics.median(times) * 1000, len(answer.json())


def at_once(url: str, clients: int, seconds: float) -> float:
    stop = time.perf_counter() + seconds

    def ask(_: int) -> int:
        number = 0
        with httpx.Client() as client:
            while time.perf_counter() < stop:
                client.get(url)
                number += 1
        return number

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(ask, range(clients))) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--instances", type=int, default=2, help="of each study")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--plans", action="store_true", help="print whole plans")
    options = parser.parse_args()
    server = PostgresServer()
    try:
        measure(server, options)
    finally:
        server.close()


def measure(server: PostgresServer, options: argparse.Namespace) -> None:
    url = server.create_database("index")
    migrations.upgrade(url)
    engine = make_engine(url, pool_size=24)
    started = time.perf_counter()
    made = instances(options.studies, options.instances)
    for first in range(0, len(made), 1000):
        fill(engine, [i for study in made[first : first + 1000] for i in study])
    big = [
        indexed(
            {
                "StudyInstanceUID": "1.9",
                "SeriesInstanceUID": "1.9.1",
                "SOPInstanceUID": f"1.9.1.{i}",
                "InstanceNumber": str(i),
                "StudyDate": "20200101",
                **{f"{k}": "x" * 60 for k in ("PatientComments", "StudyDescription")},
            }
        )
        for i in range(200)
    ]
    fill(engine, big)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    print(f"{options.studies} studies filled in {time.perf_counter() - started:.1f} s")
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as sock,
        ThreadPoolExecutor(1) as commits,
    ):
        store = DirectoryStore(Path(folder))
        stager = Stager(
            store=store, publish=lambda _: None, max_object_size=1 << 30, store_patience=1
        )
        archive = Archive(
            engine=engine,
            store=store,
            renditions=Renditions(store, Decoder()),
            address=PublicAddress(None, ()),
            partitions=frozenset({"main"}),
            questions=Threads(8),
            transfers=Threads(16),
            feed=EventFeed(engine, Threads(1)),
            # Nothing is stored here.
            door=StoreDoor(
                stager=stager,
                threads=Threads(1),
                commits=commits,
                storage_classes=(),
                congested=lambda _: True,
                open=False,
                patience=1,
            ),
        )
        config = uvicorn.Config(make_app(archive), lifespan="off", log_config=None)
        web = uvicorn.Server(config)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [sock]})
        thread.start()
        base = f"http://127.0.0.1:{sock.getsockname()[1]}/dicomweb"
        with httpx.Client(timeout=60) as client:
            for name, question in QUESTIONS.items():
                median, found = median_ms(client, f"{base}/studies?{question}", options.rounds)
                lines = plan(engine, question, run=True)
                shown = "\n      ".join(["", *lines]) if options.plans else scans(lines)
                print(f"{name:32} {found:5} found {median:8.1f} ms   {shown}")
            for path in ("/series?limit=100", "/instances?limit=100", "/studies/1.9/instances"):
                median, found = median_ms(client, base + path, options.rounds)
                print(f"{path:32} {found:5} found {median:8.1f} ms")
            median, found = median_ms(client, f"{base}/studies/1.9/metadata", options.rounds)
            print(f"{'metadata of 200 instances':32} {found:5} found {median:8.1f} ms")
        for question in ("PatientID=P0001234", "limit=100"):
            rate = at_once(f"{base}/studies?{question}", 16, 3)
            print(f"{question}, 16 clients of the same process: {rate:.0f} requests/s")
        web.should_exit = True
        thread.join()
    engine.dispose()


if __name__ == "__main__":
    main()

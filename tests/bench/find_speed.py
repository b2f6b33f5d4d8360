"""Responses of C-FIND per second: ours from PostgreSQL, stock pynetdicom's from memory, Orthanc's.

    .venv/bin/python tests/bench/find_speed.py --studies 20000

Both answer the same keys of the same studies to the same client, which counts and decodes nothing.
pynetdicom's SCP has its matches ready as data sets, so that it does nothing but answer. Orthanc,
where it is installed, has SQLite.
"""

import argparse
import gc
import multiprocessing
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import build_context, evt

from gantry_dimse.proposals import ProposedContext
from gantry_dimse.send import StorageAssociation
from gantry_dimse.slots import AssociationSlots
from gantry_domain.information_models import STUDY_ROOT_FIND
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gantry_query.dimse import Pools, make_server
from gantry_runtime.settings import load_settings
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.peers import orthanc
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.query_scu import Address, count_answers, identifier
from gantry_testkit.stored import CT_IMAGE, encoded, image, with_changes

KEYS = {
    "StudyInstanceUID": "",
    "StudyDate": "",
    "StudyTime": "",
    "AccessionNumber": "",
    "PatientName": "",
    "PatientID": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDescription": "",
    "ModalitiesInStudy": "",
    "NumberOfStudyRelatedInstances": "",
}


def values(n: int) -> dict[str, Any]:
    """The attributes of study number n."""
    return {
        "StudyInstanceUID": f"1.2.826.0.1.3680043.10.1999.{n}",
        "StudyDate": f"{2000 + n % 25}{n % 12 + 1:02}{n % 28 + 1:02}",
        "StudyTime": f"{n % 24:02}1500",
        "AccessionNumber": f"A{n:07}",
        "PatientName": f"CHAN^TAI MAN {n}",
        "PatientID": f"P{n:07}",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyDescription": "CT ABDOMEN WITH CONTRAST",
    }


def filled(server: PostgresServer, studies: int) -> str:
    """The URL of an index of so many studies."""
    url = server.create_database("index")
    migrations.upgrade(url)
    engine = make_engine(url)
    for start in range(0, studies, 2000):
        fill(
            engine,
            [
                indexed(
                    {
                        **values(n),
                        "Modality": "CT",
                        "SeriesInstanceUID": f"1.2.3.{n}",
                        "SOPInstanceUID": f"1.2.4.{n}",
                    }
                )
                for n in range(start, min(start + 2000, studies))
            ],
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    return url


def gantry(url: str, ready: Callable[[Address], None]) -> None:
    """Our server, as one process of the service runs it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"GANTRY_DATA": folder})
        server = make_server(
            settings,
            socket.create_server(("127.0.0.1", 0)),
            engine=make_engine(url, pool_size=9),
            store=lambda: DirectoryStore(Path(folder)),
            pools=Pools.of(settings),
            slots=AssociationSlots(Path(folder) / "slots", count=100),
        )
        server.start()
        gc.freeze()  # as `gantry_runtime.process.attach` does
        ready(server.address)
        time.sleep(10**6)


def stock(studies: int, ready: Callable[[Address], None]) -> None:
    """pynetdicom's own server, with Nagle's algorithm off, which it leaves on."""
    found = {}
    for n in range(studies):
        ds = identifier("STUDY", **values(n), ModalitiesInStudy="CT")
        ds.NumberOfStudyRelatedInstances = 1
        ds.RetrieveAETitle = "STOCK"
        found[ds.PatientID] = ds

    def find(event: evt.Event) -> Any:
        wanted = event.identifier.get("PatientID", "")
        for ds in [found[wanted]] if wanted else found.values():
            yield 0xFF00, ds

    def no_delay(event: evt.Event) -> None:
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    ae = PeerAE(ae_title="STOCK")
    ae.supported_contexts = [build_context(STUDY_ROOT_FIND, IMPLICIT_VR_LITTLE_ENDIAN)]
    handlers = [(evt.EVT_C_FIND, find), (evt.EVT_CONN_OPEN, no_delay)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    ready(server.server_address)
    time.sleep(10**6)


def started(serve: Callable[..., None]) -> tuple[multiprocessing.Process, Address]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there.send,), daemon=True)
    process.start()
    return process, here.recv()


def store_all(port: int, studies: int) -> None:
    """Send an image of each study."""
    explicit = EXPLICIT_VR_LITTLE_ENDIAN
    with StorageAssociation.open(
        host="127.0.0.1",
        port=port,
        calling_ae="CT01",
        called_ae="ORTHANC",
        contexts=[ProposedContext(CT_IMAGE, (explicit,))],
    ) as association:
        context = association.accepts(CT_IMAGE, explicit)
        assert context is not None
        for n in range(studies):
            ds = with_changes(
                image(),
                **values(n),
                SeriesInstanceUID=f"1.2.3.{n}",
                SOPInstanceUID=f"1.2.4.{n}",
            )
            answer = association.store(
                SOPClassUID=CT_IMAGE,
                SOPInstanceUID=f"1.2.4.{n}",
                context=context,
                chunks=[encoded(ds)],
            )
            assert answer.status == 0


ALL = ("all studies", identifier("STUDY", **KEYS), 1)
ONE = ("one PatientID", identifier("STUDY", **KEYS | {"PatientID": "P0000777"}), 50)
SOME = [
    ("a wildcard", identifier("STUDY", **KEYS | {"PatientName": "CHAN^TAI MAN 77*"}), 5),
    ("a range", identifier("STUDY", **KEYS | {"StudyDate": "20000101-20010331"}), 3),
]


def measure(
    name: str, address: Address, called: str, repeats: int, asked: list[tuple[str, Dataset, int]]
) -> None:
    for what, ds, requests in asked:
        times, counted = [], 0
        for _ in range(repeats):
            statuses, seconds = count_answers(address, ds, requests=requests, called=called)
            assert statuses[0] == requests, statuses
            times.append(seconds)
            counted = statuses[0xFF00]
        median = statistics.median(times)
        each = f"{counted / median:,.0f} responses/s" if requests == 1 else ""
        print(f"{name:12} {what:14} {1000 * median / requests:10.2f} ms  {each}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    database = PostgresServer()
    try:
        url = filled(database, options.studies)
        peers = [
            ("gantry", "GANTRY", started(partial(gantry, url))),
            ("pynetdicom", "STOCK", started(partial(stock, options.studies))),
        ]
        for name, called, (process, address) in peers:
            # Stock pynetdicom knows no other questions.
            asked = [ALL, ONE, *(SOME if name == "gantry" else [])]
            measure(name, address, called, options.repeats, asked)
            os.kill(process.pid or 0, 9)
            process.join()
        if shutil.which("Orthanc"):
            with (
                tempfile.TemporaryDirectory() as folder,
                orthanc(Path(folder), options={"DicomAlwaysAllowFind": True}) as peer,
            ):
                store_all(peer.port, options.studies)
                address = ("127.0.0.1", peer.port)
                measure("orthanc", address, "ORTHANC", options.repeats, [ALL, ONE, *SOME])
    finally:
        database.close()


if __name__ == "__main__":
    main()

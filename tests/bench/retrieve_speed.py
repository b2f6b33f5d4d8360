"""C-MOVE and C-GET of one study: ours and Orthanc's, to the same clients, in one run.

    .venv/bin/python tests/bench/retrieve_speed.py --images 200 --kib 512

Both have the same images, are asked in turn by dcmtk's movescu and getscu, and send to dcmtk's
storescp, which like getscu throws away what it receives. Orthanc has SQLite.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import Request, urlopen

from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.peers import Archive, orthanc, storescp
from gantry_testkit.ports import free_port
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.query_process import QueryService
from gantry_testkit.stored import CT_IMAGE, encoded, image, new_uid, stage
from gantry_testkit.waiting import until

_COMPLETED = re.compile(r"Completed Suboperations +: (\d+)")


def retrieve(program: str, title: str, port: int, study: str, *options: str) -> tuple[str, float]:
    """What the program wrote, and how many seconds it took."""
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    begun = time.perf_counter()
    done = subprocess.run(
        [program, "-S", "-aec", title, *options, *keys, "127.0.0.1", str(port)],
        env=os.environ | {"TCP_NODELAY": "1"},
        check=True,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
    )
    return done.stdout + done.stderr, time.perf_counter() - begun


def put(peer: Archive, file: bytes) -> None:
    """Store a DICOM file in Orthanc."""
    headers = {"Content-Type": "application/dicom"}
    address = f"http://127.0.0.1:{peer.http_port}/instances"
    with urlopen(Request(address, file, headers), timeout=60) as answer:
        answer.read()


def main() -> None:
    """Prints the median of each, in instances and MiB per second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--kib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    images, kib = arguments.images, arguments.kib
    study, series = new_uid(), new_uid()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gantry-bench-")))
        sink = stack.enter_context(storescp(folder / "sink", "--ignore"))
        modalities = {"sink": ["SINK", "127.0.0.1", sink.port]}
        peer = stack.enter_context(
            orthanc(
                folder / "orthanc",
                port=free_port(),
                options={
                    "DicomModalities": modalities,
                    "DicomAlwaysAllowMove": True,
                    "DicomAlwaysAllowGet": True,
                },
            )
        )
        server = PostgresServer()
        stack.callback(server.close)
        url = server.create_database("index")
        migrations.upgrade(url)
        ours = QueryService(
            folder,
            url,
            f'partners: [{{ae_title: SINK, address: "127.0.0.1:{sink.port}"}}]\n',
        )
        engine = make_engine(url)
        stack.callback(engine.dispose)
        archive = ForwardingArchive(engine, DirectoryStore(ours.objects))
        for number in range(images):
            ds = image(
                StudyInstanceUID=study,
                SeriesInstanceUID=series,
                InstanceNumber=str(number),
                Rows=kib,
                Columns=512,
                PixelData=os.urandom(1024) * kib,
            )
            archive.index(stage(archive.store, ds))
            meta = FileMeta(
                CT_IMAGE, str(ds.SOPInstanceUID), EXPLICIT_VR_LITTLE_ENDIAN, "CT01", "", ""
            )
            put(peer, encode_file_meta(meta) + encoded(ds))
        stack.callback(ours.kill)
        ours.start()
        until(ours.ready, "ready")
        asked = {"gantry": ("GANTRY", ours.address[1]), "orthanc": ("ORTHANC", peer.port)}
        ways = {"C-MOVE": ("movescu", "-aem", "SINK"), "C-GET": ("getscu", "--ignore")}
        for way, (program, *options) in ways.items():
            rates: dict[str, list[float]] = {name: [] for name in asked}
            for name, (title, port) in asked.items():
                written, _ = retrieve(program, title, port, study, "-d", *options)
                assert _COMPLETED.findall(written)[-1] == str(images), f"{name}: not all"
            for _ in range(arguments.rounds):
                for name, (title, port) in asked.items():
                    _, seconds = retrieve(program, title, port, study, *options)
                    rates[name].append(images / seconds)
            for name, found in rates.items():
                rate = statistics.median(found)
                print(
                    f"{way} {images} x {kib} KiB, {name}: {rate:.0f} instances/s,"
                    f" {rate * kib / 1024:.0f} MiB/s ({min(found):.0f} to {max(found):.0f})"
                )


if __name__ == "__main__":
    main()

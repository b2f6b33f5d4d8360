"""Retrieval by the query service as it runs: memory, and an end in the middle."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pynetdicom import build_context

from gantry_domain.information_models import STUDY_ROOT_MOVE
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.peers import storescp
from gantry_testkit.ports import free_port
from gantry_testkit.query_process import QueryService
from gantry_testkit.query_scu import associated, identifier
from gantry_testkit.stored import CT_IMAGE, image, stage
from gantry_testkit.waiting import until

EXPLICIT = "1.2.840.10008.1.2.1"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Site:
    """A service, its archive, and two destinations: one takes everything, one hangs."""

    service: QueryService
    archive: ForwardingArchive
    sink_port: int
    hanging: AnsweringScp


@pytest.fixture(scope="module")
def site(module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    engine = make_engine(module_postgres_url)
    gate = threading.Event()
    hanging = AnsweringScp(lambda _event: int(not gate.wait(60)), {CT_IMAGE: [EXPLICIT]})
    sink_port = free_port()
    service = QueryService(
        tmp_path_factory.mktemp("service"),
        module_postgres_url,
        "http: {processes: 1}\nquery: {processes: 1}\npartners:\n"
        f'  - {{ae_title: SINK, address: "127.0.0.1:{sink_port}"}}\n'
        f'  - {{ae_title: HANGING, address: "127.0.0.1:{hanging.port}"}}\n',
    )
    service.start()
    try:
        until(service.ready, "ready")
        archive = ForwardingArchive(engine, DirectoryStore(service.objects))
        yield Site(service, archive, sink_port, hanging)
    finally:
        service.kill()
        gate.set()
        hanging.close()
        engine.dispose()


def retrieve(program: str, site: Site, study: str, *options: str) -> str:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    host, port = site.service.address
    done = subprocess.run(
        [program, "-d", "-S", "-aec", "GANTRY", *options, *keys, host, str(port)],
        env=os.environ | {"TCP_NODELAY": "1"},
        check=True,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
    )
    return done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.skipif(shutil.which("getscu") is None, reason="dcmtk is not installed")
def test_large_objects_pass_without_being_held(site: Site, tmp_path: Path) -> None:
    small, _ = site.archive.study(images=2)
    objects = [image(Rows=8192, Columns=8192, PixelData=bytes(128 * MIB)) for _ in range(3)]
    large = str(objects[0].StudyInstanceUID)
    for ds in objects:
        ds.StudyInstanceUID = large
        site.archive.index(stage(site.archive.store, ds))
    with storescp(tmp_path, "--ignore", port=site.sink_port):
        for program, *options in (("getscu", "--ignore"), ("movescu", "-aem", "SINK")):
            retrieve(program, site, small, *options)
            before = site.service.peak_memory("dimse")
            output = retrieve(program, site, large, *options)
            assert "Completed Suboperations       : 3" in output
            grown = site.service.peak_memory("dimse") - before
            assert grown < 32 * MIB, f"{program}: {grown / MIB:.0f} MiB more"


@pytest.mark.long
def test_a_destination_that_hangs_does_not_hold_up_the_end(site: Site) -> None:
    study, _ = site.archive.study(images=3)
    with associated(site.service.address, contexts=[build_context(STUDY_ROOT_MOVE)]) as assoc:
        ds = identifier("STUDY", StudyInstanceUID=study)
        responses = assoc.send_c_move(ds, "HANGING", STUDY_ROOT_MOVE)
        assert next(responses)[0].Status == 0xFF00
        until(lambda: site.hanging.received, "the first image is on its way")
        assert site.service.terminate() == 0
        assert "Status" not in list(responses)[-1][0]  # aborted
    assert "Traceback" not in site.service.log.read_text()

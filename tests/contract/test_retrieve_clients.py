"""Retrieval by the clients that people have, to the archives that they have: dcmtk and Orthanc."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pydicom
import pytest
from pydicom.data import get_testdata_file
from sqlalchemy.engine import Engine

from gantry_dimse.server import DimseServer
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.keys import object_key
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.peers import Archive, dcmqrscp, orthanc, storescp
from gantry_testkit.ports import free_port
from gantry_testkit.stored import image, rows, stage

pytestmark = pytest.mark.skipif(shutil.which("movescu") is None, reason="dcmtk is not installed")

# In every kind of syntax: big endian, RLE, JPEG 2000, deflated, JPEG lossy.
SAMPLES = (
    "MR_small_bigendian.dcm",
    "SC_rgb_rle.dcm",
    "JPEG2000.dcm",
    "image_dfl.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
)

SUCCESS = "0x0000: Success: Sub-operations complete"


@dataclass(frozen=True, slots=True)
class Site:
    """An archive and its port, the ports of its partners, and what it holds."""

    archive: ForwardingArchive
    port: int
    ports: dict[str, int]
    study: str
    uids: list[str]
    samples: dict[str, str]
    """Study Instance UID of each sample by its SOP Instance UID."""

    def data_set(self, SOPInstanceUID: str) -> bytes:
        found = rows(
            self.archive.engine,
            "SELECT object_id FROM instance WHERE sop_instance_uid = :uid",
            uid=SOPInstanceUID,
        )
        return data_set(self.archive.store.read(object_key(found[0][0])))


def data_set(file: bytes) -> bytes:
    return file[parse_file_meta(file).dataset_offset :]


@pytest.fixture(scope="module")
def site(
    module_engine: Engine, serve_find, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    archive = ForwardingArchive(module_engine, DirectoryStore(tmp_path_factory.mktemp("objects")))
    study, uids = archive.study(images=6)
    other = image(StudyInstanceUID=study)
    archive.index(stage(archive.store, other))
    samples = {}
    for name in SAMPLES:
        uid = archive.file(Path(str(get_testdata_file(name, download=False))))
        (found,) = rows(
            module_engine,
            "SELECT study_instance_uid FROM object WHERE sop_instance_uid = :uid",
            uid=uid,
        )
        samples[uid] = found[0]
    ports = {title: free_port() for title in ("MOVESCU", "STORESCP", "DCMQRSCP", "ORTHANC")}
    partners = "".join(
        f'  - {{ae_title: {title}, address: "127.0.0.1:{port}"}}\n' for title, port in ports.items()
    )
    server: DimseServer
    with serve_find(module_engine, f"partners:\n{partners}", archive.store) as server:
        uids = [*uids, str(other.SOPInstanceUID)]
        yield Site(archive, server.address[1], ports, study, uids, samples)


def run(program: str, site: Site, *arguments: str, keys: dict[str, str]) -> str:
    """What a program of dcmtk wrote. It exits with 0 also when it was refused."""
    chosen = [part for key, value in keys.items() for part in ("-k", f"{key}={value}")]
    done = subprocess.run(
        [program, "-d", "-aec", "GANTRY", *arguments, *chosen, "127.0.0.1", str(site.port)],
        env=os.environ | {"TCP_NODELAY": "1"},
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    return done.stdout + done.stderr


def of_study(site: Site) -> dict[str, str]:
    return {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": site.study}


def test_movescu_to_itself_and_to_a_third_device(site: Site, tmp_path: Path) -> None:
    port = str(site.ports["MOVESCU"])
    keys = of_study(site)
    output = run("movescu", site, "-S", "+P", port, "-od", str(tmp_path), keys=keys)
    assert SUCCESS in output
    found = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert sorted(ds.SOPInstanceUID for ds in found) == sorted(site.uids)
    with storescp(tmp_path / "third", "+xa", port=site.ports["STORESCP"]) as third:
        output = run("movescu", site, "-S", "-aem", "STORESCP", keys=keys)
        assert SUCCESS in output
        assert "Completed Suboperations       : 7" in output
        assert third.instances() == dict.fromkeys(site.uids, 1)
        for uid in site.uids:
            assert data_set(third.file(uid)) == site.data_set(uid)
    output = run("movescu", site, "-S", "-aem", "NOBODY", keys=keys)
    assert "0xa801" in output


@pytest.mark.parametrize("model", ["-P", "-S"])
def test_getscu(site: Site, tmp_path: Path, model: str) -> None:
    keys = of_study(site)
    if model == "-P":
        (patient,) = rows(
            site.archive.engine,
            "SELECT patient_id FROM study WHERE study_instance_uid = :uid",
            uid=site.study,
        )
        keys["PatientID"] = patient[0]
    output = run("getscu", site, model, "+B", "-od", str(tmp_path), keys=keys)
    assert SUCCESS in output, output[-3000:]
    files = list(tmp_path.iterdir())
    found = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in files}
    assert sorted(found) == sorted(site.uids)
    for uid, path in found.items():
        assert data_set(path.read_bytes()) == site.data_set(uid)


def test_dcmqrscp_receives_every_syntax(site: Site, tmp_path: Path) -> None:
    with dcmqrscp(tmp_path, port=site.ports["DCMQRSCP"]) as peer:
        for study in dict.fromkeys(site.samples.values()):
            keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study}
            output = run("movescu", site, "-S", "-aem", "DCMQRSCP", keys=keys)
            assert SUCCESS in output, output[-3000:]
        assert peer.instances() == dict.fromkeys(site.samples, 1)


def test_orthanc_finds_and_takes_everything(site: Site, tmp_path: Path) -> None:
    options = {
        "DicomModalities": {
            "gantry": {
                "AET": "GANTRY",
                "Host": "127.0.0.1",
                "Port": site.port,
            }
        }
    }
    with ExitStack() as stack:
        peer = stack.enter_context(orthanc(tmp_path, port=site.ports["ORTHANC"], options=options))
        query = ask(
            peer, "/modalities/gantry/query", {"Level": "Study", "Query": {"StudyInstanceUID": ""}}
        )
        studies = {site.study, *site.samples.values()}
        answers = ask(peer, f"{query['Path']}/answers")
        assert len(answers) == len(studies)
        done = ask(peer, f"{query['Path']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
        assert done
        assert peer.instances() == dict.fromkeys([*site.uids, *site.samples], 1)
        for uid in site.uids:
            assert data_set(peer.file(uid)) == site.data_set(uid)


@pytest.mark.skipif(shutil.which("odil") is None, reason="odil is not installed")
def test_odil_finds_and_gets(site: Site, tmp_path: Path) -> None:
    peer = ["127.0.0.1", str(site.port), "WS1", "GANTRY", "study"]
    keys = [f"{key}={value}" for key, value in of_study(site).items()]
    found = program("odil", "find", *peer, *keys, "PatientName")
    assert found.startswith("1 answer\n")
    assert site.study in found
    program("odil", "get", "-d", str(tmp_path), *peer, *keys)
    got = [pydicom.dcmread(path) for path in tmp_path.iterdir()]
    assert sorted(ds.SOPInstanceUID for ds in got) == sorted(site.uids)


def test_dcmjs_dimse_finds_moves_and_gets(site: Site, tmp_path: Path) -> None:
    node = shutil.which("node")
    lacking = ["node", "-e", "require('dcmjs-dimse')"]
    if node is None or subprocess.run(lacking, check=False, capture_output=True).returncode:
        pytest.skip("node or its package dcmjs-dimse is not installed (NODE_PATH says where)")
    script = str(Path(__file__).parent / "node" / "dcmjs_dimse.cjs")
    with storescp(tmp_path, "+xa", port=site.ports["STORESCP"]) as third:
        written = program(node, script, str(site.port), site.study, "STORESCP")
        assert third.instances() == dict.fromkeys(site.uids, 1)
    found = json.loads(written.splitlines()[-1])  # after its own log
    assert (found["echo"], found["studies"], found["errors"]) == (0, [site.study], [])
    assert found["move"] == found["get"] == [0, len(site.uids), 0]
    assert sorted(found["stored"]) == sorted(site.uids)


def program(*command: str) -> str:
    """What a program wrote that must succeed."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout


def ask(peer: Archive, path: str, content: dict[str, Any] | None = None) -> Any:
    """A question to Orthanc, as JSON."""
    body = None if content is None else json.dumps(content).encode()
    with urlopen(Request(f"http://127.0.0.1:{peer.http_port}{path}", body), timeout=60) as answer:
        return json.load(answer)

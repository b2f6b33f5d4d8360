"""What is measured: Gantry as `gantry up` runs it, Orthanc, storescp, a sink that only writes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gantry_testkit import peers
from gantry_testkit.ports import free_port, free_port_base

HERE = Path(__file__).parent
_PORTS = (11112, 11113, 11114, 2575, 8080, 9101, 9102, 9103, 9104)


@dataclass(frozen=True, slots=True)
class Server:
    """One that answers. `received` is emptied after each run; studies are searched at `web`.

    `process`: the number of the one that started all others.
    """

    name: str
    ae_title: str
    port: int
    received: Path | None = None
    web: str = ""
    process: int = 0

    def clear(self) -> None:
        """Remove what it wrote, for disks are small; an archive keeps its own."""
        if self.received is not None:
            for path in self.received.iterdir():
                path.unlink()

    def found(self, study_instance_uid: str) -> int:
        """How many instances of a study a search finds."""
        url = f"{self.web}/studies?StudyInstanceUID={study_instance_uid}&includefield=00201208"
        request = urllib.request.Request(url, headers={"Accept": "application/dicom+json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        studies = json.loads(content) if content else []
        return int(studies[0]["00201208"]["Value"][0]) if studies else 0


def compile_aids(folder: Path) -> tuple[str, str]:
    """The sender and the sink, built."""
    built = []
    for name in ("sender", "sink"):
        built.append(str(folder / name))
        command = ["gcc", "-O2", "-pthread", "-o", built[-1], str(HERE / f"{name}.c")]
        subprocess.run(command, check=True)
    return built[0], built[1]


@contextmanager
def sink(program: str, folder: Path, *, discards: bool = False) -> Iterator[Server]:
    """The program of sink.c."""
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen([program, str(port), "-" if discards else str(folder)])
    try:
        time.sleep(0.5)
        yield Server("discarding sink" if discards else "bare sink", "SINK", port, folder)
    finally:
        process.kill()
        process.wait()


@contextmanager
def storescp(folder: Path) -> Iterator[Server]:
    """dcmtk's, a process per association."""
    with peers.storescp(folder, "--fork") as archive:
        yield Server("storescp", "STORESCP", archive.port, archive.folder)


@contextmanager
def orthanc(folder: Path, *, nodelay: bool) -> Iterator[Server]:
    """Orthanc with SQLite and its DICOMweb plugin, as installed or without Nagle's algorithm."""
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    options = {"Plugins": [str(plugin)], "DicomWeb": {"Enable": True}}
    with peers.orthanc(folder, options=options, nodelay=nodelay) as archive:
        yield Server(
            "Orthanc, Nagle off" if nodelay else "Orthanc as shipped",
            "ORTHANC",
            archive.port,
            web=f"http://127.0.0.1:{archive.http_port}/dicom-web",
        )


@contextmanager
def gantry(
    folder: Path,
    config: str = "",
    environment: Mapping[str, str] | None = None,
    *,
    tree: Path | None = None,
) -> Iterator[Server]:
    """`gantry up`: every service, PostgreSQL and Redis; of another clone where one is named."""
    folder.mkdir()
    folder.chmod(0o711)
    base = free_port_base(*_PORTS)
    ours = {k: v for k, v in os.environ.items() if not k.startswith("GANTRY_")}
    ours |= {"GANTRY_DATA": str(folder / "data"), "GANTRY_PORT_BASE": str(base)}
    if config:
        (folder / "gantry.yaml").write_text(config)
        ours["GANTRY_CONFIG"] = str(folder / "gantry.yaml")
    programs = Path(sys.executable).parent if tree is None else tree.absolute() / ".venv" / "bin"
    with (folder / "log").open("wb") as log:
        up = subprocess.Popen(
            [shutil.which("gantry", path=programs) or "gantry", "up"],
            env=ours | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert up.stdout is not None
        for line in up.stdout:
            if line.startswith("gantry ready"):
                break
        else:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        web = f"http://127.0.0.1:{8080 + base}/dicomweb"
        yield Server("Gantry", "GANTRY", 11112 + base, web=web, process=up.pid)
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(120)

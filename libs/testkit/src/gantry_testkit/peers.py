"""Real archives as peers, each in a folder: dcmtk's storescp, dcmqrscp and wlmscpfs, Orthanc."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pydicom
import pytest

from gantry_testkit.ports import free_port

_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Archive:
    """A running peer. `folder` is where it keeps what it received, in a manner of its own."""

    ae_title: str
    port: int
    folder: Path
    http_port: int = 0

    def instances(self) -> dict[str, int]:
        """SOP Instance UID to the number of copies that it holds."""
        if self.http_port:
            found = self._ask("/instances?expand")
            uids = [entry["MainDicomTags"]["SOPInstanceUID"] for entry in found]
        else:
            uids = [
                str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
                for path in self.folder.rglob("*")
                if path.is_file() and path.name != "index.dat"
            ]
        return {uid: uids.count(uid) for uid in uids}

    def file(self, SOPInstanceUID: str) -> bytes:
        """The DICOM file of an instance, as the peer keeps it."""
        if self.http_port:
            for entry in self._ask("/instances?expand"):
                if entry["MainDicomTags"]["SOPInstanceUID"] == SOPInstanceUID:
                    url = f"http://127.0.0.1:{self.http_port}/instances/{entry['ID']}/file"
                    with urlopen(url, timeout=10) as answer:
                        return bytes(answer.read())
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name != "index.dat":
                ds = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"])
                if ds.SOPInstanceUID == SOPInstanceUID:
                    return path.read_bytes()
        raise KeyError(SOPInstanceUID)

    def _ask(self, path: str) -> list[dict[str, dict[str, str]]]:
        with urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            found: list[dict[str, dict[str, str]]] = json.load(answer)
            return found


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@contextmanager
def _running(
    command: Sequence[str], folder: Path, port: int, environment: Mapping[str, str]
) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**environment}
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    text = (folder / "log").read_text(errors="replace")
                    raise AssertionError(f"{command[0]} did not start: {text}") from None
                time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def storescp(folder: Path, *options: str, port: int = 0, nodelay: bool = True) -> Iterator[Archive]:
    """dcmtk's storescp, which keeps each data set exactly as received (`+B`)."""
    folder.mkdir(parents=True, exist_ok=True)
    received = folder / "received"
    received.mkdir(exist_ok=True)
    port = port or free_port()
    command = [_program("storescp"), "-od", str(received), "+B", *options, str(port)]
    environment = {"TCP_NODELAY": "1"} if nodelay else {}
    with _running(command, folder, port, environment):
        yield Archive("STORESCP", port, received)


@contextmanager
def dcmqrscp(folder: Path, *, port: int = 0) -> Iterator[Archive]:
    """dcmtk's dcmqrscp, an archive of at most 100 studies."""
    folder.mkdir(parents=True, exist_ok=True)
    received = folder / "received"
    received.mkdir(exist_ok=True)
    port = port or free_port()
    configuration = folder / "dcmqrscp.cfg"
    # Nothing may be indented.
    lines = [
        f"NetworkTCPPort = {port}",
        "MaxPDUSize = 16384",
        "MaxAssociations = 16",
        "HostTable BEGIN",
        f"here = (HERE, localhost, {port})",
        "HostTable END",
        "VendorTable BEGIN",
        "VendorTable END",
        "AETable BEGIN",
        f"DCMQRSCP {received} RW (100, 1024mb) ANY",
        "AETable END",
    ]
    configuration.write_text("\n".join(lines) + "\n")
    command = [_program("dcmqrscp"), "-c", str(configuration)]
    with _running(command, folder, port, {"TCP_NODELAY": "1"}):
        yield Archive("DCMQRSCP", port, received)


ORTHANC_POSTGRESQL = Path("/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so")
"""Orthanc's plugin (Debian's orthanc-postgresql)."""


def orthanc_with_postgresql(folder: Path, database: str) -> dict[str, object]:
    """Options of an Orthanc with its index in a database of the server that listens in `folder`."""
    return {
        "Plugins": [str(ORTHANC_POSTGRESQL)],
        "PostgreSQL": {
            "EnableIndex": True,
            "EnableStorage": False,
            "Host": str(folder),
            "Port": 5432,
            "Database": database,
            "Username": "gantry",
            "Password": "",
            "Lock": False,
        },
    }


@contextmanager
def wlmscpfs(folder: Path, *, port: int = 0) -> Iterator[Archive]:
    """dcmtk's worklist server, without orders; its folder is its AE title."""
    worklist = folder / "WORKLIST"
    worklist.mkdir(parents=True, exist_ok=True)
    (worklist / "lockfile").touch()
    port = port or free_port()
    command = [_program("wlmscpfs"), "-s", "-dfp", str(folder), str(port)]
    with _running(command, folder, port, {"TCP_NODELAY": "1"}):
        yield Archive("WORKLIST", port, worklist)


@contextmanager
def orthanc(
    folder: Path,
    *,
    port: int = 0,
    options: Mapping[str, object] | None = None,
    nodelay: bool = True,
) -> Iterator[Archive]:
    """Orthanc with SQLite, and without plugins where `options` names none."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    http_port = free_port()
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "Name": "peer",
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "index"),
                "Plugins": [],
                "HttpPort": http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "DicomCheckCalledAet": False,
                "DicomAlwaysAllowStore": True,
                **(options or {}),
            }
        )
    )
    command = [_program("Orthanc"), str(configuration)]
    environment = {"LC_ALL": "C.UTF-8"} | ({"TCP_NODELAY": "1"} if nodelay else {})
    with _running(command, folder, port, environment):
        yield Archive("ORTHANC", port, folder / "storage", http_port)

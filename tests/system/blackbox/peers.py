"""Other archives: dcmtk's storescp and dcmqrscp, Orthanc; each on loopback, in its own folder."""

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

_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
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

    def _ask(self, path: str) -> list[dict[str, dict[str, str]]]:
        with urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            found: list[dict[str, dict[str, str]]] = json.load(answer)
            return found


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


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
def storescp(folder: Path, *options: str, port: int = 0) -> Iterator[Peer]:
    """dcmtk's storescp, which keeps each data set exactly as received (`+B`)."""
    folder.mkdir(parents=True, exist_ok=True)
    received = folder / "received"
    received.mkdir(exist_ok=True)
    port = port or free_port()
    command = [_program("storescp"), "-od", str(received), "+B", *options, str(port)]
    with _running(command, folder, port, {"TCP_NODELAY": "1"}):
        yield Peer("STORESCP", port, received)


@contextmanager
def dcmqrscp(
    folder: Path, *, port: int = 0, knows: Mapping[str, int] | None = None
) -> Iterator[Peer]:
    """dcmtk's dcmqrscp, an archive of at most 100 studies.

    `knows`: the ports of this machine that it sends to, by AE title.
    """
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
        *(f"{title} = ({title}, localhost, {there})" for title, there in (knows or {}).items()),
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
        yield Peer("DCMQRSCP", port, received)


@contextmanager
def orthanc(
    folder: Path, *, port: int = 0, options: Mapping[str, object] | None = None
) -> Iterator[Peer]:
    """Orthanc with SQLite and without plugins."""
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
    with _running(command, folder, port, {"TCP_NODELAY": "1", "LC_ALL": "C.UTF-8"}):
        yield Peer("ORTHANC", port, folder / "storage", http_port)

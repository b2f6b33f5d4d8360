"""The ingress as it runs: its processes, started in a folder of its own, and looked at."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pydicom

from gantry_domain.receipts import decode_receipts
from gantry_stores.objects import DirectoryStore
from gantry_testkit import supervised
from gantry_testkit.ports import free_port_base
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.waiting import until


class Ingress:
    """`python -m gantry_ingress` in a folder of its own."""

    def __init__(
        self, folder: Path, broker: RedisServer, extra: str = "", *, partner: str = "CT01"
    ) -> None:
        """`extra`: more lines of the configuration. `partner` alone may call."""
        self.folder, self.broker = folder, broker
        self.objects = folder / "objects"
        self.log = folder / "log"
        base = free_port_base(11112, 9101)
        self.port, self.metrics_port = 11112 + base, 9101 + base
        # Images are taken where the index is away, as here; commitment and limits ask it.
        index = "" if "database:" in extra else "database: postgresql://127.0.0.1:1/nowhere\n"
        (folder / "gantry.yaml").write_text(
            f"{index}broker: {broker.url}\nobjects: objects\n"
            f"partners: [{{ae_title: {partner}}}]\nunknown_partners: refuse\n" + extra
        )
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("GANTRY_")} | {
            "GANTRY_CONFIG": str(folder / "gantry.yaml"),
            "GANTRY_DATA": str(folder / "data"),
            "GANTRY_PORT_BASE": str(base),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gantry_ingress"], env=self.environ, stderr=log
            )
        until(lambda: self.ready()[0] == 200, "ready")

    def ready(self) -> tuple[int, str]:
        """Status and text of its readiness; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self.url("readyz"), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def url(self, page: str) -> str:
        """The address of a page of its supervisor."""
        return f"http://127.0.0.1:{self.metrics_port}/{page}"

    def metric(self, name: str) -> float:
        """A sample, over all processes; `name` with its labels."""
        with urllib.request.urlopen(self.url("metrics"), timeout=5) as answer:
            page = answer.read().decode()
        match = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
        return float(match[1]) if match else 0.0

    def children(self) -> list[int]:
        """The process ids of the receivers."""
        assert self.process is not None
        return [int(child.name) for child in supervised.children(self.process.pid)]

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def connect(self) -> socket.socket:
        """A plain connection to the front door."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def peak_memory(self) -> int:
        """The most bytes that one of its processes had resident since `forget_peak`."""
        return max(supervised.peak_memory(Path(f"/proc/{pid}")) for pid in self.children())

    def forget_peak(self) -> None:
        """Let `peak_memory` begin anew."""
        for pid in self.children():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def stored(self) -> dict[str, str]:
        """The SOP Instance UIDs in the store, each with its key's uuid."""
        store = DirectoryStore(self.objects)
        found = {}
        for entry in store.list("objects/"):
            ds = pydicom.dcmread(self.objects / entry.key, stop_before_pixels=True)
            found[str(ds.SOPInstanceUID)] = Path(entry.key).stem
        return found

    def published(self) -> set[str]:
        """The objects whose receipts the broker holds."""
        client = self.broker.client()
        bodies = [json.loads(raw)["body"] for raw in client.lrange("index", 0, -1)]
        client.close()
        messages = [json.loads(base64.b64decode(body))[0][0] for body in bodies]
        return {str(r.object_id) for message in messages for r in decode_receipts(message)}

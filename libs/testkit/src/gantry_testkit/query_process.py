"""The query service as it runs: its processes over a database and a folder, and looked at."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url

from gantry_stores.objects import DirectoryStore
from gantry_testkit import supervised
from gantry_testkit.ports import free_port_base


class QueryService:
    """`python -m gantry_query` with a configuration of its own."""

    def __init__(self, folder: Path, database_url: str, extra: str = "") -> None:
        """`extra`: more lines of the configuration."""
        base = free_port_base(8080, 9103, 11113)
        self.objects = folder / "objects"
        DirectoryStore(self.objects)  # as the ingress makes it; the query service never does
        self.log = folder / "log"
        self.web = f"http://127.0.0.1:{8080 + base}/dicomweb"
        self.probes = f"http://127.0.0.1:{9103 + base}"
        self.address = ("127.0.0.1", 11113 + base)
        url = make_url(database_url).set(drivername="postgresql")
        # No broker listens there: nothing that a client is answered waits for one.
        (folder / "gantry.yaml").write_text(
            f"database: {url}\nbroker: redis://127.0.0.1:1/0\nobjects: objects\n{extra}"
        )
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("GANTRY_")} | {
            "GANTRY_CONFIG": str(folder / "gantry.yaml"),
            "GANTRY_DATA": str(folder / "data"),
            "GANTRY_PORT_BASE": str(base),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Its supervisor, once started."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start it; it answers when it is ready to."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gantry_query"], env=self.environ, stderr=log
            )

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """End whatever of it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def readiness(self) -> tuple[int, str]:
        """Status and text of its readiness; 0 where nobody answers."""
        try:
            answer = httpx.get(f"{self.probes}/readyz", timeout=10)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def ready(self) -> bool:
        """Whether it is."""
        return self.readiness()[0] == 200

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        answer = httpx.get(f"{self.probes}/metrics", timeout=10)
        families = text_string_to_metric_families(answer.text)
        samples = (sample for family in families for sample in family.samples)
        return sum(
            s.value for s in samples if s.name == name and labels.items() <= s.labels.items()
        )

    def peak_memory(self, name: str = "") -> int:
        """The most bytes that a process has had resident whose name begins so."""
        return max(
            supervised.peak_memory(process)
            for process in supervised.children(self.process.pid)
            if supervised.name(process).startswith(name)
        )

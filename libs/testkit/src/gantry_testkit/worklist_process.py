"""The worklist service as it runs: its processes over a database."""

import http.client
import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import make_url

from gantry_testkit import supervised
from gantry_testkit.ports import free_port_base
from gantry_testkit.query_process import QueryService


class WorklistProcess(QueryService):
    """`python -m gantry_worklist` with a configuration of its own."""

    def __init__(self, folder: Path, database_url: str, extra: str = "") -> None:
        """`extra`: more lines of the configuration."""
        base = free_port_base(2575, 9104, 11114)
        self.log = folder / "log"
        self.probes = f"http://127.0.0.1:{9104 + base}"
        self._probe_port = 9104 + base
        self.address = ("127.0.0.1", 11114 + base)
        self.hl7 = ("127.0.0.1", 2575 + base)
        url = make_url(database_url).set(drivername="postgresql")
        (folder / "gantry.yaml").write_text(
            f"database: {url}\nbroker: redis://127.0.0.1:1/0\n{extra}", encoding="utf-8"
        )
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("GANTRY_")} | {
            "GANTRY_CONFIG": str(folder / "gantry.yaml"),
            "GANTRY_DATA": str(folder / "data"),
            "GANTRY_PORT_BASE": str(base),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it answers when it is ready to."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gantry_worklist"], env=self.environ, stderr=log
            )

    def readiness(self) -> tuple[int, str]:
        """Status and text of its readiness; 0 where nobody answers."""
        # Asked again and again while it starts, which costs httpx more than the service its start.
        connection = http.client.HTTPConnection("127.0.0.1", self._probe_port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def serving(self) -> list[int]:
        """The processes that serve."""
        return [int(child.name) for child in supervised.children(self.process.pid)]

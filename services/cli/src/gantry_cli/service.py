"""The services that `up` runs: one supervisor process each, asked through its probes."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from gantry_runtime.lifeline import PARENT
from gantry_runtime.listen_section import reachable
from gantry_runtime.settings import Settings
from gantry_runtime.supervision import RUN_FOLDER

_PROBE_TIMEOUT = 5.0


def ask(address: str, port: int, path: str) -> tuple[int, bytes]:
    """The status and body of one page of a supervisor; OSError where nobody answers."""
    connection = http.client.HTTPConnection(reachable(address), port, timeout=_PROBE_TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError("no HTTP answer") from error
    finally:
        connection.close()


class Service:
    """``python -m gantry_<name>``: the supervisor of one service."""

    stop_signal = signal.SIGTERM
    grace = 45.0  # its children have 30 s by default
    stops_last = False

    def __init__(self, name: str, *, settings: Settings, metrics_port: int) -> None:
        self.name = name
        self._settings = settings
        self._metrics_port = metrics_port

    def start(self, output: int) -> subprocess.Popen[bytes]:
        """Start the supervisor; what it and its children say goes to the descriptor `output`."""
        environ = {
            # Of a caller who is measured himself; ours are for children alone.
            **{k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"},
            "GANTRY_DATA": str(self._settings.data),
            PARENT: str(os.getpid()),
            RUN_FOLDER: str(self._settings.embedded.run),
        }
        return subprocess.Popen(
            [sys.executable, "-m", f"gantry_{self.name}"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def ready(self) -> str:
        """Empty once all its processes take work; else what they wait for."""
        try:
            status, body = ask(self._settings.listen.address, self._metrics_port, "/readyz")
        except OSError:
            return "does not answer yet"
        return "" if status == 200 else _what_is_missing(body)


def _what_is_missing(body: bytes) -> str:
    try:
        told: Mapping[str, Any] = json.loads(body)
    except ValueError:
        return "does not answer yet"
    missing = [
        f"{process['name']} {process['state'].replace('_', ' ')}"
        + (f" ({process['reason']})" if process["reason"] else "")
        for process in told["processes"]
        if process["state"] != "ready"
    ]
    return ", ".join(missing[:3]) or "is not ready"


def services(settings: Settings) -> tuple[Service, ...]:
    """All services in the order of the flow."""
    ports = settings.ports
    return (
        Service("ingress", settings=settings, metrics_port=ports.ingress_metrics),
        Service("worker", settings=settings, metrics_port=ports.worker_metrics),
        Service("query", settings=settings, metrics_port=ports.query_metrics),
        Service("worklist", settings=settings, metrics_port=ports.worklist_metrics),
    )


def listeners(settings: Settings) -> tuple[tuple[int, str], ...]:
    """Every port that the services open, and what for."""
    ports = settings.ports
    return (
        (ports.dimse, "DICOM, ingress"),
        (ports.query_dimse, "DICOM, query"),
        (ports.http, "DICOMweb, query"),
        (ports.worklist, "DICOM, worklist"),
        (ports.hl7, "HL7, worklist"),
        (ports.ingress_metrics, "metrics of ingress"),
        (ports.worker_metrics, "metrics of worker"),
        (ports.query_metrics, "metrics of query"),
        (ports.worklist_metrics, "metrics of worklist"),
    )

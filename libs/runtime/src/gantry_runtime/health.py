"""The small HTTP server of a supervisor: /healthz, /readyz and /metrics of its service."""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

ProcessState = Literal["starting", "ready", "not_ready", "stalled", "restarting", "stopping"]
_REQUEST_TIMEOUT = 5.0
_MOST_REQUESTS = 16


@dataclass(frozen=True, slots=True)
class ProcessHealth:
    """How one child fares.

    `reason` says why it is not ready, or what it lacks although it is; it holds no patient data.
    """

    name: str
    state: ProcessState
    reason: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Health:
    """How a service fares at one moment."""

    service: str
    alive: bool
    """The supervisor's loop turns and no child is stalled."""
    ready: bool
    """Every child said that it takes work, and the service is not draining."""
    processes: tuple[ProcessHealth, ...]


class HealthServer:
    """Serves the three pages in threads of its own, at most 16 requests at a time."""

    def __init__(
        self,
        listener: socket.socket,
        health: Callable[[], Health],
        metrics: Callable[[], tuple[str, bytes]],
    ) -> None:
        self._server = _Server(listener, health, metrics)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering and close the listener."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        listener: socket.socket,
        health: Callable[[], Health],
        metrics: Callable[[], tuple[str, bytes]],
    ) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.health = health
        self.metrics = metrics
        self._places = threading.BoundedSemaphore(_MOST_REQUESTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no event."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT
    server_version = "gantry"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            content_type, body = self.server.metrics()
            self._answer(200, content_type, body)
        elif path in {"/healthz", "/readyz"}:
            health = self.server.health()
            fine = health.alive if path == "/healthz" else health.ready
            self._answer(200 if fine else 503, "application/json", _as_json(health))
        else:
            self._answer(404, "text/plain; charset=utf-8", b"/healthz, /readyz, /metrics\n")

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds: nothing to log."""


def _as_json(health: Health) -> bytes:
    body: Mapping[str, Any] = asdict(health)
    return json.dumps(body).encode() + b"\n"

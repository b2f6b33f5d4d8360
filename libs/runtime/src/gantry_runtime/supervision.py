"""A service's supervisor: starts its processes, restarts dead ones, answers probes, drains.

It never touches a store and has one loop in the main thread, which waits on the children's status
pipes, on signals and on the next thing that is due. Children are forked, never by this process,
which has threads, but by a server that has none (``gantry_runtime.forkserver``); each has a session
of its own: Ctrl-C in a terminal reaches the top alone, which drains in order.
"""

import os
import selectors
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from prometheus_client import CollectorRegistry, Counter, Gauge

from gantry_runtime.child import Child
from gantry_runtime.exposition import CONTENT_TYPE, Exposition
from gantry_runtime.forks import ForkServer
from gantry_runtime.health import Health, HealthServer
from gantry_runtime.lifeline import PARENT, die_with_parent
from gantry_runtime.listening import listen
from gantry_runtime.logs import configure_logs, get_logger

log = get_logger(__name__)

RUN_FOLDER = "_GANTRY_RUN"
"""Where a supervisor keeps its children's metric files; a temporary folder where it is not set."""

_LONGEST_SLEEP = 1.0
_LOOP_STUCK_AFTER = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One kind of child: ``module.main()`` with its arguments in ``sys.argv``, `count` times.

    They share `sockets`.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    count: int = 1
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)
    stop_grace: float = 30.0
    """Seconds from SIGTERM to SIGKILL."""
    stalled_after: float = 30.0
    """Seconds without a beat after which it is stalled; after twice that it is killed."""


class Supervisor:
    """Runs the processes of one service until it is told to stop."""

    def __init__(
        self, service: str, processes: Sequence[ProcessSpec], address: str, metrics_port: int
    ) -> None:
        self._service = service
        self._specs = tuple(processes)
        self._address = address
        self._metrics_port = metrics_port
        self._children: list[Child] = []
        self._stop_signals = 0
        self._turned = time.monotonic()

    def run(self) -> int:
        """Block until SIGTERM or SIGINT, then drain; 0 when every child ended within its grace.

        A second signal kills what still drains.

        :raises ConfigurationError: the metrics port is in use.
        """
        if PARENT in os.environ:
            die_with_parent()
        configure_logs(self._service)
        listener = listen(self._address, self._metrics_port, f"metrics of {self._service}")
        folder = _metrics_folder(self._service)
        wake, wake_sender = socket.socketpair()
        wake.setblocking(False)
        wake_sender.setblocking(False)
        previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        }
        old_wakeup = signal.set_wakeup_fd(wake_sender.fileno(), warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(wake, selectors.EVENT_READ)
        environ = {
            **os.environ,
            PARENT: str(os.getpid()),
            "PROMETHEUS_MULTIPROC_DIR": str(folder),
        }
        server = ForkServer([spec.module for spec in self._specs], environ, selector)
        own = CollectorRegistry()
        exposition = Exposition(folder, own)
        health_server = HealthServer(
            listener, self.health, lambda: (CONTENT_TYPE, exposition.page())
        )
        try:
            meters = _Meters(own)
            self._children = [
                Child(
                    name=f"{spec.name}-{number}" if spec.count > 1 else spec.name,
                    module=spec.module,
                    arguments=spec.arguments,
                    sockets=spec.sockets,
                    stop_grace=spec.stop_grace,
                    stalled_after=spec.stalled_after,
                    server=server,
                    selector=selector,
                )
                for spec in self._specs
                for number in range(spec.count)
            ]
            health_server.start()
            log.info("supervisor_started", processes=len(self._children))
            while not self._stop_signals:
                self._turn(selector, wake, meters, exposition)
            return self._drain(selector, wake, meters, exposition)
        finally:
            server.close()
            for child in self._children:
                child.close()
            health_server.close()
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)
            selector.close()
            wake.close()
            wake_sender.close()
            shutil.rmtree(folder, ignore_errors=True)

    def health(self) -> Health:
        """How the service fares now; called from any thread."""
        now = time.monotonic()
        processes = tuple(child.health() for child in self._children)
        return Health(
            service=self._service,
            alive=now - self._turned < _LOOP_STUCK_AFTER
            and all(process.state != "stalled" for process in processes),
            ready=not self._stop_signals
            and bool(processes)
            and all(process.state == "ready" for process in processes),
            processes=processes,
        )

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._stop_signals += 1

    def _turn(
        self,
        selector: selectors.BaseSelector,
        wake: socket.socket,
        meters: "_Meters",
        exposition: Exposition,
    ) -> None:
        """Wait for the next event and handle it."""
        now = time.monotonic()
        due = min((child.due for child in self._children if child.due is not None), default=None)
        patience = _LONGEST_SLEEP if due is None else min(_LONGEST_SLEEP, max(0.0, due - now))
        for key, _ in selector.select(patience):
            if key.fileobj is wake:
                _empty(wake)
            else:
                key.data()
        now = time.monotonic()
        for child in self._children:
            if child.reap(now):
                exposition.forget_dead()
            child.act(now, stopping=bool(self._stop_signals))
        self._turned = time.monotonic()
        meters.update(self.health())

    def _drain(
        self,
        selector: selectors.BaseSelector,
        wake: socket.socket,
        meters: "_Meters",
        exposition: Exposition,
    ) -> int:
        log.info("supervisor_draining")
        # While a supervisor keeps its copy open, the kernel takes connections that nobody serves.
        for spec in self._specs:
            for listener in spec.sockets.values():
                listener.close()
        for child in self._children:
            child.terminate(time.monotonic())
        hurried = False
        while any(child.running for child in self._children):
            if self._stop_signals > 1 and not hurried:
                hurried = True
                for child in self._children:
                    child.kill()
            self._turn(selector, wake, meters, exposition)
        clean = not any(child.was_killed for child in self._children)
        log.info("supervisor_stopped", clean=clean)
        return 0 if clean else 1


class _Meters:
    """The supervisor's own metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ready = Gauge(
            "gantry_ready", "Whether every process of the service takes work", registry=registry
        )
        self._processes = Gauge(
            "gantry_processes", "Processes of the service by state", ["state"], registry=registry
        )
        self._restarts = Counter(
            "gantry_process_restarts_total",
            "How often a process was started again after it ended by itself",
            ["process"],
            registry=registry,
        )
        self._counted: dict[str, int] = {}

    def update(self, health: Health) -> None:
        self._ready.set(health.ready)
        states = [process.state for process in health.processes]
        for state in ("starting", "ready", "not_ready", "stalled", "restarting", "stopping"):
            self._processes.labels(state).set(states.count(state))
        for process in health.processes:
            before = self._counted.get(process.name, 0)
            self._restarts.labels(process.name).inc(process.restarts - before)
            self._counted[process.name] = process.restarts


def _metrics_folder(service: str) -> Path:
    run = os.environ.get(RUN_FOLDER)
    if run is None:
        return Path(tempfile.mkdtemp(prefix=f"gantry-metrics-{service}-"))
    folder = Path(run) / f"metrics-{service}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _empty(wake: socket.socket) -> None:
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        return

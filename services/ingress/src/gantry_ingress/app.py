"""Starts the ingress: binds the DIMSE port and supervises the processes that serve it."""

import tempfile
from pathlib import Path

from gantry_runtime.listening import listen
from gantry_runtime.settings import load_settings
from gantry_runtime.supervision import ProcessSpec, Supervisor

LISTENER = "dimse"

# From SIGTERM to SIGKILL; the receiver's own deadlines lie within.
STOP_GRACE = 30.0


def main() -> int:
    """Run until SIGTERM. Raises `ConfigurationError`, as for a port in use."""
    settings = load_settings()
    listener = listen(settings.listen.address, settings.ports.dimse, "storage over DIMSE")
    with tempfile.TemporaryDirectory(prefix="gantry-ingress-") as folder:
        receiver = ProcessSpec(
            name="receiver",
            module="gantry_ingress.receiver",
            arguments=(str(Path(folder) / "associations"),),
            count=settings.ingress.processes,
            sockets={LISTENER: listener},
            stop_grace=STOP_GRACE,
        )
        return Supervisor(
            "ingress", [receiver], settings.listen.address, settings.ports.ingress_metrics
        ).run()

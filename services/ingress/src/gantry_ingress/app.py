"""Starts the ingress: makes the object store, binds the DIMSE port, supervises the receivers."""

import tempfile
from pathlib import Path

from gantry_runtime.listening import listen
from gantry_runtime.settings import load_settings
from gantry_runtime.supervision import ProcessSpec, Supervisor
from gantry_stores.objects import prepare_store

LISTENER = "dimse"

# From SIGTERM to SIGKILL; the receiver's own deadlines lie within.
STOP_GRACE = 30.0


def main() -> int:
    """Run until SIGTERM. Raises `ConfigurationError`, as for a port in use."""
    settings = load_settings()
    # Here alone: a process that is started again later must not take a folder that has gone (an
    # unmounted volume) for one that was never made.
    prepare_store(settings.objects_place)
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

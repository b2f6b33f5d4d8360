"""Starts the ingress: makes the object store, binds the DIMSE port, supervises the receivers."""

import tempfile
from pathlib import Path

from gantry_archive.dimse_door import listen_tls, user_identities
from gantry_runtime.listening import listen
from gantry_runtime.settings import load_settings
from gantry_runtime.supervision import ProcessSpec, Supervisor
from gantry_stores.objects import prepare_store

LISTENER = "dimse"
TLS_LISTENER = "dimse-tls"

# From SIGTERM to SIGKILL; the receiver's own deadlines lie within.
STOP_GRACE = 30.0


def main() -> int:
    """Run until SIGTERM. Raises `ConfigurationError`, as for a port in use."""
    settings = load_settings()
    # Here alone: a process that is started again later must not take a folder that has gone (an
    # unmounted volume) for one that was never made.
    prepare_store(settings.objects_place)
    address = settings.listen.address
    sockets = {LISTENER: listen(address, settings.ports.dimse, "storage over DIMSE")}
    user_identities(settings)  # here too, for what is wrong with them is then one line
    secure = listen_tls(settings, settings.listen.tls_port, "storage over TLS")
    if secure is not None:
        sockets[TLS_LISTENER] = secure
    with tempfile.TemporaryDirectory(prefix="gantry-ingress-") as folder:
        receiver = ProcessSpec(
            name="receiver",
            module="gantry_ingress.receiver",
            arguments=(str(Path(folder) / "associations"),),
            count=settings.ingress.processes,
            sockets=sockets,
            stop_grace=STOP_GRACE,
        )
        return Supervisor("ingress", [receiver], address, settings.ports.ingress_metrics).run()

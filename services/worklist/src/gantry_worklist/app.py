"""Starts the worklist service: binds its ports and supervises the processes that serve them."""

import tempfile
from pathlib import Path

from gantry_archive.dimse_door import listen_tls
from gantry_runtime.listening import listen
from gantry_runtime.settings import load_settings
from gantry_runtime.supervision import ProcessSpec, Supervisor

DIMSE_LISTENER = "dimse"
HL7_LISTENER = "hl7"
HL7_TLS_LISTENER = "hl7-tls"

# From SIGTERM to SIGKILL; running answers get a little less.
STOP_GRACE = 30.0


def main() -> int:
    """Run until SIGTERM. Raises `ConfigurationError`, as for a port in use."""
    settings = load_settings()
    address, ports = settings.listen.address, settings.ports
    dimse_listener = listen(address, ports.worklist, "worklist over DIMSE")
    sockets = {
        DIMSE_LISTENER: dimse_listener,
        HL7_LISTENER: listen(address, ports.hl7, "HL7 over MLLP"),
    }
    secure = listen_tls(settings, settings.listen.hl7_tls_port, "HL7 over TLS")
    if secure is not None:
        sockets[HL7_TLS_LISTENER] = secure
    with tempfile.TemporaryDirectory(prefix="gantry-worklist-") as folder:
        serving = ProcessSpec(
            name="serving",
            module="gantry_worklist.serving",
            arguments=(str(Path(folder) / "associations"),),
            count=settings.worklist.processes,
            sockets=sockets,
            stop_grace=STOP_GRACE,
        )
        return Supervisor("worklist", [serving], address, ports.worklist_metrics).run()

"""Starts the query service: binds its ports and supervises the processes that serve them."""

import tempfile
from pathlib import Path

from gantry_runtime.listening import listen
from gantry_runtime.settings import load_settings
from gantry_runtime.supervision import ProcessSpec, Supervisor

LISTENER = "http"
DIMSE_LISTENER = "dimse"

# From SIGTERM to SIGKILL; running answers get a little less (gantry_query.http, .dimse).
STOP_GRACE = 30.0


def main() -> int:
    """Run until SIGTERM. Raises `ConfigurationError`, as for a port in use."""
    settings = load_settings()
    settings.web_clients  # noqa: B018 (here too, for what is wrong with them is then one line)
    address, ports = settings.listen.address, settings.ports
    web_listener = listen(address, ports.http, "DICOMweb")
    dimse_listener = listen(address, ports.query_dimse, "query over DIMSE")
    http = ProcessSpec(
        name="http",
        module="gantry_query.http",
        count=settings.http.processes,
        sockets={LISTENER: web_listener},
        stop_grace=STOP_GRACE,
    )
    with tempfile.TemporaryDirectory(prefix="gantry-query-") as folder:
        dimse = ProcessSpec(
            name="dimse",
            module="gantry_query.dimse",
            arguments=(str(Path(folder) / "associations"),),
            count=settings.query.processes,
            sockets={DIMSE_LISTENER: dimse_listener},
            stop_grace=STOP_GRACE,
        )
        return Supervisor("query", [http, dimse], address, ports.query_metrics).run()

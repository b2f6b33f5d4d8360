"""Starts the query service: binds its ports and supervises the processes that serve them."""

import tempfile
from pathlib import Path

from gantry_archive.dimse_door import listen_tls
from gantry_archive.outgoing_tls import check_outgoing_tls
from gantry_runtime.listening import listen
from gantry_runtime.settings import load_settings
from gantry_runtime.supervision import ProcessSpec, Supervisor

LISTENER = "http"
DIMSE_LISTENER = "dimse"
DIMSE_TLS_LISTENER = "dimse-tls"

# From SIGTERM to SIGKILL; running answers get a little less (gantry_query.http, .dimse).
STOP_GRACE = 30.0


def main() -> int:
    """Run until SIGTERM. Raises `ConfigurationError`, as for a port in use."""
    settings = load_settings()
    settings.web_clients  # noqa: B018 (here too, for what is wrong with them is then one line)
    check_outgoing_tls(settings)
    address, ports = settings.listen.address, settings.ports
    web_listener = listen(address, ports.http, "DICOMweb")
    dimse_listeners = {DIMSE_LISTENER: listen(address, ports.query_dimse, "query over DIMSE")}
    secure = listen_tls(settings, settings.listen.query_tls_port, "query over TLS")
    if secure is not None:
        dimse_listeners[DIMSE_TLS_LISTENER] = secure
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
            sockets=dimse_listeners,
            stop_grace=STOP_GRACE,
        )
        return Supervisor("query", [http, dimse], address, ports.query_metrics).run()

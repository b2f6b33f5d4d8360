"""Starts the query service: binds the HTTP port and supervises the processes that serve it."""

from gantry_runtime.listening import listen
from gantry_runtime.settings import load_settings
from gantry_runtime.supervision import ProcessSpec, Supervisor

LISTENER = "http"

# From SIGTERM to SIGKILL; running answers get a little less (gantry_query.http).
STOP_GRACE = 30.0


def main() -> int:
    """Run until SIGTERM. Raises `ConfigurationError`, as for a port in use."""
    settings = load_settings()
    listener = listen(settings.listen.address, settings.ports.http, "DICOMweb")
    http = ProcessSpec(
        name="http",
        module="gantry_query.http",
        count=settings.http.processes,
        sockets={LISTENER: listener},
        stop_grace=STOP_GRACE,
    )
    return Supervisor("query", [http], settings.listen.address, settings.ports.query_metrics).run()

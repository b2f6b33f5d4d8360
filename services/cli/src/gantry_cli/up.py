"""`gantry up`: engines, migrations, services, one line when all are ready; then keeps them up."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from gantry_cli.embedded.engines import needed_engines
from gantry_cli.embedded.places import is_running, sole_run
from gantry_cli.keeper import Keeper, StopRequested
from gantry_cli.reach import await_broker, await_database, check_ports
from gantry_cli.service import services
from gantry_runtime.listen_section import reachable
from gantry_runtime.settings import Settings
from gantry_stores.index import migrations

_ENGINE_PATIENCE = 60.0
_SERVICE_PATIENCE = 60.0
_STRANGER_PATIENCE = 30.0
_PORT_PATIENCE_AFTER_CRASH = 10.0


def say(line: str) -> None:
    """One line for the person at the terminal, on stderr."""
    sys.stderr.write(f"gantry: {line}\n")
    sys.stderr.flush()


def up(settings: Settings, *, demo: bool, echo_logs: bool) -> int:
    """Run everything in the foreground until SIGTERM or SIGINT.

    :raises GantryError: something is wrong with the settings or did not start. All that had been
        started has ended by then.
    """
    with sole_run(settings.data) as crashed:
        # What a killed run left may need a moment to go.
        check_ports(settings, patience=_PORT_PATIENCE_AFTER_CRASH if crashed else 0.0)
        engines = needed_engines(settings)
        keeper = Keeper(logs=settings.data / "logs", say=say, echo=echo_logs)
        with keeper.running():
            try:
                keeper.start(engines, patience=_ENGINE_PATIENCE)
                await_database(settings, patience=_STRANGER_PATIENCE, unless=keeper.check)
                await_broker(settings, patience=_STRANGER_PATIENCE, unless=keeper.check)
                migrations.upgrade(settings.database_url)
                keeper.start(services(settings), patience=_SERVICE_PATIENCE)
            except StopRequested:
                say("stopped before all had started")
                return 0
            sys.stdout.write(ready_line(settings) + "\n")
            sys.stdout.flush()
            say(f"data in {settings.data}, logs in {settings.data / 'logs'}, Ctrl-C stops")
            with _demonstrating(settings) if demo else nullcontext():
                keeper.watch()
            say("stopping: what was begun is finished first (once more to hurry)")
    say("stopped")
    return 0


@contextmanager
def database_running(settings: Settings) -> Iterator[None]:
    """For a command that needs the database: that of a running `up`, or one of its own.

    :raises GantryError: they do not start or cannot be reached.
    """
    if settings.database is not None or is_running(settings.data):
        await_database(settings, patience=_STRANGER_PATIENCE)
        yield
        return
    with sole_run(settings.data):
        engines = needed_engines(settings, broker=False)
        keeper = Keeper(logs=settings.data / "logs", say=say, interrupt=True)
        with keeper.running():
            keeper.start(engines, patience=_ENGINE_PATIENCE)
            yield


def ready_line(settings: Settings) -> str:
    """The one line that says where everything is."""
    ports, host = settings.ports, reachable(settings.listen.address)
    host = f"[{host}]" if ":" in host else host
    return (
        f"gantry ready: DICOM {settings.ae_titles[0]}@{host}:{ports.dimse}, "
        f"queries :{ports.query_dimse}, worklist :{ports.worklist}, HL7 :{ports.hl7}, "
        f"DICOMweb http://{host}:{ports.http}/dicomweb, "
        f"metrics http://{host}:{ports.ingress_metrics}/metrics (ingress), "
        f":{ports.worker_metrics} (worker), :{ports.query_metrics} (query), "
        f":{ports.worklist_metrics} (worklist)"
    )


def _show(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@contextmanager
def _demonstrating(settings: Settings) -> Iterator[None]:
    # Imported here, for a sender brings more than all else that this process needs.
    from gantry_cli.demo import Demonstration

    demonstration = Demonstration(settings, say=_show)
    demonstration.start()
    yield
    demonstration.stop()

"""Whether a process that answers from the index can do so, told to its supervisor."""

from collections.abc import Callable

from gantry_domain.errors import GantryError
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process
from gantry_stores.index import migrations

log = get_logger(__name__)


def tell_readiness(
    process: Process, *, database_url: str, look: Callable[[], object], every: float
) -> None:
    """Look every so many seconds until the process shall stop.

    `look`: asks what the process needs, once the index is migrated, and raises what it lacks.
    """
    migrated = False
    while not process.stopping.is_set():
        try:
            migrated = migrated or migrations.is_current(database_url)
            if migrated:
                look()
        except GantryError as error:
            process.not_ready(str(error))
        except Exception:
            # Ending here would end the process, or leave its last word standing for ever.
            log.exception("readiness_unknown")
            process.not_ready("what it needs fails in an unknown way")
        else:
            if migrated:
                process.ready()
            else:
                process.not_ready("the database is not migrated: run `gantry migrate`")
        process.stopping.wait(every)

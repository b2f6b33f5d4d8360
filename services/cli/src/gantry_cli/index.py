"""The index, for commands that look into it while Gantry runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Engine

from gantry_domain.errors import TransientError
from gantry_runtime.settings import Settings
from gantry_stores.index.database import make_engine


class NotRunning(TransientError):
    """The database of this run does not answer."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; this command works while Gantry runs (gantry up)")


@contextmanager
def running_index(settings: Settings) -> Iterator[Engine]:
    """The index of the run. Raises `NotRunning` for whatever is transient."""
    engine = make_engine(settings.database_url, pool_size=1, application_name="gantry-command")
    try:
        yield engine
    except TransientError as error:
        raise NotRunning(str(error)) from error
    finally:
        engine.dispose()

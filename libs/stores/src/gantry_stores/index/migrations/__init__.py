"""Migrations of the index: forward only, each a file of explicit statements that never changes.

`upgrade` runs all that are missing in one transaction; several processes may call it at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.errors import ConfigurationError
from gantry_stores.index.database import make_engine, transaction

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).parent
# Each file is named by its revision, and they follow each other in this order.
REVISIONS = tuple(sorted(file.name[:4] for file in _FOLDER.glob("versions/[0-9]*.py")))
# Any number that nothing else in the database locks.
_LOCK = 0x47414E54_52590001


class NewerSchema(ConfigurationError):
    """The database was migrated by a newer Gantry."""

    def __init__(self) -> None:
        super().__init__("the database was migrated by a newer Gantry than this one")


def upgrade(database_url: str) -> None:
    """Bring the database to the newest schema. Does nothing where it is.

    Raises `NewerSchema`, `ConfigurationError`, `IndexUnavailable` or `IndexRefused`.
    """
    engine = make_engine(database_url, pool_size=1, application_name="gantry-migrate")
    try:
        with transaction(engine) as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            if not _current(connection):
                _upgrade(connection)
    finally:
        engine.dispose()


def is_current(database_url: str) -> bool:
    """Whether the database has the newest schema. Raises as `upgrade`."""
    engine = make_engine(database_url, pool_size=1, application_name="gantry-migrate")
    try:
        with transaction(engine) as connection:
            return _current(connection)
    finally:
        engine.dispose()


def _current(connection: Connection) -> bool:
    # Asked by hand: every process of the query service asks, and Alembic takes long to import.
    revision = None
    if connection.scalar(sa.text("SELECT to_regclass('alembic_version')")) is not None:
        revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if revision is not None and revision not in REVISIONS:
        raise NewerSchema
    return bool(revision == REVISIONS[-1])


def _upgrade(connection: Connection) -> None:
    from alembic import command

    command.upgrade(_config(connection), "head")


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    # The parser of the configuration takes % for an interpolation.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config

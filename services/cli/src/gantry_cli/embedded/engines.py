"""Which engines a run needs, prepared: those that the configuration does not name."""

from gantry_cli.embedded.account import engine_account
from gantry_cli.embedded.places import prepare
from gantry_cli.embedded.postgres import EmbeddedPostgres
from gantry_cli.embedded.redis import EmbeddedRedis
from gantry_runtime.settings import Settings


def needed_engines(
    settings: Settings, *, broker: bool = True
) -> tuple[EmbeddedPostgres | EmbeddedRedis, ...]:
    """The engines to start, in order; their folders are made. The caller holds the data folder.

    Without `broker` only the database is wanted.

    :raises ConfigurationError: a folder cannot be made or reached.
    """
    wanted: list[type[EmbeddedPostgres] | type[EmbeddedRedis]] = []
    account = engine_account()
    prepare(settings.embedded, account)
    if settings.database is None:
        wanted.append(EmbeddedPostgres)
    if broker and settings.broker is None:
        wanted.append(EmbeddedRedis)
    engines = tuple(engine(settings.embedded, account) for engine in wanted)
    for engine in engines:
        engine.prepare()
    return engines

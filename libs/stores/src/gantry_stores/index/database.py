"""The engine of the index: PostgreSQL through psycopg 3, with a limit on every wait.

Whatever the driver raises leaves here as one of three errors, told apart by SQLSTATE. Timeouts
are set in each transaction and nothing is prepared on the server, so that a pooler which hands
out connections by transaction (PgBouncer) may stand between.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from gantry_domain.errors import ConfigurationError, PermanentError, TransientError

# PostgreSQL, Appendix A: classes and codes of what another attempt may overcome.
_TRANSIENT_CLASSES = ("08", "53", "57", "58")  # connection, resources, intervention, system
_CONTENDED = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "23503",  # foreign_key_violation: what the row refers to was removed meanwhile
    }
)
_TRANSIENT_CODES = _CONTENDED | {
    "25006",  # read_only_sql_transaction: the primary has moved
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "55P03",  # lock_not_available: waited for it as long as anyone should
}

_SESSION_ENDED = "57P"  # operator intervention but for query_canceled, which is 57014

_AUTOCOMMIT = "AUTOCOMMIT"

STATEMENT_LIMIT = "gantry_statement_limit"
"""The option of an engine that holds the milliseconds of `statement_timeout`."""

_SEEN = "gantry_seen"
_TRUSTED_SECONDS = 0.25
_VALUES = ("22", "23", "54")  # data exceptions, constraints, limits such as an index row's size


class IndexUnavailable(TransientError):
    """The database does not answer, or not in time. `sqlstate` is None without a connection."""

    def __init__(self, sqlstate: str | None = None) -> None:
        super().__init__(f"the database is not available (SQLSTATE {sqlstate or 'none'})")
        self.sqlstate = sqlstate


class IndexContended(IndexUnavailable):
    """Another transaction was in the way: the same one may be run again at once."""


class IndexRefused(PermanentError):
    """The database refuses the statement or its values. The text holds none of the values."""

    def __init__(self, sqlstate: str | None, constraint: str | None = None) -> None:
        name = f", constraint {constraint}" if constraint else ""
        super().__init__(f"the database refused a statement (SQLSTATE {sqlstate or 'none'}{name})")
        self.sqlstate = sqlstate
        self.constraint = constraint

    @property
    def values_refused(self) -> bool:
        """Whether the values of the statement are the cause, not the statement or the server."""
        return self.sqlstate is None or self.sqlstate.startswith(_VALUES)


def make_engine(
    database_url: str,
    *,
    pool_size: int = 5,
    connect_timeout: timedelta = timedelta(seconds=5),
    statement_timeout: timedelta = timedelta(seconds=30),
    lock_timeout: timedelta = timedelta(seconds=10),
    idle_in_transaction_timeout: timedelta = timedelta(seconds=60),
    application_name: str = "gantry",
) -> Engine:
    """An engine for one process, made after a fork; connects when first used.

    At most `pool_size` connections; whoever finds none free waits `connect_timeout` and then gets
    `IndexUnavailable`. Raises `ConfigurationError` for a URL that is not one of PostgreSQL.
    """
    try:
        url = sa.make_url(database_url)
    except sa.exc.ArgumentError as error:
        raise ConfigurationError("the database's URL cannot be read") from error
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError("the database must be PostgreSQL")
    seconds = connect_timeout.total_seconds()
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=seconds,
        pool_recycle=1800,
        hide_parameters=True,  # values are patient data
        execution_options={STATEMENT_LIMIT: str(_milliseconds(statement_timeout))},
        connect_args={
            "connect_timeout": max(2, round(seconds)),  # libpq's shortest
            "application_name": application_name,
            "prepare_threshold": None,  # a pooler may share connections
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )
    limits = (
        f"SET LOCAL statement_timeout = {_milliseconds(statement_timeout)};"
        f"SET LOCAL lock_timeout = {_milliseconds(lock_timeout)};"
        "SET LOCAL idle_in_transaction_session_timeout = "
        f"{_milliseconds(idle_in_transaction_timeout)}"
    )

    @event.listens_for(engine, "begin")
    def _set_limits(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != _AUTOCOMMIT:
            connection.exec_driver_sql(limits)

    event.listen(engine, "handle_error", _name_error)
    event.listen(engine, "connect", _seen)
    event.listen(engine, "checkin", _seen)
    event.listen(engine, "checkout", _look_by(engine.dialect.do_ping))
    return engine


def _seen(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info[_SEEN] = time.monotonic()


def _look_by(ping: Callable[[DBAPIConnection], object]) -> Callable[..., None]:
    """So that a server's restart fails no one who comes after it: the pool connects anew then."""

    def look(connection: DBAPIConnection, record: ConnectionPoolEntry, *_: object) -> None:
        # A round trip saved for those who make one transaction after the other.
        if time.monotonic() - record.info[_SEEN] >= _TRUSTED_SECONDS:
            try:
                ping(connection)
            except psycopg.Error as error:
                raise InvalidatePoolError from error

    return look


def _milliseconds(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)


def _name_error(context: ExceptionContext) -> Exception | None:
    original = context.original_exception
    if not isinstance(original, psycopg.Error):
        return None
    if (original.sqlstate or "").startswith(_SESSION_ENDED):
        # The driver learns it from the next read alone.
        context.is_disconnect = True
    return named(original)


def named(error: psycopg.Error) -> IndexUnavailable | IndexRefused:
    """What an error of the driver is called here."""
    if error.sqlstate is None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return IndexUnavailable()
        return IndexRefused(None)
    return named_state(error.sqlstate, error.diag.constraint_name)


def named_state(sqlstate: str, constraint: str | None = None) -> IndexUnavailable | IndexRefused:
    """What an error of the server is called here."""
    if sqlstate in _CONTENDED:
        return IndexContended(sqlstate)
    if sqlstate in _TRANSIENT_CODES or sqlstate.startswith(_TRANSIENT_CLASSES):
        return IndexUnavailable(sqlstate)
    return IndexRefused(sqlstate, constraint)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction, READ COMMITTED; committed at the end, rolled back by an exception.

    Raises `IndexUnavailable` where there is no connection to be had.
    """
    connection = _connect(engine)
    with connection, connection.begin():
        yield connection


@contextmanager
def one_statement(engine: Engine) -> Iterator[Connection]:
    """A connection for one statement that is a transaction by itself and waits for no lock.

    Or for a few that need not see the same. Each costs one round trip where `transaction` costs
    three more, and has none of its limits. Raises as that does.
    """
    with _connect(engine) as connection:
        connection.execution_options(isolation_level=_AUTOCOMMIT)
        with connection.begin():
            yield connection


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except PoolTimeout as error:
        raise IndexUnavailable() from error


def ping(engine: Engine) -> None:
    """Raises `IndexUnavailable` if the database does not answer."""
    with transaction(engine) as connection:
        connection.execute(sa.text("SELECT 1"))

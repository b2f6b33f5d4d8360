"""The engine of the index: every wait has an end, and every error its kind."""

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gantry_domain.errors import ConfigurationError, TransientError
from gantry_stores.index.database import (
    IndexContended,
    IndexRefused,
    IndexUnavailable,
    make_engine,
    ping,
    transaction,
)


@pytest.fixture
def engine(postgres_url):
    engine = make_engine(
        postgres_url,
        pool_size=2,
        connect_timeout=timedelta(seconds=0.2),
        statement_timeout=timedelta(seconds=0.3),
        lock_timeout=timedelta(seconds=0.2),
        idle_in_transaction_timeout=timedelta(seconds=0.3),
    )
    yield engine
    engine.dispose()


def test_it_answers(engine):
    ping(engine)


def test_a_statement_that_takes_too_long_is_transient(engine):
    with pytest.raises(IndexUnavailable, match="57014"), transaction(engine) as connection:
        connection.execute(sa.text("SELECT pg_sleep(30)"))
    ping(engine)


def test_a_lock_that_is_not_to_be_had_is_transient(engine):
    with transaction(engine) as holder:
        holder.execute(sa.text("LOCK TABLE study"))
        with pytest.raises(IndexUnavailable) as caught, transaction(engine) as connection:
            connection.execute(sa.text("LOCK TABLE study"))
    # Another attempt at once would only wait as long again.
    assert not isinstance(caught.value, IndexContended)


def test_a_transaction_that_is_left_alone_is_ended(engine):
    """And with it its locks: a worker that hangs holds up no other for long."""

    def alive(pid):
        with transaction(engine) as other:
            found = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            return other.scalar(found, {"pid": pid})

    connection = engine.connect()
    pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    while alive(pid):
        pass
    with pytest.raises(IndexUnavailable):
        connection.execute(sa.text("SELECT 1"))
    connection.invalidate()
    connection.close()
    ping(engine)


def test_a_connection_that_died_in_the_pool_fails_no_one(engine, postgres_url):
    with transaction(engine) as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    other = make_engine(postgres_url)
    with transaction(other) as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    other.dispose()
    time.sleep(0.3)  # a connection that was just used is believed to be alive
    with transaction(engine) as connection:
        assert connection.scalar(sa.text("SELECT pg_backend_pid()")) != pid


def test_a_pool_without_a_free_connection_is_transient(engine):
    with transaction(engine), transaction(engine), pytest.raises(IndexUnavailable):
        ping(engine)
    assert issubclass(IndexUnavailable, TransientError)


@pytest.mark.parametrize(
    ("sql", "values_refused"),
    [
        ("INSERT INTO closed_hour VALUES (:value, 1, now())", True),
        ("SELECT CAST(:value AS integer)", True),
        ("SELECT :value FROM nowhere", False),
    ],
)
def test_what_is_refused_does_not_repeat_its_values(engine, sql, values_refused):
    with pytest.raises(IndexRefused) as caught, transaction(engine) as connection:
        connection.execute(sa.text(sql), {"value": "Yamada"})
    assert caught.value.values_refused == values_refused
    assert caught.value.sqlstate in str(caught.value)
    assert "Yamada" not in str(caught.value)


def test_a_nul_is_refused_as_a_value(engine):
    with pytest.raises(IndexRefused) as caught, transaction(engine) as connection:
        connection.execute(sa.text("SELECT CAST(:value AS text)"), {"value": "a\0b"})
    assert caught.value.values_refused


@pytest.mark.parametrize("url", ["mysql://somewhere/x", "not a url"])
def test_another_database_is_a_mistake_of_configuration(url):
    with pytest.raises(ConfigurationError):
        make_engine(url)


def test_limits_hold_in_every_transaction_of_a_shared_connection(engine):
    """A pooler may hand each transaction another connection: limits are set in each."""
    for _ in range(3):
        with transaction(engine) as connection:
            assert connection.scalar(sa.text("SHOW statement_timeout")) == "300ms"
        with engine.connect() as plain:
            raw = plain.connection.dbapi_connection
            assert raw.prepare_threshold is None

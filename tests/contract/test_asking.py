"""Questions in one round trip: the limits and errors of a transaction, and nothing left over."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.engine import Engine

from gantry_stores.index.asking import Asking, ask
from gantry_stores.index.database import IndexRefused, IndexUnavailable, make_engine, transaction
from gantry_stores.index.values import Values
from gantry_testkit.waiting import until

SLEEP = "SELECT pg_sleep(30)"


@pytest.fixture(scope="module")
def engine(module_postgres_url: str) -> Iterator[Engine]:
    engine = make_engine(
        module_postgres_url,
        pool_size=2,
        connect_timeout=timedelta(seconds=0.2),
        statement_timeout=timedelta(seconds=0.3),
    )
    yield engine
    engine.dispose()


def answer(engine: Engine, text: str, values: Values | None = None) -> object:
    ((found,),) = ask(engine, text, values or Values())
    return found


AWKWARD = ["", "a,b", '"', "\\", "{}", "NULL", "'", "%s", "$1", "陳\n", '\\\\"']


def test_values_come_back_as_they_went(engine: Engine) -> None:
    values = Values()
    uid = UUID("0190f0d4-0000-7000-8000-000000000001")
    moment = datetime(2024, 2, 29, 23, 59, 59, 1)  # noqa: DTZ001 - as the columns have it
    span = timedelta(days=-1, seconds=5, microseconds=7)
    text = ", ".join(
        [
            *map(values.text, AWKWARD),
            values.texts(AWKWARD),
            values.texts([]),
            values.number(-(10**13)),
            values.numbers([1, -2]),
            values.uuids([uid]),
            values.moment(moment),
            values.span(span),
            values.of("1"),
            values.of(1),
        ]
    )
    (row,) = ask(engine, f"SELECT {text}", values)
    assert list(row) == [*AWKWARD, AWKWARD, [], -(10**13), [1, -2], [uid], moment, span, "1", 1]
    found = answer(engine, "SELECT '2024-02-29 00:00:00+00'::timestamptz")
    assert found == datetime(2024, 2, 29, tzinfo=UTC)


def test_values_that_are_added_to_a_copy_are_not_in_the_first() -> None:
    first = Values()
    first.text("a")
    assert first.copy().text("b") == "$2::text"
    assert first.encoded == [b"a"]


def test_more_than_a_socket_holds_in_both_directions(module_postgres_url: str) -> None:
    patient = make_engine(module_postgres_url, pool_size=1)
    values = Values()
    long = "x" * 8_000_000
    try:
        assert answer(patient, f"SELECT {values.text(long)}", values) == long
    finally:
        patient.dispose()


def test_a_question_that_takes_too_long_is_transient(engine: Engine) -> None:
    for _ in range(3):
        with pytest.raises(IndexUnavailable, match="57014"):
            ask(engine, SLEEP, Values())
    assert answer(engine, "SELECT 1") == 1
    with transaction(engine) as connection:  # the limit ended with the question
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SELECT pg_sleep(0.4)")


@pytest.mark.parametrize(
    ("sql", "values_refused"),
    [("SELECT {}::int", True), ("SELECT {} FROM nowhere", False)],
)
def test_what_is_refused_does_not_repeat_its_values(
    engine: Engine, sql: str, values_refused: bool
) -> None:
    values = Values()
    text = sql.format(values.text("Yamada"))
    with pytest.raises(IndexRefused) as caught:
        ask(engine, text, values)
    assert caught.value.values_refused == values_refused
    assert "Yamada" not in str(caught.value)
    assert answer(engine, "SELECT 1") == 1


def test_a_nul_is_refused_and_does_not_end_a_text_early() -> None:
    for place in (lambda v: v.text("a\0b"), lambda v: v.texts(["a\0b"])):
        with pytest.raises(IndexRefused) as caught:
            place(Values())
        assert caught.value.values_refused


def test_a_pool_without_a_free_connection_is_transient(engine: Engine) -> None:
    with transaction(engine), transaction(engine), pytest.raises(IndexUnavailable):
        ask(engine, "SELECT 1", Values())


def running(other: Engine, text: str) -> bool:
    with transaction(other) as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'", (text,)
        )
        return bool(found.scalar())


def test_the_server_ends_it_in_the_middle(engine: Engine, module_postgres_url: str) -> None:
    patient = make_engine(module_postgres_url)
    other = make_engine(module_postgres_url)
    ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = %s"

    def end() -> None:
        until(lambda: running(other, SLEEP), "it is asked")
        with transaction(other) as connection:
            connection.exec_driver_sql(ending, (SLEEP,))

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(IndexUnavailable):
        ask(patient, SLEEP, Values())
    thread.join()
    assert answer(patient, "SELECT 1") == 1
    patient.dispose()
    other.dispose()


def test_whoever_asks_may_look_up_and_leave(module_postgres_url: str) -> None:
    patient = make_engine(module_postgres_url, pool_size=1)
    other = make_engine(module_postgres_url)
    text = "SELECT pg_sleep(29)"
    begun = time.monotonic()
    with Asking(patient, text, Values()) as asking:
        assert not asking.answered(0.05)
        until(lambda: running(other, text), "it is asked")
        assert not asking.answered(0)
    until(lambda: not running(other, text), "it is cancelled")
    assert answer(patient, "SELECT 1") == 1
    assert time.monotonic() - begun < 25
    patient.dispose()
    other.dispose()

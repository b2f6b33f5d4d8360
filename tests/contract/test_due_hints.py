"""What a person pushes is looked for at once; without hints it is found at the next look."""

import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.due_hints import DueHints
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.stored import rows
from gantry_testkit.waiting import until

# Far longer than anything takes here; nothing waits so long unless a hint is lost.
_LONG = 60.0


def _never() -> bool:
    return False


def _listening(engine: Engine) -> bool:
    """The connection is there, and what it was asked last, to listen, is done."""
    return bool(
        rows(
            engine,
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'hints'"
            " AND query LIKE 'LISTEN%' AND state = 'idle'",
        )
    )


@pytest.fixture
def hints(engine: Engine) -> Iterator[DueHints]:
    listening = make_engine(
        engine.url.render_as_string(hide_password=False), pool_size=1, application_name="hints"
    )
    hints = DueHints(listening)
    yield hints
    hints.close()
    listening.dispose()


def test_a_push_ends_the_wait_when_it_is_committed(
    engine: Engine, store: ObjectStore, hints: DueHints
) -> None:
    archive = ForwardingArchive(engine, store)
    study, _ = archive.study(images=1)
    ended = threading.Event()

    def wait() -> None:
        hints.wait(_LONG, stopped=_never)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    until(lambda: _listening(engine), "it listens")
    archive.push(study)
    assert ended.wait(_LONG / 2)


def test_a_stop_ends_the_wait(hints: DueHints) -> None:
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    begun = time.monotonic()
    hints.wait(_LONG, stopped=stopped.is_set)
    assert time.monotonic() - begun < _LONG / 2


def test_without_a_database_it_waits_and_then_listens_again(
    engine: Engine, hints: DueHints
) -> None:
    hints.wait(0.01, stopped=_never)
    assert _listening(engine)
    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'hints'"
            )
        )
    begun = time.monotonic()
    hints.wait(0.3, stopped=_never)
    assert time.monotonic() - begun >= 0.3
    hints.wait(0.01, stopped=_never)
    assert _listening(engine)

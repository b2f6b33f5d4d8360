"""The engine of the index lives through the end of its connections."""

import sqlalchemy as sa

from gantry_stores.index.database import make_engine, ping, transaction


def test_ended_sessions_fail_nobody_who_comes_later(postgres_url: str) -> None:
    engine, other = make_engine(postgres_url, pool_size=3), make_engine(postgres_url)
    with transaction(engine) as a, transaction(engine) as b:
        pids = [session.scalar(sa.select(sa.func.pg_backend_pid())) for session in (a, b)]
    with transaction(other) as connection:
        for pid in pids:
            assert connection.scalar(sa.select(sa.func.pg_terminate_backend(pid, 5000)))
    for _ in pids:
        ping(engine)
    engine.dispose()
    other.dispose()

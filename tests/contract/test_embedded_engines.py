"""The embedded PostgreSQL and Redis: started, killed, orphaned, and started again."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from gantry_cli.embedded.account import engine_account
from gantry_cli.embedded.engines import needed_engines
from gantry_cli.embedded.places import is_running, prepare, reachable_binaries, sole_run
from gantry_cli.embedded.processes import processes_in
from gantry_cli.keeper import Keeper
from gantry_cli.reach import await_broker, await_database, broker_connection
from gantry_domain.errors import ConfigurationError
from gantry_runtime.settings import Settings, load_settings
from gantry_testkit.waiting import until


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder that an unprivileged account can reach (pytest's own cannot be, for root)."""
    folder = Path(tempfile.mkdtemp(prefix="gantry-embedded-"))
    folder.chmod(0o711)
    yield folder / "data"
    for engine in ("postgres", "redis"):
        for pid in processes_in(folder / "data" / engine):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)


def settings_for(data: Path, **names: str) -> Settings:
    return load_settings({"GANTRY_DATA": str(data), **names})


@contextmanager
def engines_running(settings: Settings, said: list[str]) -> Iterator[Keeper]:
    with sole_run(settings.data):
        engines = needed_engines(settings)
        with Keeper(logs=settings.data / "logs", say=said.append).running() as keeper:
            keeper.start(engines, patience=60)
            yield keeper


def connect(settings: Settings) -> "psycopg.Connection[tuple[object, ...]]":
    url = settings.database_url.replace("postgresql+psycopg:", "postgresql:", 1)
    return psycopg.connect(url, autocommit=True)


def test_both_engines_start_serve_and_stop(data: Path) -> None:
    settings = settings_for(data)
    said: list[str] = []
    with engines_running(settings, said):
        await_database(settings, patience=5)
        await_broker(settings, patience=5)
        with connect(settings) as connection:
            shown = {
                name: connection.execute(f"SHOW {name}").fetchone()
                for name in ("listen_addresses", "fsync", "data_checksums", "server_encoding")
            }
            row = connection.execute(
                "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'gantry'"
            ).fetchone()
            extensions = connection.execute(
                "SELECT count(*) FROM pg_available_extensions WHERE name = 'btree_gin'"
            ).fetchone()
        assert shown == {
            "listen_addresses": ("",),
            "fsync": ("on",),
            "data_checksums": ("on",),
            "server_encoding": ("UTF8",),
        }
        assert row in {("b", "C.UTF-8"), (b"b", "C.UTF-8")}
        assert extensions == (1,)
        with broker_connection(settings) as broker:
            broker.channel()
        for name in ("postgres", "redis"):
            owners = {Path(f"/proc/{pid}").stat().st_uid for pid in processes_in(data / name)}
            assert owners == {engine_account().uid}
        for file in (
            settings.embedded.database_password_file,
            settings.embedded.broker_password_file,
        ):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            # Not readable in the list of processes either.
            secret = file.read_text().strip().encode()
            for pid in processes_in(data / "redis") + processes_in(data / "postgres"):
                assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert not processes_in(data / "postgres")
    assert not processes_in(data / "redis")
    assert said == []


def test_the_sockets_want_the_password(data: Path) -> None:
    settings = settings_for(data)
    places = settings.embedded
    with engines_running(settings, []):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host=str(places.postgres_sockets), user="gantry", dbname="gantry", password="wrong"
            )
        client = redis.Redis(unix_socket_path=str(places.redis_socket))
        with pytest.raises(redis.AuthenticationError):
            client.ping()
        client.close()


def test_an_engine_that_is_killed_is_started_again_with_its_data(data: Path) -> None:
    settings = settings_for(data)
    said: list[str] = []
    with engines_running(settings, said) as keeper:
        with connect(settings) as connection:
            connection.execute("CREATE TABLE kept (x int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        postmaster = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        (server,) = processes_in(data / "redis")
        os.kill(server, signal.SIGKILL)
        keeper.watch(until=time.monotonic() + 4)
        await_database(settings, patience=20)
        await_broker(settings, patience=20)
        with connect(settings) as connection:
            assert connection.execute("SELECT x FROM kept").fetchone() == (7,)
    assert len(said) == 2
    assert all("ended with signal SIGKILL; it starts again in 0.2 s" in line for line in said)


_UP = """
import sys
from pathlib import Path
from gantry_cli.embedded.engines import needed_engines
from gantry_cli.embedded.places import sole_run
from gantry_cli.keeper import Keeper
from gantry_runtime.settings import load_settings
settings = load_settings()
with sole_run(settings.data):
    with Keeper(logs=settings.data / "logs", say=print).running() as keeper:
        keeper.start(needed_engines(settings), patience=60)
        print("up", flush=True)
        keeper.watch()
print("down", flush=True)
"""


def _run(data: Path) -> "subprocess.Popen[str]":
    run = subprocess.Popen(
        [sys.executable, "-c", _UP],
        env={**os.environ, "GANTRY_DATA": str(data)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "up\n"
    return run


def test_a_killed_run_takes_its_engines_along_and_the_next_one_starts(data: Path) -> None:
    first = _run(data)
    assert is_running(data)
    first.kill()
    first.communicate()
    # At once, while the engines of the first may still be shutting down.
    second = _run(data)
    second.terminate()
    out, _ = second.communicate(timeout=60)
    assert out == "down\n"
    assert second.returncode == 0
    assert not processes_in(data / "postgres")
    assert not processes_in(data / "redis")
    assert not is_running(data)


@pytest.mark.slow
def test_an_orphan_and_its_stale_files_do_not_stop_the_next_run(data: Path) -> None:
    run = _run(data)
    postmaster = int((data / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(run.pid, signal.SIGSTOP)  # cannot clean up after what comes
    os.kill(postmaster, signal.SIGKILL)
    run.kill()
    run.communicate()
    # The number in the stale file may be anyone's by now: here, ours.
    stale = data / "postgres" / "postmaster.pid"
    until(lambda: not processes_in(data / "postgres"), "the orphans notice")
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    second = _run(data)
    second.terminate()
    assert second.wait(60) == 0
    assert second.stdout is not None
    second.stdout.close()


def test_one_data_folder_has_one_run(data: Path) -> None:
    with (
        sole_run(data) as crashed,
        pytest.raises(
            ConfigurationError, match=rf"runs in {data} already \(process {os.getpid()}\)"
        ),
        sole_run(data),
    ):
        pass
    assert not crashed
    with sole_run(data) as crashed:
        assert not crashed


def test_a_run_that_was_killed_is_noticed(data: Path) -> None:
    data.mkdir()
    (data / "lock").write_text("4711\n")
    with sole_run(data) as crashed:
        assert crashed


def test_a_data_folder_that_cannot_be_made_is_named(data: Path) -> None:
    data.write_text("a file")
    with (
        pytest.raises(ConfigurationError, match="name another folder in GANTRY_DATA"),
        sole_run(data),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts engines under another account")
def test_a_parent_that_the_account_cannot_pass_is_named_and_not_changed(data: Path) -> None:
    data.parent.chmod(0o700)
    data.mkdir()
    with pytest.raises(ConfigurationError, match=f"may not pass through {data.parent} "):
        prepare(settings_for(data).embedded, engine_account())
    assert stat.S_IMODE(data.parent.stat().st_mode) == 0o700


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts engines under another account")
def test_the_data_folder_itself_may_be_private(data: Path) -> None:
    data.mkdir(mode=0o700)
    prepare(settings_for(data).embedded, engine_account())
    assert stat.S_IMODE(data.stat().st_mode) == 0o701


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts engines under another account")
def test_binaries_out_of_reach_are_copied(data: Path) -> None:
    data.mkdir(mode=0o711)
    hidden = data.parent / "hidden"
    (hidden / "bin").mkdir(parents=True)
    (hidden / "bin" / "tool").write_text("#!/bin/sh\n")
    (hidden / "bin" / "tool").chmod(0o755)
    hidden.chmod(0o700)
    account = engine_account()
    found = reachable_binaries(hidden, ("bin/tool",), data, "tool-1", account)
    assert found == data / "engines" / "tool-1"
    assert account.unreachable(found / "bin" / "tool") is None
    assert reachable_binaries(hidden, ("bin/tool",), data, "tool-1", account) == found
    hidden.chmod(0o755)
    assert reachable_binaries(hidden, ("bin/tool",), data, "tool-1", account) == hidden


@pytest.mark.slow
def test_a_very_long_data_folder_works(data: Path) -> None:
    settings = settings_for(data / ("long" * 25))
    assert not settings.embedded.run.is_relative_to(data)
    data.mkdir(mode=0o711)
    try:
        with engines_running(settings, []):
            await_database(settings, patience=5)
            await_broker(settings, patience=5)
    finally:
        shutil.rmtree(settings.embedded.run)


def test_a_database_that_does_not_answer_is_one_line(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "gantry.yaml"
    file.write_text("database: postgresql://me@127.0.0.1:1/pacs\nbroker: redis://127.0.0.1:1/0\n")
    settings = settings_for(data, GANTRY_CONFIG=str(file), GANTRY_DATABASE_PASSWORD="hush")
    with pytest.raises(ConfigurationError) as database:
        await_database(settings, patience=0.1)
    with pytest.raises(ConfigurationError) as broker:
        await_broker(settings, patience=0.1)
    for caught, place in ((database, "127.0.0.1:1/pacs"), (broker, "127.0.0.1:1/0")):
        line = str(caught.value)
        assert f"at {place} cannot be reached: " in line
        assert "hush" not in line
        assert "\n" not in line

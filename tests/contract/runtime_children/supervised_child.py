"""A real child for the tests of supervision: echoes over its socket, counts, obeys its argument."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from gantry_runtime import metrics
from gantry_runtime.process import attach

CONNECTIONS = metrics.counter("gantry_child_connections_total", "Connections answered.")


def main() -> None:
    """Arguments: a mode, and the folder for what the test looks at."""
    mode, folder = sys.argv[1], Path(sys.argv[2])
    process = attach("demo")
    (folder / f"pid-{process.name}-{os.getpid()}").touch()
    if mode == "crash":
        sys.exit(3)
    if mode == "never_ready":
        process.not_ready("the database is away")
        process.stopping.wait()
        return
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "grandchild":
        subprocess.Popen(
            [sys.executable, __file__, "sleeper", str(folder)], stdin=subprocess.DEVNULL
        )
    listener = process.sockets["door"]
    listener.settimeout(0.1)
    process.ready()
    while mode == "stubborn" or not process.stopping.is_set():
        with contextlib.suppress(TimeoutError):
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection,)).start()
    if mode == "slow":
        (folder / "draining").touch()
        threading.Event().wait(0.5)
        (folder / "drained").touch()


def _answer(connection: socket.socket) -> None:
    with connection:
        CONNECTIONS.inc()
        connection.sendall(f"{os.getpid()}\n".encode())


if __name__ == "__main__":
    if sys.argv[1] == "sleeper":
        from gantry_runtime.lifeline import die_with_parent

        die_with_parent(environ={})
        (Path(sys.argv[2]) / f"pid-sleeper-{os.getpid()}").touch()
        threading.Event().wait()
    main()

"""What eight busy associations keep of their rate beside two hundred that do nothing."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import servers
from measuring import Bench, machine, table, turns

from gantry_testkit.door import association_request

IDLE, BUSY = 200, 8
ALONE = f"{BUSY} associations alone"


@contextmanager
def idle_associations(port: int) -> Iterator[None]:
    """Established, and silent."""
    with ExitStack() as stack:
        for _ in range(IDLE):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            sock.sendall(association_request())
            if sock.recv(1) != b"\2":
                raise RuntimeError("an association was not accepted")
        yield


def measured(folder: Path, rounds: int) -> list[str]:
    """The lines of the table."""
    sender, _ = servers.compile_aids(folder)
    bench = Bench(folder, sender)
    config = f"ingress: {{max_associations: {IDLE + 2 * BUSY}, network_timeout: 1h}}\n"
    with servers.gantry(folder / "gantry", config) as server:
        alone = replace(server, name=ALONE)
        beside = replace(server, name=f"beside {IDLE} idle ones")

        def measure(each: servers.Server) -> None:
            with ExitStack() as stack:
                if each is beside:
                    stack.enter_context(idle_associations(each.port))
                for size in ("512 KiB", "12 KB"):
                    bench.measure(each, size, BUSY)

        turns([alone, beside], rounds, measure)
    return [
        f"{machine()}; {rounds} rounds.",
        "",
        "Instances per second over eight associations, alone and beside 200 open and silent ones:",
        "",
        *table(bench.stored, ALONE),
    ]

"""Ports of loopback for the services under test."""

import random
import socket
from collections.abc import Iterable

# While one of our processes lives, no other takes its port bases: between the look at a port and
# the service that listens there is more than a second. tests/system/blackbox does the same.
_claimed: dict[int, int] = {}  # base to file descriptor


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def free_port_base(*ports: int) -> int:
    """A GANTRY_PORT_BASE, claimed by this process, with which nobody listens on these ports."""
    fresh = random.sample(range(1000, 20_001, 100), 191)
    for base in [*_claimed, *fresh]:
        if _claim(base) and _free(base + port for port in ports):
            return base
    raise AssertionError("no free range of ports on this machine")


def _claim(base: int) -> bool:
    if base not in _claimed:
        # Abstract (unix(7)): it goes with the process, however that ends.
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0gantry-tests-{base}")
        except OSError:
            claim.close()
            return False
        _claimed[base] = claim.detach()  # open until we end
    return True


def _free(ports: Iterable[int]) -> bool:
    for port in ports:
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True

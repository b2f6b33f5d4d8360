"""Binds listening sockets, which supervisors do so that all their children can share them."""

import errno
import socket

from gantry_domain.errors import ConfigurationError


def listen(address: str, port: int, purpose: str, *, backlog: int = 512) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one.

    :raises ConfigurationError: one line with the port, what it was wanted for, and what to set.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Old connections in TIME_WAIT do not keep the port; another listener does.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.listen(backlog)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            why = "is in use by another program: stop it, or set GANTRY_PORT_BASE=100 (or 200, ...)"
        else:
            why = f"cannot be opened: {error.strerror}"
        raise ConfigurationError(f"port {port} on {address} ({purpose}) {why}") from error
    return bound

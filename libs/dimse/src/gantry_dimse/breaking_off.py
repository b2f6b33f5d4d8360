"""Ends a connection under the thread that uses it."""

import contextlib
import socket


def break_off(connection: socket.socket) -> None:
    """Make whatever another thread does with the connection fail; it is for that one to close it.

    Does nothing where it is closed, or the peer was faster.
    """
    with contextlib.suppress(OSError):
        # The socket's own: that of TLS would forget what the other thread works with.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)

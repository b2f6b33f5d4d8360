"""pynetdicom's AE as a peer that leaves no socket behind.

pynetdicom shuts a connection down before it closes it, and leaves it open where the other side was
faster: the garbage collector then warns, in whatever test runs at that moment. And a requestor that
is rejected before its thread has looked whether it is connected takes itself for one that is not,
and says nothing of the rejection.
"""

import socket
import threading
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.transport import (
    AddressInformation,
    AssociationServer,
    AssociationSocket,
    RequestHandler,
)


class _Connected(threading.Event):
    """Set by the reactor, which goes on when the thread that waits has been woken."""

    def __init__(self) -> None:
        super().__init__()
        self._woken = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        connected = super().wait(timeout)
        self._woken.set()
        return connected

    def set(self) -> None:
        super().set()
        self._woken.wait(1)


class _Socket(AssociationSocket):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ready = _Connected()

    def _shutdown_socket(self) -> None:
        own: socket.socket | None = self.socket
        super()._shutdown_socket()
        if own is not None:
            own.close()


class _Accepted(RequestHandler):
    def _create_association(self) -> Association:
        assoc = super()._create_association()
        own: socket.socket = self.request
        assoc.bind(evt.EVT_CONN_CLOSE, lambda _event: own.close())
        return assoc


class PeerAE(AE):
    """An application entity that requests or accepts associations."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: Any
    ) -> AssociationSocket:
        own = _Socket(assoc, address=address)
        own.tls_args = tls_args
        return own

    def make_server(self, *args: Any, **kwargs: Any) -> AssociationServer:
        """The server of `start_server`."""
        return super().make_server(*args, request_handler=_Accepted, **kwargs)

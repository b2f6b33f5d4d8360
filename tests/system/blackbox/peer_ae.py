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


class _Checkpoint(threading.Event):
    """Where pynetdicom's reactor waits while a message is exchanged.

    With an ordinary event a reactor that has just passed it takes the answer away from the sender,
    who then waits for it in vain. `clear` of this one returns when the reactor really stands.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__()
        self._assoc = assoc
        self._stands = threading.Event()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        # Said again and again: what was said before the last exchange does not count for the next.
        while not self.is_set():
            self._stands.set()
            if super().wait(0.05):
                break
        self._stands.clear()
        return True

    def set(self) -> None:
        self._stands.clear()
        super().set()

    def clear(self) -> None:
        super().clear()
        while self._assoc.is_alive() and threading.current_thread() is not self._assoc:
            if self._stands.wait(0.1):
                return


class PeerAE(AE):
    """An application entity that requests or accepts associations."""

    def associate(self, *args: Any, **kwargs: Any) -> Association:
        """As `AE.associate`; what answers a message reaches who waits for it."""
        assoc = super().associate(*args, **kwargs)
        assoc._reactor_checkpoint = _Checkpoint(assoc)
        return assoc

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: Any
    ) -> AssociationSocket:
        own = _Socket(assoc, address=address)
        own.tls_args = tls_args
        return own

    def make_server(self, *args: Any, **kwargs: Any) -> AssociationServer:
        """The server of `start_server`."""
        return super().make_server(*args, request_handler=_Accepted, **kwargs)

"""Storage SCPs of the tests: one that counts and may be slow, one that never says a word."""

import socket
import time
from collections import Counter

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import evt

from blackbox.peer_ae import PeerAE


class Scp:
    """A storage SCP in this process: counts what it receives, and may be slow."""

    def __init__(self, *, port: int = 0, seconds: float = 0.0) -> None:
        self.received: Counter[str] = Counter()
        self.seconds = seconds
        ae = PeerAE(ae_title="SCP")
        ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        self._server = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port: int = self._server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.received[str(event.request.AffectedSOPInstanceUID)] += 1
        time.sleep(self.seconds)  # what a slow archive takes
        return 0x0000

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()


class Hanging:
    """Accepts connections and never says a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

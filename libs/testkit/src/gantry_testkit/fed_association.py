"""An established association without a socket: bytes are fed to it as its loop would read them."""

from collections.abc import Mapping

from gantry_dimse.messages import AcceptedContext, MessageService
from gantry_dimse.observer import Peer
from gantry_dimse.pdu import ProtocolError
from gantry_dimse.reader import PDUReader
from gantry_dimse.storage import StoreOutcome, StoreRequest

_BUFFER = 4096
# Fewer bytes than the header of a PDV and the next one's stay unread: see `PDUReader.feed`.
_MOST_UNREAD = 12


class Kept:
    """A `StorageHandler` that sees to it that each object is ended once."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.open = 0
        self.begun = 0

    def begin(self, request: StoreRequest) -> "Incoming":
        """An object."""
        self.open += 1
        self.begun += 1
        return Incoming(self)


class Incoming:
    """One object, in memory."""

    def __init__(self, kept: Kept) -> None:
        self.kept, self.content, self.ended = kept, bytearray(), False

    def write(self, fragment: memoryview) -> None:
        """A piece."""
        assert not self.ended
        self.content += fragment

    def finish(self) -> StoreOutcome:
        """It is whole."""
        self._end()
        self.kept.stored.append(bytes(self.content))
        return StoreOutcome()

    def abort(self) -> None:
        """It is not."""
        self._end()

    def _end(self) -> None:
        assert not self.ended
        self.ended = True
        self.kept.open -= 1


class FedAssociation:
    """Storage of one SOP class, with the invariants of whatever a peer may send."""

    def __init__(self, contexts: Mapping[int, AcceptedContext], *, storage_class: str) -> None:
        self.kept = Kept()
        self.sent: list[bytes] = []
        self.messages = MessageService(
            peer=Peer("RAW", "GANTRY", "127.0.0.1"),
            contexts=dict(contexts),
            storage_classes={storage_class},
            storage=self.kept,
            peer_max_pdu=512,
            send=self.sent.append,
        )
        self.reader = PDUReader(self.messages)
        self.over = False
        self._view = memoryview(bytearray(_BUFFER))
        self._unread = 0

    def feed(self, content: bytes) -> ProtocolError | None:
        """Read the bytes as `converse` does; the breach that ends the association, if one does."""
        while content and not self.over:
            piece = content[: _BUFFER - self._unread]
            assert piece, "the reader does not get on"
            content = content[len(piece) :]
            end = self._unread + len(piece)
            self._view[self._unread : end] = piece
            breach: ProtocolError | None = None
            try:
                used = self.reader.feed(self._view[:end])
            except ProtocolError as error:
                breach = error
            if breach is not None:
                assert breach.reason in (1, 2, 6)
                self.over = True
                return breach
            self.over = self.messages.released or self.messages.aborted
            self._unread = end - used
            assert self._unread < _MOST_UNREAD or self.over
            self._view[: self._unread] = bytes(self._view[used:end])
        return None

    def close(self) -> None:
        """The connection ends: no object is left open."""
        self.messages.close()
        assert self.kept.open == 0

"""C-STORE requests to the peer that opened the association: the sub-operations of C-GET.

They are steps of an operation (`gantry_dimse.operations`), so that the peer is listened to between
two pieces of an object as between two answers.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from gantry_dimse.message_pdus import batches, encode_store_request, fragment_size
from gantry_dimse.proposals import NegotiatedContext, NegotiatedContexts

_LEAST_PDU = 32


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A step: these bytes of a request of ours go out; the peer is listened to after them."""

    buffers: Sequence[bytes | memoryview]


class Awaiting(Enum):
    """A step: nothing is to be done before the peer says something."""

    PEER = "peer"


class ReverseStorage:
    """The peer as a storage SCP; one request at a time (PS3.7 9.1.3)."""

    def __init__(self, contexts: NegotiatedContexts, *, peer_maximum: int) -> None:
        """`contexts`: those in which the peer takes C-STORE requests."""
        self.contexts = contexts
        # A peer that announces next to nothing gets more: there must be some progress.
        self._fragment = fragment_size(max(peer_maximum, _LEAST_PDU) if peer_maximum else 0)
        self._message_id = 0
        self._answer: int | None = None
        self.bytes_sent = 0
        """Of data sets, over this association."""

    def store(
        self,
        *,
        SOPClassUID: str,
        SOPInstanceUID: str,
        context: NegotiatedContext,
        chunks: Iterable[bytes | memoryview],
    ) -> Generator[Outgoing | Awaiting, None, int]:
        """The steps of sending one instance; they return the status that the peer answered.

        `chunks` are those of `StorageAssociation.store`. What they raise comes in the middle of a
        message: the association cannot go on then.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        self._answer = None
        command = encode_store_request(
            SOPClassUID=SOPClassUID, SOPInstanceUID=SOPInstanceUID, message_id=self._message_id
        )
        for batch in batches(context.id, command, chunks, fragment=self._fragment):
            self.bytes_sent += batch.data
            yield Outgoing(batch.buffers)
        while self._answer is None:
            yield Awaiting.PEER
        return self._answer

    def answered(self, message_id: int, status: int) -> None:
        """The peer answers a request. To what was never asked no attention is paid."""
        if message_id == self._message_id:
            self._answer = status

"""Serves the DIMSE messages of an association: C-STORE, C-ECHO, operations, and a No to others.

A message is a command set and, if that says so, a data set in the same presentation context
(PS3.7 6.3). One message is answered before the next is begun, so one object is open at a time;
but for operations, whose many answers are sent while the peer is listened to.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gantry_dimse.answering import MOST_WAITING, Answering
from gantry_dimse.command import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    N_EVENT_REPORT_RQ,
    RESPONSE,
    Command,
    MalformedCommand,
    decode_command,
    encode_response,
    uid_text,
)
from gantry_dimse.observer import Peer
from gantry_dimse.operations import (
    LARGEST_IDENTIFIER,
    Cancellation,
    Operation,
    OperationKey,
    OperationRequest,
)
from gantry_dimse.pdu import (
    INVALID_PDU_PARAMETER,
    UNEXPECTED_PDU,
    ProtocolError,
    encode_command,
)
from gantry_dimse.proposals import NegotiatedContext, NegotiatedContexts
from gantry_dimse.reverse_events import EventReports
from gantry_dimse.reverse_storage import ReverseStorage
from gantry_dimse.storage import Reception, StorageHandler, StoreOutcome, StoreRequest
from gantry_domain.statuses import (
    CANNOT_UNDERSTAND,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNABLE_TO_PROCESS,
    UNRECOGNIZED_OPERATION,
    Status,
)

_LONGEST_COMMAND = 64 * 1024
_NORMALIZED = 0x0100  # of a Command Field, PS3.7 Annex E.1


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context as negotiated.

    `takes_requests`: the peer, whose association it is, has the role of the SCP too, or did not say
    which roles it has (PS3.7 D.3.3.4), as some do whose C-GET wants to be answered. `options` are
    what was granted by extended negotiation, a byte each.
    """

    abstract_syntax: str
    transfer_syntax: str
    takes_requests: bool = True
    options: bytes = b""


class _Discard:
    """Takes the data set of a request that is already answered in mind."""

    def __init__(self, outcome: StoreOutcome) -> None:
        self._outcome = outcome

    def write(self, fragment: memoryview) -> None:
        pass

    def finish(self) -> StoreOutcome:
        return self._outcome

    def abort(self) -> None:
        pass


class _Identifier(_Discard):
    """Takes the identifier of an operation; its outcome if it does not fit."""

    def __init__(self, operation: Operation, too_long: Status) -> None:
        super().__init__(StoreOutcome(too_long, "the data set is too long"))
        self.operation = operation
        self.encoded = bytearray()
        self.fits = True

    def write(self, fragment: memoryview) -> None:
        self.fits = self.fits and len(self.encoded) + len(fragment) <= LARGEST_IDENTIFIER
        if self.fits:
            self.encoded += fragment


def _unusable(command: Command) -> Status:
    """How an operation without a usable data set fails: of DIMSE-N there is no C001."""
    return PROCESSING_FAILURE if command.CommandField & _NORMALIZED else UNABLE_TO_PROCESS


class MessageService:
    """The messages of one association; a `PDUHandler`."""

    def __init__(
        self,
        *,
        peer: Peer,
        contexts: Mapping[int, AcceptedContext],
        storage_classes: Collection[str],
        storage: StorageHandler | None,
        operations: Mapping[OperationKey, Operation] = MappingProxyType({}),
        peer_max_pdu: int,
        send: Callable[[bytes], None],
        send_scattered: Callable[[Sequence[bytes | memoryview]], None] | None = None,
    ) -> None:
        """`send_scattered`: what is quicker than `send` for many buffers, if anything is."""
        self._peer = peer
        self._contexts = contexts
        self._storage_classes = storage_classes
        self._storage = storage
        self._operations = operations
        self._answering = Answering(
            peer_max_pdu=peer_max_pdu,
            send=send,
            send_scattered=send_scattered or (lambda buffers: send(b"".join(buffers))),
        )
        self._reverse: ReverseStorage | None = None
        self._reports = EventReports(peer_max_pdu=peer_max_pdu, send=send)
        self._peer_max_pdu = peer_max_pdu
        self._send = send
        self._context_id: int | None = None
        self._encoded = bytearray()
        self._command: Command | None = None
        self._reception: Reception | None = None
        self.receiving_since = float("inf")
        """When the message began whose data set is still coming, of `time.monotonic()`."""
        self.commands = 0
        """How many have come as a whole."""
        self.released = False
        self.aborted = False

    @property
    def in_message(self) -> bool:
        """Whether a message has begun that is not answered yet."""
        return self._context_id is not None or self.answering

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do before a command has come as a whole."""
        return self._command is None and not self.answering

    @property
    def answering(self) -> bool:
        """Whether there are more answers to send: by `go_on`, until there are none."""
        return self._answering.underway > 0

    @property
    def awaiting_peer(self) -> bool:
        """Whether `go_on` has nothing to do before the peer says something."""
        return self._answering.awaiting_peer

    def go_on(self) -> None:
        """Send the next answers of an operation. Raises `OperationBroken`."""
        self._answering.go_on()

    def go_on_between(self) -> None:
        """Between two messages: tell the peer of what it asked for earlier, if there is news."""
        self._reports.go_on()

    def command(self, context_id: int, piece: memoryview, *, last: bool) -> None:
        """See `PDUHandler.command`. Raises `ProtocolError`."""
        if self._command is not None:
            raise ProtocolError(UNEXPECTED_PDU, "a command set inside a data set")
        if self._context_id is None:
            if context_id not in self._contexts:
                raise ProtocolError(INVALID_PDU_PARAMETER, "a context that was not accepted")
            self._context_id = context_id
        elif context_id != self._context_id:
            raise ProtocolError(INVALID_PDU_PARAMETER, "a message in two contexts")
        if len(self._encoded) + len(piece) > _LONGEST_COMMAND:
            raise ProtocolError(INVALID_PDU_PARAMETER, "a command set without end")
        self._encoded += piece
        if last:
            self._begin(context_id)

    def data(self, context_id: int, piece: memoryview, *, last: bool) -> None:
        """See `PDUHandler.data`. Raises `ProtocolError`."""
        if self._command is None or self._reception is None:
            raise ProtocolError(UNEXPECTED_PDU, "a data set without a command set")
        if context_id != self._context_id:
            raise ProtocolError(INVALID_PDU_PARAMETER, "a message in two contexts")
        if piece:
            self._reception.write(piece)
        if last:
            self._answer()

    def release(self) -> None:
        """See `PDUHandler.release`. Raises `ProtocolError`."""
        if self.in_message:
            raise ProtocolError(UNEXPECTED_PDU, "a release inside a message")
        self.released = True

    def abort(self) -> None:
        """See `PDUHandler.abort`."""
        self.aborted = True

    def close(self) -> None:
        """The association has ended: what was being received is abandoned."""
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.abort()
        self._answering.close()
        self._reports.close()

    def _begin(self, context_id: int) -> None:
        try:
            command = decode_command(bytes(self._encoded))
        except MalformedCommand as error:
            raise ProtocolError(INVALID_PDU_PARAMETER, str(error)) from error
        self._encoded = bytearray()
        self._command = command
        self.commands += 1
        self.receiving_since = time.monotonic()
        self._reception = self._reception_of(command, self._contexts[context_id])
        if not command.has_data_set:
            self._answer()

    def _reception_of(self, command: Command, context: AcceptedContext) -> Reception:
        if command.CommandField == C_ECHO_RQ:
            return _Discard(StoreOutcome(SUCCESS))
        if command.CommandField != C_STORE_RQ:
            return self._operation_of(command, context)
        SOPClassUID = uid_text(command.AffectedSOPClassUID)
        if (
            self._storage is None
            or context.abstract_syntax not in self._storage_classes
            or SOPClassUID not in self._storage_classes
        ):
            return _Discard(StoreOutcome(SOP_CLASS_NOT_SUPPORTED))
        if not command.has_data_set:
            return _Discard(StoreOutcome(CANNOT_UNDERSTAND, "the request has no data set"))
        return self._storage.begin(
            StoreRequest(
                SOPClassUID=SOPClassUID,
                SOPInstanceUID=uid_text(command.AffectedSOPInstanceUID),
                transfer_syntax=context.transfer_syntax,
                calling_ae=self._peer.calling_ae,
                called_ae=self._peer.called_ae,
                peer_host=self._peer.host,
                message_id=command.MessageID,
            )
        )

    def _operation_of(self, command: Command, context: AcceptedContext) -> Reception:
        operation = self._operations.get((command.CommandField, context.abstract_syntax))
        if operation is None:
            known = any(field == command.CommandField for field, _ in self._operations)
            return _Discard(
                StoreOutcome(SOP_CLASS_NOT_SUPPORTED if known else UNRECOGNIZED_OPERATION)
            )
        if not command.has_data_set:
            return _Discard(StoreOutcome(_unusable(command), "the request has no data set"))
        if self._answering.underway >= MOST_WAITING:
            raise ProtocolError(UNEXPECTED_PDU, "more requests than anybody can wait for")
        return _Identifier(operation, _unusable(command))

    def _answer(self) -> None:
        assert self._command is not None
        assert self._reception is not None
        assert self._context_id is not None
        # Cleared first: an object that is finished is never aborted, also if the answer fails.
        reception, self._reception = self._reception, None
        self.receiving_since = float("inf")
        outcome = reception.finish()
        command, self._command = self._command, None
        context_id, self._context_id = self._context_id, None
        if command.CommandField == C_CANCEL_RQ:  # which has no answer (PS3.7 9.3.2.3)
            self._answering.cancel(command.MessageIDBeingRespondedTo)
        elif command.CommandField == C_STORE_RQ | RESPONSE:
            if self._reverse is not None and command.Status is not None:
                self._reverse.answered(command.MessageIDBeingRespondedTo, command.Status)
        elif command.CommandField == N_EVENT_REPORT_RQ | RESPONSE:
            if command.Status is not None:
                self._reports.answered(command.MessageIDBeingRespondedTo, command.Status)
        elif isinstance(reception, _Identifier) and reception.fits:
            self._operate(command, context_id, reception)
        elif not command.CommandField & RESPONSE:  # to what we never asked
            response = encode_response(command, outcome.status, outcome.error_comment)
            self._send(encode_command(context_id, response, self._peer_max_pdu))

    def _operate(self, command: Command, context_id: int, identifier: _Identifier) -> None:
        context = self._contexts[context_id]
        cancellation = Cancellation()
        request = OperationRequest(
            peer=self._peer,
            SOPClassUID=context.abstract_syntax,
            transfer_syntax=context.transfer_syntax,
            identifier=bytes(identifier.encoded),
            cancellation=cancellation,
            message_id=command.MessageID,
            move_destination=command.MoveDestination,
            reverse=self._reverse_storage(),
            options=context.options,
            SOPInstanceUID=uid_text(
                command.AffectedSOPInstanceUID or command.RequestedSOPInstanceUID
            ),
            type_id=command.TypeID,
            events=self._reports.on(context_id, context.abstract_syntax),
        )
        self._answering.begin(command, context_id, identifier.operation(request), cancellation)

    def _reverse_storage(self) -> ReverseStorage:
        if self._reverse is None:
            taken = [
                NegotiatedContext(number, context.abstract_syntax, context.transfer_syntax)
                for number, context in self._contexts.items()
                if context.takes_requests and context.abstract_syntax in self._storage_classes
            ]
            self._reverse = ReverseStorage(
                NegotiatedContexts(taken), peer_maximum=self._peer_max_pdu
            )
        return self._reverse

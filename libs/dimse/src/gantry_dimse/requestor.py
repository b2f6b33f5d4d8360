"""An association on which we are the SCU: messages sent and their responses read, in one thread."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

from gantry_dimse import command_sets as cs
from gantry_dimse import pdu
from gantry_dimse.command import NO_DATA_SET, Command
from gantry_dimse.message_pdus import batches, fragment_size
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import AssociationLost, PeerBrokeProtocol, PeerClosed
from gantry_dimse.proposals import NegotiatedContexts, ProposedContext
from gantry_dimse.requesting import Requested, Timeouts, request_association
from gantry_dimse.wire import aborted

_RELEASE_REQUEST = pdu.HEADER.pack(pdu.A_RELEASE_RQ, pdu.SHORT_BODY) + bytes(pdu.SHORT_BODY)

_LARGEST_COMMAND = 1 << 16
_LARGEST_DATA_SET = 1 << 20


@dataclass(frozen=True, slots=True)
class Response:
    """A response message: its command set by element number, and its data set if it has one."""

    elements: Mapping[int, bytes]
    status: int
    message_id: int
    """Of the request."""
    data_set: bytes | None = None

    @property
    def error_comment(self) -> str:
        """Error Comment (0000,0902): free text, which may name a patient and belongs in no log."""
        return cs.text(self.elements, cs.ERROR_COMMENT)


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """A request of the peer's on our association, and its data set."""

    command: Command
    data_set: bytes | None = None


Incoming = TypeVar("Incoming", Response, PeerRequest, Response | PeerRequest)


class RequestorAssociation:
    """An association on which we are the SCU. Used by one thread; `interrupt` by any.

    As a context manager it is released at the end, or aborted if an exception passes.
    """

    def __init__(self, requested: Requested, timeouts: Timeouts) -> None:
        self._wire = requested.wire
        self._timeouts = timeouts
        self._contexts = requested.contexts
        try:
            self._fragment = fragment_size(requested.peer_maximum)
        except ValueError as error:
            self._wire.send_if_possible(pdu.encode_abort(pdu.SERVICE_USER))
            self._wire.close()
            raise PeerBrokeProtocol(str(error)) from error
        self._message_id = 0
        self._open = True
        self.window = requested.window
        """How many requests may wait for their answers at once."""
        self.bytes_sent = 0
        """Of data sets, over this association."""

    @classmethod
    def open(
        cls,
        *,
        host: str,
        port: int,
        calling_ae: str,
        called_ae: str,
        contexts: Sequence[ProposedContext],
        timeouts: Timeouts | None = None,
        tls: OutgoingTLS | None = None,
        window: int = 1,
    ) -> Self:
        """Connect to a peer, over TLS where it is given, and negotiate.

        `window`: how many requests may wait for their answers at once, if the peer agrees.

        Raises `Unreachable`, `RejectedPermanently`, `RejectedForNow`, `NoAcceptedContext` or an
        `AssociationLost`.
        """
        timeouts = timeouts or Timeouts()
        requested = request_association(
            host=host,
            port=port,
            calling_ae=calling_ae,
            called_ae=called_ae,
            contexts=contexts,
            timeouts=timeouts,
            tls=tls,
            window=window,
        )
        return cls(requested, timeouts)

    @property
    def contexts(self) -> NegotiatedContexts:
        """What the peer accepted."""
        return self._contexts

    @property
    def transfer_syntax(self) -> str:
        """That of data sets where one context was proposed: what the peer chose."""
        return self._contexts.accepted[0].TransferSyntaxUID

    def release(self) -> None:
        """End the association in good order (PS3.8 7.2).

        Everything was answered by now, so a peer that does not answer this is no failure.
        """
        if not self._open:
            return
        self._open = False
        timeout = self._timeouts.acse
        deadline = time.monotonic() + timeout
        try:
            self._wire.send([_RELEASE_REQUEST])
            while True:
                answer = self._wire.receive(deadline, timeout, "answer the release request")
                if answer.type == pdu.A_RELEASE_RQ:  # both sides at once, PS3.8 7.2.2
                    self._wire.send([pdu.RELEASE_RESPONSE])
                elif answer.type in (pdu.A_RELEASE_RP, pdu.A_ABORT):
                    return
        except AssociationLost:
            return
        finally:
            self._wire.close()

    def abort(self) -> None:
        """End the association at once (PS3.8 7.3); without effect if it has ended."""
        if not self._open:
            return
        self._open = False
        self._wire.send_if_possible(pdu.encode_abort(pdu.SERVICE_USER))
        self._wire.close()

    def interrupt(self) -> None:
        """From any thread: whatever the association is doing fails with `Interrupted`."""
        self._wire.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.release()
        else:
            self.abort()

    def _next_message_id(self) -> int:
        if not self._open:
            raise PeerClosed("the association has ended")
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _send_message(
        self, context_id: int, command: bytes, chunks: Iterable[bytes | memoryview] | None
    ) -> None:
        for batch in batches(context_id, command, chunks, fragment=self._fragment):
            self.bytes_sent += batch.data
            self._wire.send(batch.buffers)

    def _response(self, expected: int, *message_ids: int, timeout: float | None = None) -> Response:
        """The next message, a response to one of these; its data set has at most 1 MiB."""
        timeout = timeout or self._timeouts.dimse
        return self._message(
            time.monotonic() + timeout,
            timeout,
            lambda command: read_answer(command, expected, message_ids),
        )

    def _message(
        self, deadline: float, timeout: float, read: Callable[[bytes], tuple[Incoming, bool]]
    ) -> Incoming:
        """The next message; `read` says what its command set is, and whether a data set follows."""
        command, data_set = bytearray(), bytearray()
        message: Incoming | None = None
        while True:
            received = self._wire.receive(deadline, timeout, "answer")
            match received.type:
                case pdu.P_DATA_TF:
                    pass
                case pdu.A_ABORT:
                    self._open = False
                    self._wire.close()
                    raise aborted(received)
                case pdu.A_RELEASE_RQ:
                    raise PeerClosed("the peer released the association before it answered")
                case _:
                    raise PeerBrokeProtocol("a PDU that is not expected here")
            for flags, fragment in _pdvs(received.body):
                if message is None:
                    if not flags & pdu.COMMAND_FRAGMENT:
                        raise PeerBrokeProtocol("a data set without a command set")
                    command += fragment
                    if len(command) > _LARGEST_COMMAND:
                        raise PeerBrokeProtocol("a command set without an end")
                    if not flags & pdu.LAST_FRAGMENT:
                        continue
                    message, more = read(bytes(command))
                    if not more:
                        return message
                elif flags & pdu.COMMAND_FRAGMENT:
                    raise PeerBrokeProtocol("a command set within a data set")
                else:
                    data_set += fragment
                    if len(data_set) > _LARGEST_DATA_SET:
                        raise PeerBrokeProtocol("a response without an end")
                    if flags & pdu.LAST_FRAGMENT:
                        return replace(message, data_set=bytes(data_set))


def read_answer(
    command: bytes, expected: int, message_ids: Collection[int]
) -> tuple[Response, bool]:
    """The response without its data set, and whether one follows."""
    try:
        elements = cs.read_command_set(command)
        field = cs.number(elements, cs.COMMAND_FIELD)
        answered = cs.number(elements, cs.MESSAGE_ID_BEING_RESPONDED_TO)
        status = cs.number(elements, cs.STATUS)
    except ValueError as error:
        raise PeerBrokeProtocol(str(error)) from error
    if field != expected or answered not in message_ids:
        raise PeerBrokeProtocol("an answer to something else")
    # Some peers leave out the data set type, which says the same as their silence.
    kind = elements.get(cs.COMMAND_DATA_SET_TYPE, cs.us(NO_DATA_SET))
    return Response(elements, status, answered), kind != cs.us(NO_DATA_SET)


def _pdvs(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The message control header and the fragment of each PDV."""
    offset = 0
    while offset < len(body):
        if len(body) - offset < pdu.PDV_HEADER.size:
            raise PeerBrokeProtocol("a PDV without a header")
        length, _context, flags = pdu.PDV_HEADER.unpack_from(body, offset)
        end = offset + 4 + length
        if length < 2 or end > len(body):
            raise PeerBrokeProtocol("a PDV beyond its PDU")
        yield flags, body[offset + pdu.PDV_HEADER.size : end]
        offset = end

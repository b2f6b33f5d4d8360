"""Sends the answers of operations, some at a time, so that the peer is heard in between."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gantry_dimse.command import Command, encode_response
from gantry_dimse.operations import PENDING_CODES, Answer, Answers, Cancellation
from gantry_dimse.pdu import encode_command, encode_data_set
from gantry_dimse.reverse_storage import Awaiting, Outgoing

# What is sent before the peer is listened to again. A send costs about as much as an answer.
_MOST_ANSWERS = 16
_MOST_BYTES = 64 * 1024

MOST_WAITING = 16
"""Requests of a peer that does not await the answers to its last one (PS3.7 D.3.3.3)."""


@dataclass(slots=True)
class _Running:
    command: Command
    context_id: int
    answers: Answers
    cancellation: Cancellation
    pending: dict[int, bytes]
    """The command set of pending answers, as PDUs, by status: they are all alike."""


class Answering:
    """The operations of one association: answered in the order in which they were asked."""

    def __init__(
        self,
        *,
        peer_max_pdu: int,
        send: Callable[[bytes], None],
        send_scattered: Callable[[Sequence[bytes | memoryview]], None],
    ) -> None:
        self._peer_max_pdu = peer_max_pdu
        self._send = send
        self._send_scattered = send_scattered
        self.awaiting_peer = False
        """Whether nothing is to be done before the peer says something."""
        self._operations: deque[_Running] = deque()

    @property
    def underway(self) -> int:
        """How many requests are not answered to the end."""
        return len(self._operations)

    def begin(
        self, command: Command, context_id: int, answers: Answers, cancellation: Cancellation
    ) -> None:
        """Answer a request from now on, or after those that came before it."""
        self._operations.append(_Running(command, context_id, answers, cancellation, {}))

    def cancel(self, message_id: int) -> None:
        """The peer cancels a request. One that is answered already is none of ours any more."""
        for operation in self._operations:
            if operation.command.MessageID == message_id:
                operation.cancellation.requested = True

    def go_on(self) -> None:
        """Send what comes next, if there is anything yet. Raises `OperationBroken`."""
        operation = self._operations[0]
        self.awaiting_peer = False
        parts: list[bytes] = []
        size = 0
        for answer in operation.answers:
            if answer is None:
                break
            if isinstance(answer, Awaiting):
                self.awaiting_peer = True
                break
            if isinstance(answer, Outgoing):
                self._send_scattered([*parts, *answer.buffers])
                return
            part = self._encode(operation, answer)
            parts.append(part)
            size += len(part)
            if answer.status.code not in PENDING_CODES:
                self._operations.popleft()
                operation.answers.close()
                break
            if len(parts) >= _MOST_ANSWERS or size >= _MOST_BYTES:
                break
        else:
            raise RuntimeError("an operation ended without its final answer")
        if parts:
            self._send(b"".join(parts))

    def close(self) -> None:
        """The association has ended: nobody waits for answers any more."""
        while self._operations:
            self._operations.popleft().answers.close()

    def _encode(self, operation: _Running, answer: Answer) -> bytes:
        code = answer.status.code
        head = operation.pending.get(code)
        if head is None:
            response = encode_response(
                operation.command,
                answer.status,
                answer.error_comment,
                data_set=bool(answer.identifier),
                offending=answer.offending,
                sub_operations=answer.sub_operations,
                error_id=answer.error_id,
                SOPInstanceUID=answer.SOPInstanceUID,
            )
            head = encode_command(operation.context_id, response, self._peer_max_pdu)
            if code in PENDING_CODES and answer.identifier:
                operation.pending[code] = head
        if not answer.identifier:
            return head
        return head + encode_data_set(operation.context_id, answer.identifier, self._peer_max_pdu)

"""The SCU of storage commitment: asks a peer to keep instances, and may wait for its report.

A peer reports on the association of the request, if that still lasts, or on one of its own (PS3.4
J.3.3); some report before they have answered the request.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gantry_dimse import command_sets as cs
from gantry_dimse.command import (
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    RESPONSE,
    Command,
    MalformedCommand,
    decode_command,
    encode_response,
)
from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.peer_errors import PeerBrokeProtocol, PeerClosed, PeerTimedOut
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requestor import PeerRequest, RequestorAssociation, Response, read_answer
from gantry_domain.commitment import (
    COMMITMENT_INSTANCE,
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT_PUSH,
)
from gantry_domain.statuses import UNRECOGNIZED_OPERATION, Status


@dataclass(frozen=True, slots=True)
class EventReport:
    """A report of the peer's: its Event Type ID, its data set and how that is encoded."""

    event_type: int
    encoded: bytes
    transfer_syntax: str


Hear = Callable[[EventReport], Status]
"""Takes a report; what the peer is answered."""


@dataclass(slots=True)
class _Heard:
    hear: Hear
    reports: int = field(default=0)


COMMITMENT_CONTEXTS = (ProposedContext(STORAGE_COMMITMENT_PUSH, MESSAGE_SYNTAXES),)
"""What a `CommitmentAssociation` is opened with: we are the SCU."""


class CommitmentAssociation(RequestorAssociation):
    """An association on which we ask for storage commitment."""

    def request(self, encoded: bytes, hear: Hear, *, wait: float) -> tuple[int, bool]:
        """Send a request: the status of its answer, and whether a report was heard.

        `wait`: seconds in which the peer may report, after its answer. Raises `AssociationLost` if
        the request was not answered.
        """
        heard = _Heard(hear)
        message_id = self._next_message_id()
        command = cs.encode_command_set(
            {
                cs.REQUESTED_SOP_CLASS_UID: cs.ui(STORAGE_COMMITMENT_PUSH),
                cs.COMMAND_FIELD: cs.us(N_ACTION_RQ),
                cs.MESSAGE_ID: cs.us(message_id),
                cs.COMMAND_DATA_SET_TYPE: cs.us(cs.DATA_SET),
                cs.REQUESTED_SOP_INSTANCE_UID: cs.ui(COMMITMENT_INSTANCE),
                cs.ACTION_TYPE_ID: cs.us(REQUEST_COMMITMENT),
            }
        )
        try:
            self._send_message(self._contexts.accepted[0].id, command, [encoded])
            status = self._answered(message_id, heard)
        except BaseException:  # in the middle of a message nothing else can be sent
            self.abort()
            raise
        if status == 0 and not heard.reports:
            self._listen(heard, wait)
        return status, heard.reports > 0

    def _answered(self, message_id: int, heard: _Heard) -> int:
        timeout = self._timeouts.dimse
        deadline = time.monotonic() + timeout
        while True:
            message = self._message(
                deadline, timeout, lambda command: _read(command, N_ACTION_RQ, message_id)
            )
            if isinstance(message, Response):
                return message.status
            self._hear(message, heard)

    def _listen(self, heard: _Heard, wait: float) -> None:
        """Until a report was heard, the peer leaves, or the time is over."""
        deadline = time.monotonic() + wait
        try:
            while not heard.reports:
                message = self._message(deadline, wait, lambda command: _read(command, None, 0))
                if isinstance(message, PeerRequest):
                    self._hear(message, heard)
        except PeerTimedOut:
            return
        except PeerClosed:  # it reports on an association of its own
            self.abort()

    def _hear(self, request: PeerRequest, heard: _Heard) -> None:
        status = UNRECOGNIZED_OPERATION
        context = self._contexts.accepted[0]
        if request.command.CommandField == N_EVENT_REPORT_RQ and request.data_set is not None:
            report = EventReport(
                request.command.TypeID, request.data_set, context.TransferSyntaxUID
            )
            status = heard.hear(report)
            heard.reports += 1
        self._send_message(context.id, encode_response(request.command, status), None)


def _read(
    command: bytes, expected: int | None, message_id: int
) -> tuple[Response | PeerRequest, bool]:
    try:
        request: Command = decode_command(command)
    except MalformedCommand as error:
        raise PeerBrokeProtocol(str(error)) from error
    if request.CommandField & RESPONSE:
        if expected is None:
            raise PeerBrokeProtocol("an answer to nothing")
        return read_answer(command, expected | RESPONSE, (message_id,))
    return PeerRequest(request), request.has_data_set

"""The storage SCU: instances sent over an association in one blocking loop, without copies.

A data set is given as chunks and never held as a whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gantry_dimse import command_sets as cs
from gantry_dimse.command import C_ECHO_RQ, C_STORE_RQ, NO_DATA_SET, RESPONSE
from gantry_dimse.message_pdus import MoveOriginator, encode_store_request
from gantry_dimse.pacing import Pacer
from gantry_dimse.proposals import NegotiatedContext
from gantry_dimse.requesting import Requested, Timeouts
from gantry_dimse.requestor import RequestorAssociation
from gantry_domain.sop_classes import VERIFICATION


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """A peer's answer: Status (0000,0900) and Error Comment (0000,0902).

    The comment is the peer's free text: it may name a patient, so it belongs in no log.
    """

    status: int
    error_comment: str


class StorageAssociation(RequestorAssociation):
    """An association on which we send instances, or a C-ECHO."""

    def __init__(self, requested: Requested, timeouts: Timeouts) -> None:
        """See `open`."""
        super().__init__(requested, timeouts)
        self._unanswered: list[int] = []

    def pace(self, pacer: Pacer) -> None:
        """Send no faster than this from now on."""
        self._wire.pacer = pacer

    def accepts(self, SOPClassUID: str, transfer_syntax: str) -> NegotiatedContext | None:
        """The context in which an instance can be sent as it is stored."""
        return self._contexts.accepts(SOPClassUID, transfer_syntax)

    def store(
        self,
        *,
        SOPClassUID: str,
        SOPInstanceUID: str,
        context: NegotiatedContext,
        chunks: Iterable[bytes | memoryview],
        move_originator: MoveOriginator | None = None,
    ) -> StoreResponse:
        """Send one instance and await the answer (PS3.7 9.1.1).

        :param chunks: the data set, without preamble and file meta, in the syntax of `context`;
            a chunk must stay as it is once it was given.

        Raises an `AssociationLost`, or what `chunks` raises; the association is aborted then.
        """
        self.begin_store(
            SOPClassUID=SOPClassUID,
            SOPInstanceUID=SOPInstanceUID,
            context=context,
            chunks=chunks,
            move_originator=move_originator,
        )
        return self.next_answer()[1]

    def begin_store(
        self,
        *,
        SOPClassUID: str,
        SOPInstanceUID: str,
        context: NegotiatedContext,
        chunks: Iterable[bytes | memoryview],
        move_originator: MoveOriginator | None = None,
    ) -> int:
        """Send one instance as `store` does, and do not wait for its answer: the message's id.

        At most `window` may wait at once.
        """
        message_id = self._next_message_id()
        command = encode_store_request(
            SOPClassUID=SOPClassUID,
            SOPInstanceUID=SOPInstanceUID,
            message_id=message_id,
            move_originator=move_originator,
        )
        try:
            self._send_message(context.id, command, chunks)
        except BaseException:  # in the middle of a message nothing else can be sent
            self.abort()
            raise
        self._unanswered.append(message_id)
        return message_id

    def next_answer(self) -> tuple[int, StoreResponse]:
        """The next answer to what was begun, in the peer's order, with the id of its message.

        Raises an `AssociationLost`; the association is aborted then.
        """
        try:
            answer = self._response(C_STORE_RQ | RESPONSE, *self._unanswered)
        except BaseException:  # whose answer is missing cannot be told
            self.abort()
            raise
        self._unanswered.remove(answer.message_id)
        return answer.message_id, StoreResponse(answer.status, answer.error_comment)

    def echo(self) -> int:
        """C-ECHO (PS3.7 9.1.5) in the accepted context for Verification: the peer's status."""
        contexts = [
            context for context in self._contexts.accepted if context.SOPClassUID == VERIFICATION
        ]
        if not contexts:
            raise ValueError("no context for Verification was negotiated")
        message_id = self._next_message_id()
        command = {
            cs.AFFECTED_SOP_CLASS_UID: cs.ui(VERIFICATION),
            cs.COMMAND_FIELD: cs.us(C_ECHO_RQ),
            cs.MESSAGE_ID: cs.us(message_id),
            cs.COMMAND_DATA_SET_TYPE: cs.us(NO_DATA_SET),
        }
        try:
            self._send_message(contexts[0].id, cs.encode_command_set(command), None)
            return self._response(C_ECHO_RQ | RESPONSE, message_id).status
        except BaseException:  # in the middle of a message nothing else can be sent
            self.abort()
            raise

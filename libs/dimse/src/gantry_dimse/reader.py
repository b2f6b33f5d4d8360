"""Walks the bytes of an established association: PDUs, PDVs, fragments. Knows no socket.

The bytes come in pieces that begin and end anywhere; a fragment is passed on as far as it has
come, as a view of the caller's buffer. Nothing is allocated for a length that the peer declares.
"""

from typing import Protocol

from gantry_dimse.pdu import (
    A_ABORT,
    A_RELEASE_RQ,
    COMMAND_FRAGMENT,
    HEADER,
    INVALID_PDU_PARAMETER,
    LAST_FRAGMENT,
    P_DATA_TF,
    PDU_TYPES,
    PDV_HEADER,
    SHORT_BODY,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    ProtocolError,
)


class PDUHandler(Protocol):
    """What becomes of the bytes."""

    def command(self, context_id: int, piece: memoryview, *, last: bool) -> None:
        """A piece of a command set; `last` ends the command set."""

    def data(self, context_id: int, piece: memoryview, *, last: bool) -> None:
        """A piece of a data set; `last` ends the data set."""

    def release(self) -> None:
        """The peer wants to release the association."""

    def abort(self) -> None:
        """The peer aborted the association."""


class PDUReader:
    """The state between two pieces of the stream."""

    __slots__ = ("_context_id", "_control", "_fragment_left", "_handler", "_pdu_left", "ended")

    def __init__(self, handler: PDUHandler) -> None:
        self._handler = handler
        self._pdu_left = 0
        self._fragment_left = 0
        self._context_id = 0
        self._control = 0
        self.ended = False
        """Whether the peer released or aborted the association: nothing more is read."""

    @property
    def between_pdus(self) -> bool:
        """Whether the last byte read was the last one of a PDU."""
        return not self._pdu_left

    @property
    def fragment_left(self) -> int:
        """How many bytes of the present fragment are still to come."""
        return self._fragment_left

    def feed(self, view: memoryview) -> int:
        """Read `view`; return how many bytes were used. Fewer than 12 may stay: keep them.

        Raises `ProtocolError` and whatever the handler raises.
        """
        size = len(view)
        offset = 0
        while not self.ended:
            available = size - offset
            if self._fragment_left:
                if not available:
                    break
                taken = min(self._fragment_left, available)
                self._fragment_left -= taken
                self._pdu_left -= taken
                self._pass_on(view[offset : offset + taken])
                offset += taken
            elif self._pdu_left:
                if available < PDV_HEADER.size:
                    if self._pdu_left < PDV_HEADER.size:
                        raise ProtocolError(INVALID_PDU_PARAMETER, "a PDU ends inside a PDV")
                    break
                length, self._context_id, self._control = PDV_HEADER.unpack_from(view, offset)
                # The length counts the context id and the control header, but not itself.
                if length < 2 or length + 4 > self._pdu_left:
                    raise ProtocolError(INVALID_PDU_PARAMETER, "a PDV is longer than its PDU")
                offset += PDV_HEADER.size
                self._pdu_left -= PDV_HEADER.size
                self._fragment_left = length - 2
                if not self._fragment_left:
                    self._pass_on(view[offset:offset])
            else:
                if available < HEADER.size:
                    break
                used = self._begin_pdu(view, offset, available)
                if not used:
                    break
                offset += used
        return offset

    def _pass_on(self, piece: memoryview) -> None:
        control = self._control
        last = control & LAST_FRAGMENT != 0 and not self._fragment_left
        if control & COMMAND_FRAGMENT:
            self._handler.command(self._context_id, piece, last=last)
        else:
            self._handler.data(self._context_id, piece, last=last)

    def _begin_pdu(self, view: memoryview, offset: int, available: int) -> int:
        """Read a PDU's header, and its body if it is short; 0 if that has not come yet."""
        pdu_type, length = HEADER.unpack_from(view, offset)
        if pdu_type == P_DATA_TF:
            if length < PDV_HEADER.size:
                raise ProtocolError(INVALID_PDU_PARAMETER, "a P-DATA-TF without a PDV")
            self._pdu_left = length
            return HEADER.size
        if pdu_type not in (A_RELEASE_RQ, A_ABORT):
            known = pdu_type in PDU_TYPES
            reason = UNEXPECTED_PDU if known else UNRECOGNIZED_PDU
            raise ProtocolError(reason, f"a PDU of type {pdu_type:02X}H")
        if length != SHORT_BODY:
            raise ProtocolError(INVALID_PDU_PARAMETER, f"a PDU of type {pdu_type:02X}H too long")
        if available < HEADER.size + SHORT_BODY:
            return 0
        self.ended = True
        if pdu_type == A_RELEASE_RQ:
            self._handler.release()
        else:
            self._handler.abort()
        return HEADER.size + SHORT_BODY

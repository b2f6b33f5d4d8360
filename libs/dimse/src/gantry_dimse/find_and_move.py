"""The query/retrieve SCU: C-FIND, and C-MOVE to another device (PS3.4 C.4.1 and C.4.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from gantry_dimse import command_sets as cs
from gantry_dimse.command import C_FIND_RQ, C_MOVE_RQ, RESPONSE
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import AssociationLost, NoAcceptedContext
from gantry_dimse.proposals import NegotiatedContext, ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.requestor import RequestorAssociation, Response
from gantry_domain.errors import PermanentError
from gantry_domain.statuses import PENDING, PENDING_WARNING, SUCCESS
from gantry_domain.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN

IDENTIFIER_SYNTAX = IMPLICIT_VR_LITTLE_ENDIAN
"""That of every identifier here: the one that everybody takes (PS3.5 10.1)."""

_PENDING = frozenset({PENDING.code, PENDING_WARNING.code})


class FindRefused(PermanentError):
    """The peer ended a C-FIND with another status than Success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the peer answered a C-FIND with status {status:04X}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Moved:
    """The end of a C-MOVE: its status and its counts, None where the peer says none."""

    status: int
    completed: int | None
    failed: int | None
    warning: int | None


class QueryAssociation(RequestorAssociation):
    """An association on which we ask an archive what it has, and to send it somewhere."""

    @classmethod
    def open_for(
        cls,
        SOPClassUIDs: Sequence[str],
        *,
        host: str,
        port: int,
        calling_ae: str,
        called_ae: str,
        timeouts: Timeouts,
        tls: OutgoingTLS | None = None,
    ) -> Self:
        """For these classes, of which the peer must accept each. Raises as `open`."""
        contexts = [ProposedContext(uid, (IDENTIFIER_SYNTAX,)) for uid in SOPClassUIDs]
        assoc = cls.open(
            host=host,
            port=port,
            calling_ae=calling_ae,
            called_ae=called_ae,
            contexts=contexts,
            timeouts=timeouts,
            tls=tls,
        )
        if any(assoc.contexts.accepts(uid, IDENTIFIER_SYNTAX) is None for uid in SOPClassUIDs):
            assoc.abort()
            raise NoAcceptedContext
        return assoc

    def find(self, SOPClassUID: str, identifier: bytes) -> Iterator[bytes]:
        """The identifier of each match (PS3.7 9.1.2).

        Must be read to its end. Raises `FindRefused` and `AssociationLost`.
        """
        command = {cs.COMMAND_FIELD: cs.us(C_FIND_RQ)}
        for response in self._responses(SOPClassUID, command, identifier, C_FIND_RQ | RESPONSE):
            if response.status not in _PENDING:
                if response.status != SUCCESS.code:
                    raise FindRefused(response.status)
                return
            if response.data_set is not None:
                yield response.data_set

    def move(self, SOPClassUID: str, identifier: bytes, *, destination: str, quiet: float) -> Moved:
        """Have what the identifier names sent to an AE title (PS3.7 9.1.4).

        `quiet`: seconds that the peer may say nothing, for many say nothing until all is sent.
        Raises `AssociationLost`.
        """
        command = {
            cs.COMMAND_FIELD: cs.us(C_MOVE_RQ),
            cs.MOVE_DESTINATION: cs.ae(destination),
        }
        responses = self._responses(
            SOPClassUID, command, identifier, C_MOVE_RQ | RESPONSE, timeout=quiet
        )
        for response in responses:
            if response.status not in _PENDING:
                return Moved(
                    response.status,
                    completed=_count(response, cs.COMPLETED_SUB_OPERATIONS),
                    failed=_count(response, cs.FAILED_SUB_OPERATIONS),
                    warning=_count(response, cs.WARNING_SUB_OPERATIONS),
                )
        raise AssertionError("responses have no end of their own")

    def _responses(
        self,
        SOPClassUID: str,
        command: dict[int, bytes],
        identifier: bytes,
        expected: int,
        *,
        timeout: float | None = None,
    ) -> Iterator[Response]:
        message_id = self._next_message_id()
        command |= {
            cs.AFFECTED_SOP_CLASS_UID: cs.ui(SOPClassUID),
            cs.MESSAGE_ID: cs.us(message_id),
            cs.PRIORITY: cs.us(cs.PRIORITY_MEDIUM),
            cs.COMMAND_DATA_SET_TYPE: cs.us(cs.DATA_SET),
        }
        try:
            self._send_message(
                self._context(SOPClassUID).id, cs.encode_command_set(command), [identifier]
            )
            while True:
                yield self._response(expected, message_id, timeout=timeout)
        except AssociationLost:  # nothing can be said in the middle of it
            self.abort()
            raise

    def _context(self, SOPClassUID: str) -> NegotiatedContext:
        context = self._contexts.accepts(SOPClassUID, IDENTIFIER_SYNTAX)
        if context is None:
            raise ValueError(f"no context for {SOPClassUID} was negotiated")
        return context


def _count(response: Response, element: int) -> int | None:
    """None where it is missing, which it may be, or malformed."""
    try:
        return cs.number(response.elements, element)
    except ValueError:
        return None

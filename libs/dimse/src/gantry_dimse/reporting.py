"""The MPPS SCU: tells another system of a performed procedure step (PS3.4 Annex F)."""

from typing import Self

from gantry_dimse import command_sets as cs
from gantry_dimse.command import N_CREATE_RQ, N_SET_RQ, RESPONSE
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import NoAcceptedContext
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.requestor import RequestorAssociation, Response
from gantry_domain.information_models import MODALITY_PERFORMED_PROCEDURE_STEP


class ReportingAssociation(RequestorAssociation):
    """An association on which steps are created and set, in one transfer syntax."""

    @classmethod
    def open_for(
        cls,
        transfer_syntax: str,
        *,
        host: str,
        port: int,
        calling_ae: str,
        called_ae: str,
        timeouts: Timeouts,
        tls: OutgoingTLS | None = None,
    ) -> Self:
        """For data sets in this syntax, which the peer must accept. Raises as `open`."""
        assoc = cls.open(
            host=host,
            port=port,
            calling_ae=calling_ae,
            called_ae=called_ae,
            contexts=[ProposedContext(MODALITY_PERFORMED_PROCEDURE_STEP, (transfer_syntax,))],
            timeouts=timeouts,
            tls=tls,
        )
        if assoc.contexts.accepts(MODALITY_PERFORMED_PROCEDURE_STEP, transfer_syntax) is None:
            assoc.abort()
            raise NoAcceptedContext
        return assoc

    def create(self, SOPInstanceUID: str, data_set: bytes) -> Response:
        """N-CREATE (PS3.7 10.1.5). Raises `AssociationLost`."""
        command = {
            cs.COMMAND_FIELD: cs.us(N_CREATE_RQ),
            cs.AFFECTED_SOP_CLASS_UID: cs.ui(MODALITY_PERFORMED_PROCEDURE_STEP),
            cs.AFFECTED_SOP_INSTANCE_UID: cs.ui(SOPInstanceUID),
        }
        return self._asked(command, data_set, N_CREATE_RQ | RESPONSE)

    def set(self, SOPInstanceUID: str, data_set: bytes) -> Response:
        """N-SET (PS3.7 10.1.3). Raises `AssociationLost`."""
        command = {
            cs.COMMAND_FIELD: cs.us(N_SET_RQ),
            cs.REQUESTED_SOP_CLASS_UID: cs.ui(MODALITY_PERFORMED_PROCEDURE_STEP),
            cs.REQUESTED_SOP_INSTANCE_UID: cs.ui(SOPInstanceUID),
        }
        return self._asked(command, data_set, N_SET_RQ | RESPONSE)

    def _asked(self, command: dict[int, bytes], data_set: bytes, expected: int) -> Response:
        message_id = self._next_message_id()
        command |= {
            cs.MESSAGE_ID: cs.us(message_id),
            cs.COMMAND_DATA_SET_TYPE: cs.us(cs.DATA_SET),
        }
        (context,) = self._contexts.accepted
        try:
            self._send_message(context.id, cs.encode_command_set(command), [data_set])
            return self._response(expected, message_id)
        except BaseException:  # in the middle of a message nothing else can be sent
            self.abort()
            raise

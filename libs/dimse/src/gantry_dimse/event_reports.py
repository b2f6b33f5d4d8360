"""N-EVENT-REPORT requests on an association of our own, on which we are the SCP (PS3.7 D.3.3.4)."""

from typing import Self

from gantry_dimse.command import N_EVENT_REPORT_RQ, RESPONSE
from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.requestor import RequestorAssociation
from gantry_dimse.reverse_events import encode_event_report


class EventAssociation(RequestorAssociation):
    """An association on which we tell a peer what became of what it asked for."""

    @classmethod
    def open_for(
        cls,
        SOPClassUID: str,
        *,
        host: str,
        port: int,
        calling_ae: str,
        called_ae: str,
        timeouts: Timeouts,
        tls: OutgoingTLS | None = None,
    ) -> Self:
        """For this class, as its SCP. Raises as `open`."""
        return cls.open(
            host=host,
            port=port,
            calling_ae=calling_ae,
            called_ae=called_ae,
            contexts=[ProposedContext(SOPClassUID, MESSAGE_SYNTAXES, as_scp=True)],
            timeouts=timeouts,
            tls=tls,
        )

    @property
    def transfer_syntax(self) -> str:
        """That of data sets: what the peer chose."""
        return self._contexts.accepted[0].TransferSyntaxUID

    def report(self, *, SOPInstanceUID: str, event_type: int, encoded: bytes) -> int:
        """Send one report; the status with which the peer answers. Raises `AssociationLost`."""
        context = self._contexts.accepted[0]
        message_id = self._next_message_id()
        command = encode_event_report(
            SOPClassUID=context.SOPClassUID,
            SOPInstanceUID=SOPInstanceUID,
            event_type=event_type,
            message_id=message_id,
        )
        try:
            self._send_message(context.id, command, [encoded])
            return self._response(N_EVENT_REPORT_RQ | RESPONSE, message_id).status
        except BaseException:  # in the middle of a message nothing else can be sent
            self.abort()
            raise

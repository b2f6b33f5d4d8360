"""N-EVENT-REPORT requests on an association of our own, on which we are the SCP (PS3.7 D.3.3.4)."""

from gantry_dimse.command import N_EVENT_REPORT_RQ, RESPONSE
from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requestor import RequestorAssociation
from gantry_dimse.reverse_events import encode_event_report


def event_contexts(SOPClassUID: str) -> tuple[ProposedContext, ...]:
    """What an `EventAssociation` is opened with: for this class we are the SCP."""
    return (ProposedContext(SOPClassUID, MESSAGE_SYNTAXES, as_scp=True),)


class EventAssociation(RequestorAssociation):
    """An association on which we tell a peer what became of what it asked for."""

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

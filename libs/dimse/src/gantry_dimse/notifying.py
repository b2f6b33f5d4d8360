"""The SCU of Instance Availability Notification: an N-CREATE for each (PS3.4 Annex R)."""

from gantry_dimse import command_sets as cs
from gantry_dimse.command import N_CREATE_RQ, RESPONSE
from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requestor import RequestorAssociation
from gantry_domain.availability import INSTANCE_AVAILABILITY_NOTIFICATION

NOTIFICATION_CONTEXTS = (ProposedContext(INSTANCE_AVAILABILITY_NOTIFICATION, MESSAGE_SYNTAXES),)
"""What a `NotifyingAssociation` is opened with."""


class NotifyingAssociation(RequestorAssociation):
    """An association on which a peer is told of instances."""

    def notify(self, SOPInstanceUID: str, encoded: bytes) -> int:
        """Send one notification; the status of the answer. Raises `AssociationLost`."""
        context = self._contexts.accepted[0]
        message_id = self._next_message_id()
        command = cs.encode_command_set(
            {
                cs.AFFECTED_SOP_CLASS_UID: cs.ui(context.SOPClassUID),
                cs.COMMAND_FIELD: cs.us(N_CREATE_RQ),
                cs.MESSAGE_ID: cs.us(message_id),
                cs.COMMAND_DATA_SET_TYPE: cs.us(cs.DATA_SET),
                cs.AFFECTED_SOP_INSTANCE_UID: cs.ui(SOPInstanceUID),
            }
        )
        try:
            self._send_message(context.id, command, [encoded])
            return self._response(N_CREATE_RQ | RESPONSE, message_id).status
        except BaseException:  # in the middle of a message nothing else can be sent
            self.abort()
            raise

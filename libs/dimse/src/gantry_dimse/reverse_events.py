"""N-EVENT-REPORT requests to the peer that opened the association, between its own messages.

Whoever answers an operation may leave steps behind, which go on after its final response: each is
looked at about once a second until it ends, or the association does.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from gantry_dimse import command_sets as cs
from gantry_dimse.command import N_EVENT_REPORT_RQ
from gantry_dimse.pdu import encode_command, encode_data_set

Steps = Generator[None, None, None]
"""Must not wait long for one step, and must raise nothing. It is closed with the association."""

EventCommand = Callable[[int], bytes]
"""The command set for a message with this id."""

# Message IDs of ours: far from those of other requests to the same peer, which begin at 1.
_FIRST_MESSAGE_ID = 0x8000


def encode_event_report(
    *, SOPClassUID: str, SOPInstanceUID: str, event_type: int, message_id: int
) -> bytes:
    """The command set of an N-EVENT-REPORT request with a data set (PS3.7 10.3.1.1)."""
    return cs.encode_command_set(
        {
            cs.AFFECTED_SOP_CLASS_UID: cs.ui(SOPClassUID),
            cs.COMMAND_FIELD: cs.us(N_EVENT_REPORT_RQ),
            cs.MESSAGE_ID: cs.us(message_id),
            cs.COMMAND_DATA_SET_TYPE: cs.us(cs.DATA_SET),
            cs.AFFECTED_SOP_INSTANCE_UID: cs.ui(SOPInstanceUID),
            cs.EVENT_TYPE_ID: cs.us(event_type),
        }
    )


class EventReports:
    """The reports of one association; used by its thread alone."""

    def __init__(self, *, peer_max_pdu: int, send: Callable[[bytes], None]) -> None:
        self._peer_max_pdu = peer_max_pdu
        self._send = send
        self._steps: list[Steps] = []
        self._message_id = _FIRST_MESSAGE_ID
        self._answers: dict[int, int] = {}

    def on(self, context_id: int, SOPClassUID: str) -> "ReverseEvents":
        """Reports in a presentation context."""
        return ReverseEvents(self, context_id, SOPClassUID)

    def go_on(self) -> None:
        """The next step of each."""
        for steps in tuple(self._steps):
            try:
                next(steps)
            except StopIteration:
                self._steps.remove(steps)

    def add(self, steps: Steps) -> None:
        """These go on from now."""
        self._steps.append(steps)

    def send(self, context_id: int, command: EventCommand, encoded: bytes) -> int:
        """Send a report; the id of its message."""
        self._message_id = max(_FIRST_MESSAGE_ID, (self._message_id + 1) % 0x10000)
        self._send(
            encode_command(context_id, command(self._message_id), self._peer_max_pdu)
            + encode_data_set(context_id, encoded, self._peer_max_pdu)
        )
        return self._message_id

    def answered(self, message_id: int, status: int) -> None:
        """The peer answers a report. To what was never sent no attention is paid."""
        if _FIRST_MESSAGE_ID < message_id <= self._message_id:
            self._answers[message_id] = status

    def answer(self, message_id: int) -> int | None:
        """The status with which the peer answered; None: not yet."""
        return self._answers.pop(message_id, None)

    def close(self) -> None:
        """The association has ended."""
        while self._steps:
            self._steps.pop().close()


@dataclass(frozen=True, slots=True)
class ReverseEvents:
    """Reports in the presentation context of one request."""

    reports: EventReports
    context_id: int
    SOPClassUID: str

    def go_on_with(self, steps: Steps) -> None:
        """Do these steps after the final response to the request."""
        self.reports.add(steps)

    def report(
        self, *, SOPInstanceUID: str, event_type: int, encoded: bytes
    ) -> Generator[None, None, int]:
        """The steps of one report; they return the status that the peer answered."""
        message_id = self.reports.send(
            self.context_id,
            lambda message_id: encode_event_report(
                SOPClassUID=self.SOPClassUID,
                SOPInstanceUID=SOPInstanceUID,
                event_type=event_type,
                message_id=message_id,
            ),
            encoded,
        )
        while (status := self.reports.answer(message_id)) is None:
            yield
        return status

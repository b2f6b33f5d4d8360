"""Commands as values: requests read from the peer, and the responses that answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from gantry_dimse import command_sets as cs
from gantry_domain.statuses import PENDING, SUB_OPERATIONS_CANCELLED, Status
from gantry_domain.sub_operations import SubOperations

# Command fields (PS3.7 Annex E.1); a response has the highest bit set.
C_STORE_RQ = 0x0001
C_GET_RQ = 0x0010
C_FIND_RQ = 0x0020
C_MOVE_RQ = 0x0021
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
N_SET_RQ = 0x0120
N_ACTION_RQ = 0x0130
N_CREATE_RQ = 0x0140
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000

NO_DATA_SET = 0x0101
DATA_SET = cs.DATA_SET

_TAG = Struct("<HH")

LONGEST_COMMENT = 64  # LO, PS3.5 Table 6.2-1

_LARGEST_COUNT = 0xFFFF  # US

# Only in these are sub-operations that remain told of (PS3.4 C.4.2.1.6).
_UNFINISHED = frozenset({PENDING.code, SUB_OPERATIONS_CANCELLED.code})


class MalformedCommand(Exception):
    """A command set that cannot be read; its text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command set of the peer's; UIDs as they were sent, padding included.

    `Status` is that of a response to what we asked, None in a request. What an N-SET is about it
    calls requested, not affected (PS3.7 10.3.3). `TypeID` is that of an event or of an action.
    """

    CommandField: int
    MessageID: int
    CommandDataSetType: int
    MessageIDBeingRespondedTo: int = 0
    AffectedSOPClassUID: bytes = b""
    AffectedSOPInstanceUID: bytes = b""
    RequestedSOPClassUID: bytes = b""
    RequestedSOPInstanceUID: bytes = b""
    MoveDestination: str = ""
    Status: int | None = None
    TypeID: int = 0

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows (PS3.7 E.1-1, any value but 0101H)."""
        return self.CommandDataSetType != NO_DATA_SET


def decode_command(encoded: bytes) -> Command:
    """Read a command set. Raises `MalformedCommand`."""
    try:
        values = cs.read_command_set(encoded)
        return Command(
            CommandField=cs.number(values, cs.COMMAND_FIELD),
            MessageID=_optional(values, cs.MESSAGE_ID),
            CommandDataSetType=cs.number(values, cs.COMMAND_DATA_SET_TYPE),
            MessageIDBeingRespondedTo=_optional(values, cs.MESSAGE_ID_BEING_RESPONDED_TO),
            AffectedSOPClassUID=values.get(cs.AFFECTED_SOP_CLASS_UID, b""),
            AffectedSOPInstanceUID=values.get(cs.AFFECTED_SOP_INSTANCE_UID, b""),
            RequestedSOPClassUID=values.get(cs.REQUESTED_SOP_CLASS_UID, b""),
            RequestedSOPInstanceUID=values.get(cs.REQUESTED_SOP_INSTANCE_UID, b""),
            MoveDestination=cs.text(values, cs.MOVE_DESTINATION),
            Status=cs.number(values, cs.STATUS) if values.get(cs.STATUS) else None,
            TypeID=_optional(values, cs.EVENT_TYPE_ID) or _optional(values, cs.ACTION_TYPE_ID),
        )
    except ValueError as error:
        raise MalformedCommand(str(error)) from error


def encode_response(
    request: Command,
    status: Status,
    error_comment: str = "",
    *,
    data_set: bool = False,
    offending: Sequence[int] = (),
    sub_operations: SubOperations | None = None,
    error_id: int | None = None,
    SOPInstanceUID: str = "",
) -> bytes:
    """The command set that answers `request`; `data_set`: one follows. `offending`: tags.

    `SOPInstanceUID`: what was made, where the request does not say its UID.
    """
    elements = {
        cs.COMMAND_FIELD: cs.us(request.CommandField | RESPONSE),
        cs.MESSAGE_ID_BEING_RESPONDED_TO: cs.us(request.MessageID),
        cs.COMMAND_DATA_SET_TYPE: cs.us(DATA_SET if data_set else NO_DATA_SET),
        cs.STATUS: cs.us(status.code),
    }
    SOPClassUID = request.AffectedSOPClassUID or request.RequestedSOPClassUID
    if SOPClassUID:
        elements[cs.AFFECTED_SOP_CLASS_UID] = _even(SOPClassUID, b"\0")
    if error_id is not None:
        elements[cs.ERROR_ID] = cs.us(error_id)
    if offending:
        elements[cs.OFFENDING_ELEMENT] = b"".join(
            _TAG.pack(tag >> 16, tag & 0xFFFF) for tag in offending
        )
    if sub_operations is not None:
        elements |= _counts(sub_operations, unfinished=status.code in _UNFINISHED)
    if error_comment:
        comment = error_comment[:LONGEST_COMMENT].encode("ascii", errors="replace")
        elements[cs.ERROR_COMMENT] = _even(comment.replace(b"\\", b"/"), b" ")
    instance = request.AffectedSOPInstanceUID or request.RequestedSOPInstanceUID
    if instance or SOPInstanceUID:
        elements[cs.AFFECTED_SOP_INSTANCE_UID] = _even(instance or SOPInstanceUID.encode(), b"\0")
    return cs.encode_command_set(elements)


def _counts(counts: SubOperations, *, unfinished: bool) -> dict[int, bytes]:
    numbers = {
        cs.COMPLETED_SUB_OPERATIONS: counts.completed,
        cs.FAILED_SUB_OPERATIONS: counts.failed,
        cs.WARNING_SUB_OPERATIONS: counts.warning,
    }
    if unfinished:
        numbers[cs.REMAINING_SUB_OPERATIONS] = counts.remaining
    return {element: cs.us(min(number, _LARGEST_COUNT)) for element, number in numbers.items()}


def uid_text(value: bytes) -> str:
    """A UID without its padding; bytes that no UID can have survive as ISO 8859-1."""
    return value.strip(b"\0 ").decode("latin-1")


def _optional(values: Mapping[int, bytes], element: int) -> int:
    return cs.number(values, element) if values.get(element) else 0


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) % 2 else value

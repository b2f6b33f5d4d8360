"""Command sets (PS3.7 6.3.1): read from the peer, and written as responses, without a Dataset.

A command set is in Implicit VR Little Endian: | group 2 | element 2 | length 4 | value |.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

from gantry_domain.statuses import Status

# Command fields (PS3.7 Annex E.1); a response has the highest bit set.
C_STORE_RQ = 0x0001
C_FIND_RQ = 0x0020
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000

NO_DATA_SET = 0x0101
DATA_SET = 0x0001  # any other value (PS3.7 Table E.1-1)

_COMMAND_GROUP = 0x0000
_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
_COMMAND_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_OFFENDING_ELEMENT = 0x0901
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE_UID = 0x1000

_ELEMENT = Struct("<HHL")
_US = Struct("<H")
_UL = Struct("<L")
_TAG = Struct("<HH")

LONGEST_COMMENT = 64  # LO, PS3.5 Table 6.2-1


class MalformedCommand(Exception):
    """A command set that cannot be read; its text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request's command set; UIDs as they were sent, padding included."""

    CommandField: int
    MessageID: int
    CommandDataSetType: int
    MessageIDBeingRespondedTo: int = 0
    AffectedSOPClassUID: bytes = b""
    AffectedSOPInstanceUID: bytes = b""

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows (PS3.7 E.1-1, any value but 0101H)."""
        return self.CommandDataSetType != NO_DATA_SET


def decode_command(encoded: bytes) -> Command:
    """Read a command set. Raises `MalformedCommand`."""
    values: dict[int, bytes] = {}
    offset, size = 0, len(encoded)
    while offset < size:
        if offset + _ELEMENT.size > size:
            raise MalformedCommand("the command set ends inside of an element")
        group, element, length = _ELEMENT.unpack_from(encoded, offset)
        offset += _ELEMENT.size
        if group != _COMMAND_GROUP or length > size - offset:
            raise MalformedCommand("the command set holds what is no command element")
        values[element] = encoded[offset : offset + length]
        offset += length
    return Command(
        CommandField=_number(values, _COMMAND_FIELD),
        MessageID=_number(values, _MESSAGE_ID, 0),
        CommandDataSetType=_number(values, _COMMAND_DATA_SET_TYPE),
        MessageIDBeingRespondedTo=_number(values, _MESSAGE_ID_BEING_RESPONDED_TO, 0),
        AffectedSOPClassUID=values.get(_AFFECTED_SOP_CLASS_UID, b""),
        AffectedSOPInstanceUID=values.get(_AFFECTED_SOP_INSTANCE_UID, b""),
    )


def encode_response(
    request: Command,
    status: Status,
    error_comment: str = "",
    *,
    data_set: bool = False,
    offending: Sequence[int] = (),
) -> bytes:
    """The command set that answers `request`; `data_set`: one follows. `offending`: tags."""
    elements = [
        (_COMMAND_FIELD, _US.pack(request.CommandField | RESPONSE)),
        (_MESSAGE_ID_BEING_RESPONDED_TO, _US.pack(request.MessageID)),
        (_COMMAND_DATA_SET_TYPE, _US.pack(DATA_SET if data_set else NO_DATA_SET)),
        (_STATUS, _US.pack(status.code)),
    ]
    if request.AffectedSOPClassUID:
        elements.insert(0, (_AFFECTED_SOP_CLASS_UID, request.AffectedSOPClassUID))
    if offending:
        tags = b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in offending)
        elements.append((_OFFENDING_ELEMENT, tags))
    if error_comment:
        comment = error_comment[:LONGEST_COMMENT].encode("ascii", errors="replace")
        elements.append((_ERROR_COMMENT, comment.replace(b"\\", b"/")))
    if request.AffectedSOPInstanceUID:
        elements.append((_AFFECTED_SOP_INSTANCE_UID, request.AffectedSOPInstanceUID))
    group = b"".join(_encode(elements))
    return b"".join(_encode([(_GROUP_LENGTH, _UL.pack(len(group)))])) + group


def uid_text(value: bytes) -> str:
    """A UID without its padding; bytes that no UID can have survive as ISO 8859-1."""
    return value.strip(b"\0 ").decode("latin-1")


def _number(values: dict[int, bytes], element: int, default: int | None = None) -> int:
    value = values.get(element, b"")
    if len(value) == _US.size:
        number: int = _US.unpack(value)[0]
        return number
    if default is None or value:
        raise MalformedCommand(f"(0000,{element:04X}) is missing or not a number")
    return default


def _encode(elements: Iterable[tuple[int, bytes]]) -> Iterable[bytes]:
    for element, value in elements:
        padding = b""
        if len(value) % 2:
            padding = b" " if element == _ERROR_COMMENT else b"\0"
        yield _ELEMENT.pack(_COMMAND_GROUP, element, len(value) + len(padding))
        yield value + padding

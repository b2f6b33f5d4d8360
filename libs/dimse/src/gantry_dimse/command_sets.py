"""The encoding of command sets (PS3.7 6.3.1, Annex E), without a Dataset.

Always Implicit VR Little Endian, group 0000 only:

    0      2         4        8
    | 0000 | element | length | value ...   (repeated, in ascending order)
"""

from collections.abc import Mapping
from struct import Struct, error

_ELEMENT = Struct("<HHL")
_US = Struct("<H")
_UL = Struct("<L")

# PS3.7 Table E.1-1: element numbers of group 0000.
GROUP_LENGTH = 0x0000
AFFECTED_SOP_CLASS_UID = 0x0002
REQUESTED_SOP_CLASS_UID = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
MOVE_DESTINATION = 0x0600
PRIORITY = 0x0700
COMMAND_DATA_SET_TYPE = 0x0800
STATUS = 0x0900
OFFENDING_ELEMENT = 0x0901
ERROR_COMMENT = 0x0902
ERROR_ID = 0x0903
AFFECTED_SOP_INSTANCE_UID = 0x1000
REQUESTED_SOP_INSTANCE_UID = 0x1001
EVENT_TYPE_ID = 0x1002
ACTION_TYPE_ID = 0x1008
REMAINING_SUB_OPERATIONS = 0x1020
COMPLETED_SUB_OPERATIONS = 0x1021
FAILED_SUB_OPERATIONS = 0x1022
WARNING_SUB_OPERATIONS = 0x1023
MOVE_ORIGINATOR_AE = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID = 0x1031

DATA_SET = 0x0001  # Command Data Set Type: any value but NO_DATA_SET (PS3.7 Table E.1-1)

PRIORITY_MEDIUM = 0x0000


def us(value: int) -> bytes:
    """A value of VR US."""
    return _US.pack(value)


def ui(value: str) -> bytes:
    """A value of VR UI, padded to even length with a NUL (PS3.5 6.2)."""
    encoded = value.encode("latin-1", "replace")
    return encoded + b"\0" if len(encoded) & 1 else encoded


def ae(value: str) -> bytes:
    """A value of VR AE, padded to even length with a blank."""
    encoded = value.encode("latin-1", "replace")
    return encoded + b" " if len(encoded) & 1 else encoded


def encode_command_set(elements: Mapping[int, bytes]) -> bytes:
    """The command set of `elements` (element number to even-length value) with its group length."""
    body = b"".join(
        _ELEMENT.pack(0, element, len(value)) + value for element, value in sorted(elements.items())
    )
    return _ELEMENT.pack(0, GROUP_LENGTH, 4) + _UL.pack(len(body)) + body


def read_command_set(data: bytes) -> dict[int, bytes]:
    """Element number to value. Raises `ValueError` for what is not a command set."""
    elements: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        try:
            group, element, length = _ELEMENT.unpack_from(data, offset)
        except error as cut:
            raise ValueError("a command set that ends within an element") from cut
        offset += _ELEMENT.size
        if group or length > len(data) - offset:
            raise ValueError("a command set with a foreign group or a value beyond its end")
        elements[element] = data[offset : offset + length]
        offset += length
    return elements


def number(elements: Mapping[int, bytes], element: int) -> int:
    """A value of VR US. Raises `ValueError` where it is missing or of another size."""
    value = elements.get(element, b"")
    if len(value) != _US.size:
        raise ValueError(f"the command element (0000,{element:04X}) is missing or malformed")
    return int.from_bytes(value, "little")


def text(elements: Mapping[int, bytes], element: int) -> str:
    """A value of a text VR without padding; empty where it is missing."""
    return elements.get(element, b"").decode("latin-1").strip(" \0")

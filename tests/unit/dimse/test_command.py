"""Command sets agree with pynetdicom's, and broken ones are refused by name."""

import contextlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode, encode

from gantry_dimse.command import Command, MalformedCommand, decode_command, encode_response
from gantry_domain.statuses import CANNOT_UNDERSTAND, SUCCESS

CT = "1.2.840.10008.5.1.4.1.1.2"


def store_request(SOPInstanceUID: str) -> bytes:
    primitive = C_STORE()
    primitive.MessageID = 4711
    primitive.Priority = 2
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = SOPInstanceUID
    primitive.DataSet = BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    return encoded


@pytest.mark.parametrize("SOPInstanceUID", ["1.2.3", "1.2.34"])
def test_a_store_request(SOPInstanceUID: str) -> None:
    command = decode_command(store_request(SOPInstanceUID))
    assert command.CommandField == 0x0001
    assert command.MessageID == 4711
    assert command.has_data_set
    assert command.AffectedSOPClassUID.rstrip(b"\0").decode() == CT
    assert command.AffectedSOPInstanceUID.rstrip(b"\0").decode() == SOPInstanceUID


def test_an_echo_request() -> None:
    primitive = C_ECHO()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = "1.2.840.10008.1.1"
    message = C_ECHO_RQ()
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    command = decode_command(encoded)
    assert (command.CommandField, command.has_data_set) == (0x0030, False)


def test_a_response_is_read_by_pynetdicom() -> None:
    request = decode_command(store_request("1.2.3"))
    comment = "StudyInstanceUID is missing \\ " + "x" * 80
    encoded = encode_response(request, CANNOT_UNDERSTAND, comment)
    message = C_STORE_RSP()
    message.command_set = decode(BytesIO(encoded), True, True)
    assert message.command_set.CommandGroupLength == len(encoded) - 12
    assert message.command_set.CommandField == 0x8001
    primitive = message.message_to_primitive()
    assert primitive.Status == 0xC000
    assert primitive.MessageIDBeingRespondedTo == 4711
    assert str(primitive.AffectedSOPClassUID) == CT
    assert str(primitive.AffectedSOPInstanceUID) == "1.2.3"
    assert message.command_set.ErrorComment == comment[:64].replace("\\", "/")
    tags = [element.tag for element in message.command_set]
    assert tags == sorted(tags)


def test_a_response_repeats_uids_as_they_were_sent() -> None:
    request = Command(
        CommandField=1,
        MessageID=1,
        CommandDataSetType=1,
        AffectedSOPClassUID=CT.encode() + b"\0",
        AffectedSOPInstanceUID=b"1.02.\xff ",
    )
    assert b"1.02.\xff " in encode_response(request, SUCCESS)


WHOLE = store_request("1.2.3")


@pytest.mark.parametrize("size", range(1, len(WHOLE), 7))
def test_a_cut_command_set_is_refused(size: int) -> None:
    with pytest.raises(MalformedCommand):
        decode_command(WHOLE[:size])


def test_elements_of_other_groups_are_refused() -> None:
    with pytest.raises(MalformedCommand, match="foreign group"):
        decode_command(b"\x08\x00\x18\x00\x00\x00\x00\x00")


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_else(encoded: bytes) -> None:
    with contextlib.suppress(MalformedCommand):
        decode_command(encoded)

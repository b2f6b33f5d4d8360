"""Association requests as real devices write them are made fit for pynetdicom."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ

from gantry_dimse.request import UnparseableRequest, parse_request

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"


def item(item_type: int, body: bytes) -> bytes:
    return bytes((item_type, 0)) + len(body).to_bytes(2) + body


MAXIMUM_LENGTH = item(0x51, (16384).to_bytes(4))
IMPLEMENTATION = item(0x52, b"1.2.3")
CONTEXT = item(
    0x20, bytes((1, 0, 0, 0)) + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
)


def request(
    called: bytes = b"GANTRY",
    calling: bytes = b"CT01",
    user: bytes = MAXIMUM_LENGTH + IMPLEMENTATION,
    extra: bytes = b"",
    application_context: bytes = APPLICATION_CONTEXT,
) -> bytes:
    body = b"".join(
        (
            b"\0\1\0\0",
            called.ljust(16, b" "),
            calling.ljust(16, b" "),
            bytes(32),
            item(0x10, application_context),
            CONTEXT,
            extra,
            item(0x50, user),
        )
    )
    return b"\1\0" + len(body).to_bytes(4) + body


def decoded(encoded: bytes) -> A_ASSOCIATE_RQ:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(encoded)
    return pdu


@pytest.mark.parametrize(
    ("field", "title"),
    [
        (b"CT01", "CT01"),
        (b"  CT01  ", "CT01"),
        (b"CT01" + bytes(12), "CT01"),
        (b"CT01\0garbage", "CT01"),
        (b"ct 01", "ct 01"),
        (b"C\xe9T\\\x01", "C?T??"),
        (b"A" * 16, "A" * 16),
        (b"", ""),
    ],
)
def test_titles(field: bytes, title: str) -> None:
    parsed = parse_request(request(called=field, calling=field))
    assert (parsed.called_ae, parsed.calling_ae) == (title, title)
    if title:
        assert decoded(parsed.encoded).calling_ae_title == title


def test_what_is_not_understood_is_left_out() -> None:
    asynchronous = item(0x53, bytes(4))
    parsed = parse_request(
        request(
            user=MAXIMUM_LENGTH + asynchronous + IMPLEMENTATION + item(0x99, b"what?"),
            extra=item(0x77, b"unknown"),
        )
    )
    pdu = decoded(parsed.encoded)
    assert [type(kept).__name__ for kept in pdu.user_information.user_data] == [
        "MaximumLengthSubItem",
        "ImplementationClassUIDSubItem",
    ]
    assert len(pdu.presentation_context) == 1
    assert len(parsed.encoded) == 6 + int.from_bytes(parsed.encoded[2:6])


def test_the_application_context_is_told() -> None:
    assert parse_request(request()).application_context == APPLICATION_CONTEXT.decode()
    assert parse_request(request(application_context=b"1.2\0")).application_context == "1.2"


@pytest.mark.parametrize("cut", [10, 70, 80, -1, -3])
def test_a_cut_request_is_refused(cut: int) -> None:
    with pytest.raises(UnparseableRequest):
        parse_request(request()[:cut])


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_else(rest: bytes) -> None:
    with contextlib.suppress(UnparseableRequest):
        parse_request(request()[:74] + rest)

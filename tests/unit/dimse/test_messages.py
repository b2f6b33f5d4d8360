"""Messages are answered one by one; what breaks their order is a protocol error."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_dimse.command import Command, decode_command, encode_response
from gantry_dimse.messages import AcceptedContext, MessageService
from gantry_dimse.observer import Peer
from gantry_dimse.pdu import HEADER, PDV_HEADER, ProtocolError
from gantry_dimse.storage import StoreOutcome, StoreRequest
from gantry_domain.statuses import CANNOT_UNDERSTAND, SUCCESS

CT = "1.2.840.10008.5.1.4.1.1.2"
ECHO = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"


class Kept:
    """A `StorageHandler` that keeps everything in memory."""

    def __init__(self) -> None:
        self.requests: list[StoreRequest] = []
        self.objects: list[bytearray] = []
        self.finished = 0
        self.aborted = 0
        self.outcome = StoreOutcome(SUCCESS)

    def begin(self, request: StoreRequest) -> "Kept":
        self.requests.append(request)
        self.objects.append(bytearray())
        return self

    def write(self, fragment: memoryview) -> None:
        self.objects[-1] += fragment

    def finish(self) -> StoreOutcome:
        self.finished += 1
        return self.outcome

    def abort(self) -> None:
        self.aborted += 1


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def sent() -> list[bytes]:
    return []


@pytest.fixture
def service(kept: Kept, sent: list[bytes]) -> MessageService:
    return make_service(kept, sent.append)


def make_service(kept: Kept, send: Callable[[bytes], None]) -> MessageService:
    return MessageService(
        peer=Peer("CT01", "GANTRY", "10.0.0.1"),
        contexts={1: AcceptedContext(CT, EXPLICIT), 3: AcceptedContext(ECHO, EXPLICIT)},
        storage_classes={CT},
        storage=kept,
        peer_max_pdu=16384,
        send=send,
    )


def element(number: int, value: bytes) -> bytes:
    return b"\0\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


def request(
    field: int = 1, *, SOPClassUID: str = CT, data_set: int = 0, message_id: int = 7
) -> memoryview:
    return memoryview(
        element(0x0002, SOPClassUID.encode())
        + element(0x0100, field.to_bytes(2, "little"))
        + element(0x0110, message_id.to_bytes(2, "little"))
        + element(0x0800, data_set.to_bytes(2, "little"))
        + element(0x1000, b"1.2.3\0")
    )


def statuses(sent: list[bytes]) -> list[tuple[int, int]]:
    """The command field and status of each response."""
    found = []
    for pdu in sent:
        encoded = pdu[HEADER.size + PDV_HEADER.size :]
        place = encoded.index(b"\0\0\0\x09\2\0\0\0") + 8
        status = int.from_bytes(encoded[place : place + 2], "little")
        found.append((decode_command(encoded).CommandField, status))
    return found


def test_an_object_in_pieces(service: MessageService, kept: Kept, sent: list[bytes]) -> None:
    whole = request()
    service.command(1, whole[:20], last=False)
    assert service.in_message
    service.command(1, whole[20:], last=True)
    service.data(1, memoryview(b"first "), last=False)
    service.data(1, memoryview(b""), last=False)
    assert not sent
    service.data(1, memoryview(b"last"), last=True)
    assert not service.in_message
    assert kept.objects == [b"first last"]
    assert kept.requests == [
        StoreRequest(
            SOPClassUID=CT,
            SOPInstanceUID="1.2.3",
            transfer_syntax=EXPLICIT,
            calling_ae="CT01",
            called_ae="GANTRY",
            peer_host="10.0.0.1",
            message_id=7,
        )
    ]
    assert statuses(sent) == [(0x8001, 0)]
    service.release()
    service.close()
    assert kept.aborted == 0


def test_a_failure_is_told_with_its_comment(
    service: MessageService, kept: Kept, sent: list[bytes]
) -> None:
    kept.outcome = StoreOutcome(CANNOT_UNDERSTAND, "StudyInstanceUID is missing")
    service.command(1, request(), last=True)
    service.data(1, memoryview(b"x"), last=True)
    assert statuses(sent) == [(0x8001, 0xC000)]
    assert b"StudyInstanceUID is missing" in sent[0]


def test_an_echo(service: MessageService, sent: list[bytes]) -> None:
    service.command(3, request(0x30, SOPClassUID=ECHO, data_set=0x0101), last=True)
    assert statuses(sent) == [(0x8030, 0)]


@pytest.mark.parametrize("data_set", [0x0101, 0])
def test_other_operations_are_not_recognised(
    service: MessageService, kept: Kept, sent: list[bytes], data_set: int
) -> None:
    service.command(1, request(0x20, data_set=data_set), last=True)
    if data_set == 0:
        service.data(1, memoryview(b"an identifier"), last=True)
    assert statuses(sent) == [(0x8020, 0x0211)]
    assert not kept.requests


@pytest.mark.parametrize("field", [0x0FFF, 0x8001, 0x8100])
def test_cancels_and_responses_are_not_answered(
    service: MessageService, sent: list[bytes], field: int
) -> None:
    service.command(1, request(field, data_set=0x0101), last=True)
    assert not sent
    assert not service.in_message


def test_a_class_that_is_not_stored(service: MessageService, kept: Kept, sent: list[bytes]) -> None:
    service.command(1, request(SOPClassUID="1.2.3"), last=True)
    service.data(1, memoryview(b"x"), last=True)
    service.command(3, request(), last=True)
    service.data(3, memoryview(b"x"), last=True)
    assert statuses(sent) == [(0x8001, 0x0122)] * 2
    assert not kept.requests


def test_a_store_without_a_data_set(service: MessageService, kept: Kept, sent: list[bytes]) -> None:
    service.command(1, request(data_set=0x0101), last=True)
    assert statuses(sent) == [(0x8001, 0xC000)]
    assert not kept.requests


def test_what_dies_in_the_middle_is_aborted(service: MessageService, kept: Kept) -> None:
    service.command(1, request(), last=True)
    service.data(1, memoryview(b"half"), last=False)
    service.close()
    service.close()
    assert (kept.finished, kept.aborted) == (0, 1)


def test_an_object_that_is_finished_is_not_aborted_when_the_answer_fails(kept: Kept) -> None:
    def broken(_content: bytes) -> None:
        raise ConnectionResetError

    service = make_service(kept, broken)
    service.command(1, request(), last=True)
    with pytest.raises(ConnectionResetError):
        service.data(1, memoryview(b"x"), last=True)
    service.close()
    assert (kept.finished, kept.aborted) == (1, 0)


BREACHES: list[Callable[[MessageService], None]] = [
    lambda service: service.data(1, memoryview(b"x"), last=True),
    lambda service: service.command(5, request(), last=True),
    lambda service: [  # type: ignore[func-returns-value]
        service.command(1, request()[:9], last=False),
        service.command(3, request()[9:], last=True),
    ],
    lambda service: [  # type: ignore[func-returns-value]
        service.command(1, request(), last=True),
        service.command(1, request(), last=True),
    ],
    lambda service: [  # type: ignore[func-returns-value]
        service.command(1, request(), last=True),
        service.data(3, memoryview(b"x"), last=True),
    ],
    lambda service: [  # type: ignore[func-returns-value]
        service.command(1, request(), last=True),
        service.release(),
    ],
    lambda service: service.command(1, memoryview(b"garbage"), last=True),
    lambda service: [  # type: ignore[func-returns-value]
        service.command(1, memoryview(bytes(10_000)), last=False) for _ in range(10)
    ],
]


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_protocol(
    service: MessageService, sent: list[bytes], breach: Callable[[MessageService], None]
) -> None:
    with pytest.raises(ProtocolError):
        breach(service)
    assert not sent


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["command", "data"]),
            st.sampled_from([1, 3, 5]),
            st.sampled_from([bytes(request()), bytes(request(0x30, data_set=0x0101)), b"x", b""]),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_no_order_of_fragments_does_anything_else(
    fragments: list[tuple[str, int, bytes, bool]],
) -> None:
    kept, sent = Kept(), list[bytes]()
    service = make_service(kept, sent.append)
    try:
        for kind, context_id, piece, last in fragments:
            getattr(service, kind)(context_id, memoryview(piece), last=last)
    except ProtocolError:
        pass
    service.close()
    assert kept.finished + kept.aborted == len(kept.requests)
    assert len(sent) >= kept.finished


def test_a_response_has_no_comment_where_there_is_nothing_to_say() -> None:
    command = Command(CommandField=1, MessageID=1, CommandDataSetType=0)
    assert b"\x02\x09" not in encode_response(command, SUCCESS)

"""Operations answer one by one while the peer is listened to; who cancels is heard."""

from collections.abc import Iterator

import pytest

from gantry_dimse.answering import MOST_WAITING
from gantry_dimse.command import C_CANCEL_RQ, C_FIND_RQ, C_GET_RQ
from gantry_dimse.command_sets import number, read_command_set, text
from gantry_dimse.messages import AcceptedContext, MessageService
from gantry_dimse.observer import Peer
from gantry_dimse.operations import LARGEST_IDENTIFIER, Answer, Answers, OperationRequest
from gantry_dimse.pdu import COMMAND_FRAGMENT, HEADER, LAST_FRAGMENT, PDV_HEADER, ProtocolError
from gantry_domain.statuses import CANCEL, PENDING, SUCCESS, UNABLE_TO_PROCESS
from gantry_domain.sub_operations import SubOperations

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ECHO = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"


class Counting:
    """Answers with the numbers up to the identifier's; a blank in it is a pause."""

    def __init__(self) -> None:
        self.requests: list[OperationRequest] = []
        self.closed = 0

    def __call__(self, request: OperationRequest) -> Answers:
        self.requests.append(request)
        return self._answers(request)

    def _answers(self, request: OperationRequest) -> Answers:
        try:
            for n in range(int(request.identifier)):
                if request.cancellation.requested:
                    yield Answer(CANCEL)
                    return
                if n % 10 == 9:
                    yield None
                yield Answer(PENDING, f"{n:04}".encode() * 20)
            yield Answer(SUCCESS)
        finally:
            self.closed += 1


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def sent() -> list[bytes]:
    return []


@pytest.fixture
def service(counting: Counting, sent: list[bytes]) -> MessageService:
    return MessageService(
        peer=Peer("WS1", "GANTRY", "10.0.0.1"),
        contexts={1: AcceptedContext(FIND, IMPLICIT), 3: AcceptedContext(ECHO, IMPLICIT)},
        storage_classes=(),
        storage=None,
        operations={(C_FIND_RQ, FIND): counting},
        peer_max_pdu=64,
        send=sent.append,
    )


def element(number_: int, value: bytes) -> bytes:
    return b"\0\0" + number_.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


def command(field: int, *, data_set: int, message_id: int = 0, about: int = 0) -> memoryview:
    return memoryview(
        element(0x0100, field.to_bytes(2, "little"))
        + (element(0x0110, message_id.to_bytes(2, "little")) if message_id else b"")
        + (element(0x0120, about.to_bytes(2, "little")) if about else b"")
        + element(0x0800, data_set.to_bytes(2, "little"))
    )


def ask(
    service: MessageService, identifier: bytes, *, message_id: int = 7, context: int = 1
) -> None:
    service.command(context, command(C_FIND_RQ, data_set=1, message_id=message_id), last=True)
    service.data(context, memoryview(identifier), last=True)


def cancel(service: MessageService, message_id: int) -> None:
    service.command(1, command(C_CANCEL_RQ, data_set=0x0101, about=message_id), last=True)


def messages(sent: list[bytes]) -> Iterator[tuple[dict[int, bytes], bytes]]:
    """The command and data sets that were sent; every PDU within the limit."""
    stream = b"".join(sent)
    sets: dict[int, bytes] = {0: b"", COMMAND_FRAGMENT: b""}
    while stream:
        _type, length = HEADER.unpack_from(stream)
        assert length <= 64
        size, _context, control = PDV_HEADER.unpack_from(stream, HEADER.size)
        assert size + 4 == length
        fragment = stream[HEADER.size + PDV_HEADER.size : HEADER.size + length]
        stream = stream[HEADER.size + length :]
        kind = control & COMMAND_FRAGMENT
        sets[kind] += fragment
        if not control & LAST_FRAGMENT:
            continue
        elements = read_command_set(sets[COMMAND_FRAGMENT])
        if kind == 0 or number(elements, 0x0800) == 0x0101:
            yield elements, sets[0]
            sets = {0: b"", COMMAND_FRAGMENT: b""}


def statuses(sent: list[bytes]) -> list[int]:
    return [number(elements, 0x0900) for elements, _ in messages(sent)]


def finish(service: MessageService) -> None:
    while service.answering:
        service.go_on()


def test_answers_come_in_order_and_in_pieces_that_the_peer_takes(
    service: MessageService, sent: list[bytes], counting: Counting
) -> None:
    ask(service, b"100")
    assert service.in_message
    assert not sent, "nothing is sent inside of a read"
    finish(service)
    found = list(messages(sent))
    assert [data for _, data in found] == [f"{n:04}".encode() * 20 for n in range(100)] + [b""]
    assert statuses(sent) == [0xFF00] * 100 + [0]
    assert {number(elements, 0x0120) for elements, _ in found} == {7}
    assert {number(elements, 0x0100) for elements, _ in found} == {0x8020}
    assert not service.in_message
    assert counting.closed == 1
    (request,) = counting.requests
    assert (request.SOPClassUID, request.transfer_syntax) == (FIND, IMPLICIT)
    assert request.peer.calling_ae == "WS1"


def test_a_cancel_ends_within_a_few_answers(
    service: MessageService, sent: list[bytes], counting: Counting
) -> None:
    ask(service, b"100000")
    for _ in range(5):
        service.go_on()
    before = len(statuses(sent))
    cancel(service, 7)
    finish(service)
    after = statuses(sent)[before:]
    assert after[-1] == 0xFE00
    assert len(after) <= 2
    assert counting.closed == 1


def test_a_cancel_of_something_else_or_too_late_changes_nothing(
    service: MessageService, sent: list[bytes]
) -> None:
    ask(service, b"50")
    service.go_on()
    cancel(service, 8)
    finish(service)
    cancel(service, 7)
    assert statuses(sent) == [0xFF00] * 50 + [0]
    assert not service.in_message


def test_requests_that_do_not_wait_are_answered_in_turn(
    service: MessageService, sent: list[bytes]
) -> None:
    ask(service, b"2", message_id=1)
    ask(service, b"100000", message_id=2)
    ask(service, b"1", message_id=3)
    cancel(service, 2)
    finish(service)
    answered = [(number(e, 0x0120), number(e, 0x0900)) for e, _ in messages(sent)]
    assert answered == [
        *[(1, 0xFF00)] * 2,
        (1, 0),
        (2, 0xFE00),
        (3, 0xFF00),
        (3, 0),
    ]


def test_too_many_requests_at_once_are_a_breach(service: MessageService) -> None:
    for n in range(MOST_WAITING):
        ask(service, b"1", message_id=n + 1)
    with pytest.raises(ProtocolError):
        ask(service, b"1", message_id=99)


def test_an_echo_is_answered_meanwhile(service: MessageService, sent: list[bytes]) -> None:
    ask(service, b"100")
    service.go_on()
    service.command(3, command(0x0030, data_set=0x0101, message_id=9), last=True)
    finish(service)
    fields = [number(elements, 0x0100) for elements, _ in messages(sent)]
    assert fields.count(0x8030) == 1
    assert fields[-1] == 0x8020


def test_who_is_gone_leaves_nothing_open(service: MessageService, counting: Counting) -> None:
    for n in range(3):
        ask(service, b"100", message_id=n + 1)
    service.go_on()
    service.abort()
    service.close()
    assert not service.answering
    assert counting.closed == 1, "the others never began"


def test_a_release_inside_of_answers_is_a_breach(service: MessageService) -> None:
    ask(service, b"100")
    with pytest.raises(ProtocolError):
        service.release()


def test_an_identifier_that_is_too_long(
    service: MessageService, sent: list[bytes], counting: Counting
) -> None:
    service.command(1, command(C_FIND_RQ, data_set=1, message_id=1), last=True)
    piece = memoryview(bytes(LARGEST_IDENTIFIER // 2))
    for _ in range(3):
        service.data(1, piece, last=False)
    service.data(1, piece, last=True)
    assert not counting.requests
    ((elements, _),) = messages(sent)
    assert number(elements, 0x0900) == UNABLE_TO_PROCESS.code
    assert text(elements, 0x0902) == "the data set is too long"


def test_a_request_without_an_identifier(service: MessageService, sent: list[bytes]) -> None:
    service.command(1, command(C_FIND_RQ, data_set=0x0101, message_id=1), last=True)
    assert statuses(sent) == [UNABLE_TO_PROCESS.code]


def test_the_wrong_class(service: MessageService, sent: list[bytes], counting: Counting) -> None:
    ask(service, b"1", context=3)
    assert statuses(sent) == [0x0122]
    assert not counting.requests


def test_a_failure_names_the_elements(sent: list[bytes]) -> None:
    def refuse(_request: OperationRequest) -> Answers:
        yield Answer(UNABLE_TO_PROCESS, error_comment="StudyDate", offending=(0x00080020,))

    service = MessageService(
        peer=Peer("WS1", "GANTRY", "10.0.0.1"),
        contexts={1: AcceptedContext(FIND, IMPLICIT)},
        storage_classes=(),
        storage=None,
        operations={(C_FIND_RQ, FIND): refuse},
        peer_max_pdu=64,
        send=sent.append,
    )
    ask(service, b"")
    finish(service)
    ((elements, _),) = messages(sent)
    assert elements[0x0901] == b"\x08\x00\x20\x00"
    assert text(elements, 0x0902) == "StudyDate"


def test_an_operation_without_an_end_is_an_error(sent: list[bytes]) -> None:
    def silent(_request: OperationRequest) -> Answers:
        yield None

    service = MessageService(
        peer=Peer("WS1", "GANTRY", "10.0.0.1"),
        contexts={1: AcceptedContext(FIND, IMPLICIT)},
        storage_classes=(),
        storage=None,
        operations={(C_FIND_RQ, FIND): silent},
        peer_max_pdu=64,
        send=sent.append,
    )
    ask(service, b"")
    service.go_on()
    with pytest.raises(RuntimeError):
        service.go_on()


class Getting:
    """Sends two instances to the peer, and tells what it answered."""

    def __init__(self) -> None:
        self.answers: list[int] = []

    def __call__(self, request: OperationRequest) -> Answers:
        yield Answer(PENDING, sub_operations=SubOperations(remaining=2))
        for place in (1, 2):
            (context,) = request.reverse.contexts.accepted
            status = yield from request.reverse.store(
                SOPClassUID=CT, SOPInstanceUID=f"1.2.{place}", context=context, chunks=[b"ab" * 40]
            )
            self.answers.append(status)
        yield Answer(SUCCESS, sub_operations=SubOperations(completed=1, failed=1))


def stored(service: MessageService, status: int, *, about: int) -> None:
    response = (
        element(0x0100, (0x8001).to_bytes(2, "little"))
        + element(0x0120, about.to_bytes(2, "little"))
        + element(0x0800, (0x0101).to_bytes(2, "little"))
        + element(0x0900, status.to_bytes(2, "little"))
    )
    service.command(5, memoryview(response), last=True)


def test_requests_to_the_peer_go_out_between_answers_and_await_its_own(
    sent: list[bytes],
) -> None:
    getting = Getting()
    service = MessageService(
        peer=Peer("WS1", "GANTRY", "10.0.0.1"),
        contexts={
            1: AcceptedContext(GET, IMPLICIT),
            3: AcceptedContext(MR, IMPLICIT, takes_requests=False),
            5: AcceptedContext(CT, IMPLICIT),
        },
        storage_classes=(CT, MR),
        storage=None,
        operations={(C_GET_RQ, GET): getting},
        peer_max_pdu=64,
        send=sent.append,
    )
    service.command(1, command(C_GET_RQ, data_set=1, message_id=7), last=True)
    service.data(1, memoryview(b"-"), last=True)
    for place, status in ((1, 0xA700), (2, 0)):
        sent.clear()
        service.go_on()
        assert not service.awaiting_peer
        found = list(messages(sent))
        request, content = found[-1]
        if place == 1:  # behind the first answer, which tells what remains
            (pending, _), _ = found
            assert number(pending, 0x0900) == 0xFF00
            assert [number(pending, n) for n in (0x1020, 0x1021, 0x1022, 0x1023)] == [2, 0, 0, 0]
        assert (number(request, 0x0100), number(request, 0x0110)) == (1, place)
        assert text(request, 0x1000) == f"1.2.{place}"
        assert content == b"ab" * 40
        service.go_on()
        assert service.awaiting_peer
        stored(service, 0xB000, about=99)  # to what nobody asked
        service.go_on()
        assert service.awaiting_peer
        stored(service, status, about=place)
    sent.clear()
    service.go_on()
    ((final, _),) = messages(sent)
    assert number(final, 0x0900) == 0
    assert 0x1020 not in final
    assert [number(final, n) for n in (0x1021, 0x1022, 0x1023)] == [1, 1, 0]
    assert getting.answers == [0xA700, 0]
    assert not service.answering
    assert not service.awaiting_peer

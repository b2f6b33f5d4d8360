"""A peer that does anything: what is read of it is right, or a named breach; nothing else happens.

The quick run is part of the suite; `./gantry test --long tests/unit/dimse/test_fuzz.py` runs for
minutes.
"""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gantry_dimse.command import MalformedCommand, decode_command
from gantry_dimse.messages import AcceptedContext, MessageService
from gantry_dimse.observer import Peer
from gantry_dimse.pdu import HEADER, P_DATA_TF, PDV_HEADER, ProtocolError
from gantry_dimse.reader import PDUReader
from gantry_dimse.request import UnparseableRequest, parse_request
from gantry_dimse.storage import StoreOutcome, StoreRequest
from gantry_testkit.door import association_request, store_request

CT = "1.2.840.10008.5.1.4.1.1.2"
ECHO = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
CONTEXTS = {1: AcceptedContext(CT, EXPLICIT), 3: AcceptedContext(ECHO, EXPLICIT)}

COMMAND, LAST = 1, 2
BUFFER = 4096


class Kept:
    """A `StorageHandler` that sees to it that each object is ended once."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.open = 0
        self.begun = 0

    def begin(self, request: StoreRequest) -> "Incoming":
        self.open += 1
        self.begun += 1
        return Incoming(self)


class Incoming:
    def __init__(self, kept: Kept) -> None:
        self.kept, self.content, self.ended = kept, bytearray(), False

    def write(self, fragment: memoryview) -> None:
        assert not self.ended
        self.content += fragment

    def finish(self) -> StoreOutcome:
        self.end()
        self.kept.stored.append(bytes(self.content))
        return StoreOutcome()

    def abort(self) -> None:
        self.end()

    def end(self) -> None:
        assert not self.ended
        self.ended = True
        self.kept.open -= 1


def pdv(control: int, fragment: bytes, context_id: int = 1) -> bytes:
    return PDV_HEADER.pack(len(fragment) + 2, context_id, control) + fragment


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return HEADER.pack(P_DATA_TF, len(body)) + body


def cut(content: bytes, places: list[int]) -> list[bytes]:
    """The content in pieces; places beyond it cut nothing."""
    found = sorted({0, len(content), *(place % (len(content) + 1) for place in places)})
    return [content[a:b] for a, b in pairwise(found)] or [b""]


places = st.lists(st.integers(0, 100_000), max_size=4)
contents = st.binary(max_size=6000)


class AnyPeer(RuleBasedStateMachine):
    """Sends good and bad messages in pieces of any size, as the loop of an association reads."""

    @initialize()
    def first_association(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.kept = Kept()
        self.sent: list[bytes] = []
        self.messages = MessageService(
            peer=Peer("RAW", "GANTRY", "127.0.0.1"),
            contexts=CONTEXTS,
            storage_classes={CT},
            storage=self.kept,
            peer_max_pdu=512,
            send=self.sent.append,
        )
        self.reader = PDUReader(self.messages)
        self.view = memoryview(bytearray(BUFFER))
        self.unread = 0
        self.expected: list[bytes] = []
        self.good = True
        self.over = False

    def feed(self, content: bytes) -> None:
        """As `converse` does."""
        while content and not self.over:
            piece = content[: BUFFER - self.unread]
            assert piece, "the reader does not get on"
            content = content[len(piece) :]
            end = self.unread + len(piece)
            self.view[self.unread : end] = piece
            breach: ProtocolError | None = None
            try:
                used = self.reader.feed(self.view[:end])
            except ProtocolError as error:
                breach = error
            if breach is not None:
                assert breach.reason in (1, 2, 6)
                assert not self.good, f"a good peer is told: {breach}"
                self.over = True
                return
            self.over = self.messages.released or self.messages.aborted
            self.unread = end - used
            assert self.unread < 12 or self.over
            self.view[: self.unread] = bytes(self.view[used:end])

    def deliver(self, content: bytes, where: list[int]) -> None:
        for piece in cut(content, where):
            self.feed(piece)

    @precondition(lambda self: not self.over)
    @rule(content=contents, fragments=places, of_command=places, where=places, pdus=st.booleans())
    def a_good_object(
        self,
        content: bytes,
        fragments: list[int],
        of_command: list[int],
        where: list[int],
        pdus: bool,
    ) -> None:
        *first, last = cut(store_request(), of_command)
        pdvs = [pdv(COMMAND, piece) for piece in first] + [pdv(COMMAND | LAST, last)]
        *first, last = cut(content, fragments)
        pdvs += [pdv(0, piece) for piece in first] + [pdv(LAST, last)]
        answered = len(self.sent)
        self.deliver(b"".join(map(p_data, pdvs)) if pdus else p_data(*pdvs), where)
        if self.good:
            self.expected.append(content)
            assert len(self.sent) == answered + 1

    @precondition(lambda self: not self.over)
    @rule(where=places)
    def an_echo(self, where: list[int]) -> None:
        answered = len(self.sent)
        self.deliver(p_data(pdv(3, store_request(field=0x30, data_set=0x0101), 3)), where)
        assert not self.good or len(self.sent) == answered + 1

    @precondition(lambda self: not self.over)
    @rule(
        content=contents,
        control=st.integers(0, 255),
        context_id=st.integers(0, 255),
        where=places,
    )
    def any_fragment(self, content: bytes, control: int, context_id: int, where: list[int]) -> None:
        self.good = False
        self.deliver(p_data(pdv(control, content, context_id)), where)

    @precondition(lambda self: not self.over)
    @rule(
        field=st.integers(0, 0xFFFF),
        data_set=st.integers(0, 0xFFFF),
        context_id=st.sampled_from([1, 3]),
    )
    def any_command(self, field: int, data_set: int, context_id: int) -> None:
        self.good = False
        command = store_request(field=field, data_set=data_set)
        self.deliver(p_data(pdv(COMMAND | LAST, command, context_id)), [])

    @precondition(lambda self: not self.over)
    @rule(place=st.integers(0, 500), value=st.integers(0, 255), where=places)
    def a_broken_object(self, place: int, value: int, where: list[int]) -> None:
        self.good = False
        stream = bytearray(p_data(pdv(3, store_request()), pdv(0, b"half"), pdv(2, b"whole")))
        stream[place % len(stream)] = value
        self.deliver(bytes(stream), where)

    @precondition(lambda self: not self.over)
    @rule(
        kind=st.integers(0, 255),
        length=st.integers(0, 2**32 - 1),
        content=st.binary(max_size=200),
    )
    def any_pdu(self, kind: int, length: int, content: bytes) -> None:
        self.good = False
        self.deliver(HEADER.pack(kind, length) + content, [])

    @precondition(lambda self: not self.over)
    @rule(content=st.binary(max_size=3000), where=places)
    def garbage(self, content: bytes, where: list[int]) -> None:
        self.good = False
        self.deliver(content, where)

    @precondition(lambda self: not self.over)
    @rule(kind=st.sampled_from([5, 7]), where=places)
    def a_farewell(self, kind: int, where: list[int]) -> None:
        self.deliver(HEADER.pack(kind, 4) + bytes(4), where)
        assert not self.good or self.over

    @precondition(lambda self: self.over)
    @rule()
    def another_association(self) -> None:
        self.teardown()
        self.begin()

    @invariant()
    def what_was_sent_well_is_stored(self) -> None:
        if self.good:
            assert self.kept.stored == self.expected
        else:
            assert self.kept.stored[: len(self.expected)] == self.expected
        assert 0 <= self.kept.open <= 1

    def teardown(self) -> None:
        self.messages.close()
        assert self.kept.open == 0


_HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def test_any_peer() -> None:
    run_state_machine_as_test(
        AnyPeer,
        settings=settings(
            max_examples=60, stateful_step_count=15, deadline=None, suppress_health_check=_HEALTH
        ),
    )


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_any_peer_for_long() -> None:
    run_state_machine_as_test(
        AnyPeer,
        settings=settings(
            max_examples=10_000,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=_HEALTH,
        ),
    )


mutations = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from("xid"), st.binary(min_size=1, max_size=6)),
    max_size=6,
)


def mutated(content: bytes, changes: list[tuple[int, str, bytes]]) -> bytes:
    """The content with bytes replaced (x), inserted (i) or left out (d)."""
    for place, how, piece in changes:
        at = place % (len(content) + 1)
        rest = content[at + (len(piece) if how in "xd" else 0) :]
        content = content[:at] + (b"" if how == "d" else piece) + rest
    return content


@given(mutations)
def test_any_request(changes: list[tuple[int, str, bytes]]) -> None:
    try:
        request = parse_request(mutated(association_request(), changes))
    except UnparseableRequest:
        return
    assert len(request.called_ae) <= 16
    assert len(request.calling_ae) <= 16
    # What is passed on to pynetdicom is whole.
    assert HEADER.unpack(request.encoded[:6])[1] == len(request.encoded) - 6


@given(mutations)
def test_any_command(changes: list[tuple[int, str, bytes]]) -> None:
    try:
        command = decode_command(mutated(store_request(), changes))
    except MalformedCommand:
        return
    assert 0 <= command.CommandField <= 0xFFFF
    assert 0 <= command.MessageID <= 0xFFFF

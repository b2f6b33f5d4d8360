"""A peer that does anything: what is read of it is right, or a named breach; nothing else happens.

The quick run is part of the suite; `./gantry test --long tests/unit/dimse/test_fuzz.py` runs for
minutes, and `tests/fuzz` as long as one likes, led by the coverage of the code.
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
from gantry_dimse.messages import AcceptedContext
from gantry_dimse.pdu import HEADER, P_DATA_TF, PDV_HEADER
from gantry_dimse.request import UnparseableRequest, parse_request
from gantry_testkit.door import association_request, store_request
from gantry_testkit.fed_association import FedAssociation

CT = "1.2.840.10008.5.1.4.1.1.2"
ECHO = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
CONTEXTS = {1: AcceptedContext(CT, EXPLICIT), 3: AcceptedContext(ECHO, EXPLICIT)}

COMMAND, LAST = 1, 2


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
        self.association = FedAssociation(CONTEXTS, storage_class=CT)
        self.expected: list[bytes] = []
        self.good = True

    def deliver(self, content: bytes, where: list[int]) -> None:
        for piece in cut(content, where):
            breach = self.association.feed(piece)
            assert breach is None or not self.good, f"a good peer is told: {breach}"

    @precondition(lambda self: not self.association.over)
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
        answered = len(self.association.sent)
        self.deliver(b"".join(map(p_data, pdvs)) if pdus else p_data(*pdvs), where)
        if self.good:
            self.expected.append(content)
            assert len(self.association.sent) == answered + 1

    @precondition(lambda self: not self.association.over)
    @rule(where=places)
    def an_echo(self, where: list[int]) -> None:
        answered = len(self.association.sent)
        self.deliver(p_data(pdv(3, store_request(field=0x30, data_set=0x0101), 3)), where)
        assert not self.good or len(self.association.sent) == answered + 1

    @precondition(lambda self: not self.association.over)
    @rule(
        content=contents,
        control=st.integers(0, 255),
        context_id=st.integers(0, 255),
        where=places,
    )
    def any_fragment(self, content: bytes, control: int, context_id: int, where: list[int]) -> None:
        self.good = False
        self.deliver(p_data(pdv(control, content, context_id)), where)

    @precondition(lambda self: not self.association.over)
    @rule(
        field=st.integers(0, 0xFFFF),
        data_set=st.integers(0, 0xFFFF),
        context_id=st.sampled_from([1, 3]),
    )
    def any_command(self, field: int, data_set: int, context_id: int) -> None:
        self.good = False
        command = store_request(field=field, data_set=data_set)
        self.deliver(p_data(pdv(COMMAND | LAST, command, context_id)), [])

    @precondition(lambda self: not self.association.over)
    @rule(place=st.integers(0, 500), value=st.integers(0, 255), where=places)
    def a_broken_object(self, place: int, value: int, where: list[int]) -> None:
        self.good = False
        stream = bytearray(p_data(pdv(3, store_request()), pdv(0, b"half"), pdv(2, b"whole")))
        stream[place % len(stream)] = value
        self.deliver(bytes(stream), where)

    @precondition(lambda self: not self.association.over)
    @rule(
        kind=st.integers(0, 255),
        length=st.integers(0, 2**32 - 1),
        content=st.binary(max_size=200),
    )
    def any_pdu(self, kind: int, length: int, content: bytes) -> None:
        self.good = False
        self.deliver(HEADER.pack(kind, length) + content, [])

    @precondition(lambda self: not self.association.over)
    @rule(content=st.binary(max_size=3000), where=places)
    def garbage(self, content: bytes, where: list[int]) -> None:
        self.good = False
        self.deliver(content, where)

    @precondition(lambda self: not self.association.over)
    @rule(kind=st.sampled_from([5, 7]), where=places)
    def a_farewell(self, kind: int, where: list[int]) -> None:
        self.deliver(HEADER.pack(kind, 4) + bytes(4), where)
        assert not self.good or self.association.over

    @precondition(lambda self: self.association.over)
    @rule()
    def another_association(self) -> None:
        self.teardown()
        self.begin()

    @invariant()
    def what_was_sent_well_is_stored(self) -> None:
        if self.good:
            assert self.association.kept.stored == self.expected
        else:
            assert self.association.kept.stored[: len(self.expected)] == self.expected
        assert 0 <= self.association.kept.open <= 1

    def teardown(self) -> None:
        self.association.close()


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

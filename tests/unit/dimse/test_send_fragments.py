"""What goes over the wire: contexts that fit an association, PDUs that fit the peer."""

from struct import unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_dimse import command_sets as cs
from gantry_dimse.message_pdus import fragment_size, fragments, p_data
from gantry_dimse.proposals import (
    NegotiatedContext,
    NegotiatedContexts,
    ProposedContext,
    plan_contexts,
)
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

JPEG = "1.2.840.10008.1.2.4.70"
CT = "1.2.840.10008.5.1.4.1.1.2"


def test_each_stored_syntax_has_a_context_and_the_class_a_fallback() -> None:
    assert plan_contexts([(CT, JPEG), (CT, EXPLICIT_VR_LITTLE_ENDIAN), (CT, JPEG)]) == [
        (
            ProposedContext(CT, (JPEG,)),
            ProposedContext(CT, (EXPLICIT_VR_LITTLE_ENDIAN,)),
            ProposedContext(CT, (IMPLICIT_VR_LITTLE_ENDIAN,)),
        )
    ]
    assert plan_contexts([(CT, JPEG)]) == [
        (
            ProposedContext(CT, (JPEG,)),
            ProposedContext(CT, (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)),
        )
    ]


uids = st.integers(0, 200).map(lambda number: f"1.2.{number}")


@given(st.lists(st.tuples(uids, uids), max_size=400))
def test_every_instance_has_its_context_and_no_association_more_than_128(
    items: list[tuple[str, str]],
) -> None:
    groups = plan_contexts(items)
    assert all(1 <= len(group) <= 128 for group in groups)
    single = {(c.SOPClassUID, c.transfer_syntaxes[0]) for group in groups for c in group}
    assert set(items) <= single
    # All contexts of one class are in one association, so that the fallback is at hand.
    homes = {}
    for number, group in enumerate(groups):
        for context in group:
            assert homes.setdefault(context.SOPClassUID, number) == number


def test_the_fallback_prefers_explicit_vr() -> None:
    implicit = NegotiatedContext(3, CT, IMPLICIT_VR_LITTLE_ENDIAN)
    explicit = NegotiatedContext(5, CT, EXPLICIT_VR_LITTLE_ENDIAN)
    assert NegotiatedContexts([implicit, explicit]).fallback(CT) is explicit
    assert NegotiatedContexts([implicit]).fallback(CT) is implicit
    assert NegotiatedContexts([NegotiatedContext(1, CT, JPEG)]).fallback(CT) is None
    assert NegotiatedContexts([implicit]).fallback("1.2.3") is None


@pytest.mark.parametrize(
    ("maximum", "fragment"),
    [(0, 131066), (1 << 30, 131066), (16384, 16378), (4097, 4090), (8, 2), (9, 2)],
)
def test_fragments_are_even_and_fit_the_peer(maximum: int, fragment: int) -> None:
    assert fragment_size(maximum) == fragment


def test_a_peer_that_takes_nothing_is_named() -> None:
    with pytest.raises(ValueError, match="maximum PDU length of 7"):
        fragment_size(7)


@given(st.lists(st.binary(max_size=40), max_size=40), st.integers(1, 50).map(lambda n: 2 * n))
def test_however_the_chunks_are_cut_the_same_bytes_arrive(chunks: list[bytes], size: int) -> None:
    cut = list(fragments(chunks, size))
    sent = b"".join(chunks)
    arrived = b"".join(b"".join(buffers) for buffers, _, _ in cut)
    assert arrived == (sent + b"\0" if len(sent) % 2 else sent)
    assert [last for _, _, last in cut] == [False] * (len(cut) - 1) + [True]
    # The last is only empty where all is.
    assert all(length == size for _, length, last in cut if not last)
    assert all(sum(map(len, buffers)) == length for buffers, length, _ in cut)
    assert not cut[-1][1] % 2
    assert cut[-1][1] or not sent


def test_a_pdu_says_its_lengths() -> None:
    buffers, size = p_data([b"abcd"], 4, 5, 0, last=True)
    encoded = b"".join(buffers)
    assert unpack_from(">BBLLBB", encoded) == (4, 0, 10, 6, 5, 2)
    assert encoded[12:] == b"abcd"
    assert size == len(encoded)


def test_command_sets_survive_the_wire() -> None:
    elements = {
        cs.COMMAND_FIELD: cs.us(1),
        cs.AFFECTED_SOP_CLASS_UID: cs.ui("1.2.3"),
        cs.MOVE_ORIGINATOR_AE: cs.ae("ODD"),
    }
    encoded = cs.encode_command_set(elements)
    read = cs.read_command_set(encoded)
    assert int.from_bytes(read.pop(cs.GROUP_LENGTH), "little") == len(encoded) - 12
    assert read == elements
    assert cs.text(read, cs.AFFECTED_SOP_CLASS_UID) == "1.2.3"
    assert cs.text(read, cs.MOVE_ORIGINATOR_AE) == "ODD"


@given(st.binary(max_size=200))
def test_garbage_is_read_or_named(data: bytes) -> None:
    try:
        elements = cs.read_command_set(data)
    except ValueError:
        return
    assert sum(8 + len(value) for value in elements.values()) <= max(len(data), 0)

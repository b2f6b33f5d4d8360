"""PDUs and PDVs come apart the same wherever the stream is cut, and garbage is named."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_dimse.pdu import (
    A_ABORT,
    A_ASSOCIATE_RQ,
    A_RELEASE_RQ,
    COMMAND_FRAGMENT,
    HEADER,
    INVALID_PDU_PARAMETER,
    LAST_FRAGMENT,
    P_DATA_TF,
    PDV_HEADER,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    ProtocolError,
    encode_command,
)
from gantry_dimse.reader import PDUReader


@dataclass
class Recorder:
    """What the reader reports, pieces joined: (kind, context id, bytes, ended)."""

    events: list[tuple[str, int, bytes, bool]] = field(default_factory=list)
    pieces: int = 0

    def _add(self, kind: str, context_id: int, piece: memoryview, last: bool) -> None:
        self.pieces += 1
        if self.events and self.events[-1][:2] == (kind, context_id) and not self.events[-1][3]:
            piece = memoryview(self.events.pop()[2] + bytes(piece))
        self.events.append((kind, context_id, bytes(piece), last))

    def command(self, context_id: int, piece: memoryview, *, last: bool) -> None:
        self._add("command", context_id, piece, last)

    def data(self, context_id: int, piece: memoryview, *, last: bool) -> None:
        self._add("data", context_id, piece, last)

    def release(self) -> None:
        self.events.append(("release", 0, b"", True))

    def abort(self) -> None:
        self.events.append(("abort", 0, b"", True))


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    return PDV_HEADER.pack(len(fragment) + 2, context_id, control) + fragment


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return HEADER.pack(P_DATA_TF, len(body)) + body


def read(stream: bytes, cuts: list[int]) -> Recorder:
    """Feed the stream in pieces cut at these places, as a connection would."""
    recorder = Recorder()
    reader = PDUReader(recorder)
    kept = b""
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for begin, end in itertools.pairwise(places):
        piece = kept + stream[begin:end]
        used = reader.feed(memoryview(piece))
        kept = piece[used:]
        assert len(kept) < 12
    assert not kept or reader.ended
    return recorder


RELEASE = HEADER.pack(A_RELEASE_RQ, 4) + bytes(4)
STREAM = b"".join(
    (
        p_data(pdv(1, COMMAND_FRAGMENT | LAST_FRAGMENT, b"a command")),
        # Two messages in one PDU, the end of one and the beginning of another.
        p_data(
            pdv(1, 0, b"data set " * 30),
            pdv(1, LAST_FRAGMENT, b""),
            pdv(3, COMMAND_FRAGMENT, b"half a "),
        ),
        p_data(pdv(3, COMMAND_FRAGMENT | LAST_FRAGMENT, b"command")),
        p_data(*(pdv(3, 0, bytes([n])) for n in range(50))),
        p_data(pdv(3, LAST_FRAGMENT, b"end")),
        RELEASE,
    )
)
EVENTS = [
    ("command", 1, b"a command", True),
    ("data", 1, b"data set " * 30, True),
    ("command", 3, b"half a command", True),
    ("data", 3, bytes(range(50)) + b"end", True),
    ("release", 0, b"", True),
]


def test_the_stream_in_one_piece() -> None:
    assert read(STREAM, []).events == EVENTS


def test_the_stream_byte_by_byte() -> None:
    assert read(STREAM, list(range(len(STREAM)))).events == EVENTS


def test_the_stream_cut_at_every_single_place() -> None:
    for cut in range(len(STREAM)):
        assert read(STREAM, [cut]).events == EVENTS, cut


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_the_stream_cut_anywhere(cuts: list[int]) -> None:
    assert read(STREAM, cuts).events == EVENTS


def test_large_fragments_are_passed_on_as_they_come() -> None:
    recorder = Recorder()
    reader = PDUReader(recorder)
    # Declared: 4 GiB less a little. Nothing waits for it and nothing is allocated for it.
    header = HEADER.pack(P_DATA_TF, 0xFFFFFFF0) + PDV_HEADER.pack(0xFFFFFFF0 - 4, 1, 0)
    assert reader.feed(memoryview(header)) == len(header)
    for _ in range(10):
        assert reader.feed(memoryview(bytes(1000))) == 1000
    assert recorder.pieces == 10
    assert reader.fragment_left == 0xFFFFFFF0 - 6 - 10_000


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (HEADER.pack(0x00, 4) + bytes(4), UNRECOGNIZED_PDU),
        (HEADER.pack(0x08, 4) + bytes(4), UNRECOGNIZED_PDU),
        (b"GET / HTTP/1.1\r\n", UNRECOGNIZED_PDU),
        (HEADER.pack(A_ASSOCIATE_RQ, 200), UNEXPECTED_PDU),
        (HEADER.pack(A_RELEASE_RQ, 5) + bytes(5), INVALID_PDU_PARAMETER),
        (HEADER.pack(A_ABORT, 0xFFFFFFFF), INVALID_PDU_PARAMETER),
        (HEADER.pack(P_DATA_TF, 0), INVALID_PDU_PARAMETER),
        (HEADER.pack(P_DATA_TF, 5) + bytes(5), INVALID_PDU_PARAMETER),
        # A PDV that is shorter than its own header, and ones longer than their PDU.
        (HEADER.pack(P_DATA_TF, 6) + PDV_HEADER.pack(1, 1, 3), INVALID_PDU_PARAMETER),
        (HEADER.pack(P_DATA_TF, 6) + PDV_HEADER.pack(3, 1, 3), INVALID_PDU_PARAMETER),
        (HEADER.pack(P_DATA_TF, 60) + PDV_HEADER.pack(0xFFFFFFFF, 1, 3), INVALID_PDU_PARAMETER),
        # A rest of the PDU in which no PDV can be.
        (HEADER.pack(P_DATA_TF, 9) + pdv(1, 3, b"") + bytes(3), INVALID_PDU_PARAMETER),
    ],
)
def test_what_breaks_the_protocol_is_named(stream: bytes, reason: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        PDUReader(Recorder()).feed(memoryview(stream))
    assert caught.value.reason == reason


def test_nothing_is_read_after_the_end() -> None:
    recorder = Recorder()
    reader = PDUReader(recorder)
    abort = HEADER.pack(A_ABORT, 4) + bytes(4)
    assert reader.feed(memoryview(abort + STREAM)) == len(abort)
    assert reader.feed(memoryview(STREAM)) == 0
    assert recorder.events == [("abort", 0, b"", True)]


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_garbage_raises_nothing_else(stream: bytes, cuts: list[int]) -> None:
    recorder = Recorder()
    reader = PDUReader(recorder)
    try:
        kept = b""
        places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        for begin, end in itertools.pairwise(places):
            piece = kept + stream[begin:end]
            kept = piece[reader.feed(memoryview(piece)) :]
    except ProtocolError:
        pass


@given(st.binary(min_size=1, max_size=600), st.integers(0, 300))
def test_a_command_is_never_sent_in_longer_pdus_than_the_peer_takes(
    command: bytes, peer_max_pdu: int
) -> None:
    encoded = encode_command(5, command, peer_max_pdu)
    assert read(encoded, []).events == [("command", 5, command, True)]
    offset = 0
    while offset < len(encoded):
        _pdu_type, length = HEADER.unpack_from(encoded, offset)
        if peer_max_pdu >= 32:
            assert length <= peer_max_pdu
        offset += HEADER.size + length

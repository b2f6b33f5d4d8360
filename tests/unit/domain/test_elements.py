"""The walk over a data set: in any encoding, through any window, whatever comes."""

import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement

from gantry_domain.elements import (
    ELEMENT,
    FRAGMENT,
    FRAGMENTS_START,
    ITEM_END,
    ITEM_START,
    SEQUENCE_END,
    SEQUENCE_START,
    UNDEFINED,
    Walk,
    walk_dataset,
)
from gantry_domain.errors import UnreadableObject
from gantry_domain.sources import WINDOW, Inflated, Window, fetch_from
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

ENCODINGS = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
STARTS = (SEQUENCE_START, ITEM_START, FRAGMENTS_START)
ENDS = (ITEM_END, SEQUENCE_END)

# tag -> VR of a few public elements, as the data dictionary has them.
LEAVES = {
    0x00080005: "CS",
    0x00080060: "CS",
    0x00081030: "LO",
    0x00104000: "LT",
    0x00280010: "US",
    0x0040A160: "UT",
}
SEQUENCES = (0x00081140, 0x00400275, 0x0040A730)


def leaf_values(vr):
    return st.binary(max_size=20).map(lambda value: value + b" " * (len(value) % 2))


def datasets(depth=3):
    leaf = st.one_of([st.tuples(st.just(tag), leaf_values(vr)) for tag, vr in LEAVES.items()])
    elements = leaf
    if depth:
        items = st.lists(datasets(depth - 1), max_size=3)
        elements = leaf | st.tuples(
            st.sampled_from(SEQUENCES), st.tuples(items, st.booleans(), st.booleans())
        )
    unique = st.lists(elements, max_size=4, unique_by=lambda element: element[0])
    return unique.map(lambda found: dict(sorted(found)))


def encode(ds, transfer_syntax):
    """An encoder of its own, recursive and simple: {tag: bytes | (items, undefined, undefined)}."""
    explicit = transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
    order = ">" if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else "<"

    def head(tag, vr, length):
        start = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
        if not explicit:
            return start + struct.pack(f"{order}L", length)
        if vr in ("SQ", "UT"):
            return start + vr.encode() + struct.pack(f"{order}HL", 0, length)
        return start + vr.encode() + struct.pack(f"{order}H", length)

    def delimiter(tag, length=0):
        return struct.pack(f"{order}HHL", tag >> 16, tag & 0xFFFF, length)

    encoded = b""
    for tag, value in ds.items():
        if isinstance(value, bytes):
            encoded += head(tag, LEAVES[tag], len(value)) + value
            continue
        items, undefined_sequence, undefined_items = value
        content = b""
        for item in items:
            inner = encode(item, transfer_syntax)
            if undefined_items:
                content += delimiter(0xFFFEE000, UNDEFINED) + inner + delimiter(0xFFFEE00D)
            else:
                content += delimiter(0xFFFEE000, len(inner)) + inner
        if undefined_sequence:
            encoded += head(tag, "SQ", UNDEFINED) + content + delimiter(0xFFFEE0DD)
        else:
            encoded += head(tag, "SQ", len(content)) + content
    return encoded


def decode(walk):
    """What the walk tells, as the nested dictionaries that `datasets` draws."""
    root = {}
    stack = [root]
    for kind, tag, _, offset, length in walk:
        if kind == ELEMENT:
            stack[-1][tag] = walk.window.read(offset, length)
        elif kind == SEQUENCE_START:
            stack[-1][tag] = items = []
            stack.append(items)
        elif kind == ITEM_START:
            item = {}
            stack[-1].append(item)
            stack.append(item)
        else:
            stack.pop()
    assert stack == [root]
    return root


def plain(ds):
    return {
        tag: value if isinstance(value, bytes) else [plain(item) for item in value[0]]
        for tag, value in ds.items()
    }


def walk_over(data, transfer_syntax, window=WINDOW):
    explicit = transfer_syntax != IMPLICIT_VR_LITTLE_ENDIAN
    little = transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
    source = Window(fetch_from(data), size=window)
    return Walk(source, start=0, end=len(data), explicit=explicit, little=little)


@given(datasets(), st.sampled_from(ENCODINGS), st.sampled_from([16, 64, 4096]))
def test_any_data_set_in_any_encoding_through_any_window(ds, transfer_syntax, window):
    ds = {0x00080005: b"ISO_IR 192", **ds}
    walk = walk_over(encode(ds, transfer_syntax), transfer_syntax, window)
    assert decode(walk) == plain(ds)
    assert not walk.truncated
    assert not walk.mismatch
    assert walk.broken is None


@given(datasets())
def test_deflated(ds):
    encoded = encode(ds, EXPLICIT_VR_LITTLE_ENDIAN)
    deflater = zlib.compressobj(wbits=-15)
    stored = b"head" + deflater.compress(encoded) + deflater.flush()
    walk = walk_dataset(
        fetch_from(stored),
        size=len(stored),
        dataset_offset=4,
        transfer_syntax=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    )
    assert decode(walk) == plain(ds)
    assert not walk.truncated


@given(datasets(), st.sampled_from(ENCODINGS), st.data())
def test_cut_at_any_byte(ds, transfer_syntax, data):
    encoded = encode(ds, transfer_syntax)
    whole = list(walk_over(encoded, transfer_syntax))
    cut = data.draw(st.integers(0, len(encoded)))
    events = list(walk_over(encoded[:cut], transfer_syntax))
    told = [event for event in events if event[0] == ELEMENT]
    assert told == [event for event in whole if event[0] == ELEMENT][: len(told)]
    balanced(events)


def balanced(events):
    depth = 0
    for kind, *_ in events:
        depth += (kind in STARTS) - (kind in ENDS)
        assert depth >= 0
    assert depth == 0


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400), st.sampled_from([*ENCODINGS, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]))
@example(b"\x08\x00\x05\x00OB\0\0\xff\xff\xff\xff", EXPLICIT_VR_LITTLE_ENDIAN)
def test_any_bytes(data, transfer_syntax):
    walk = walk_dataset(
        fetch_from(data), size=len(data), dataset_offset=0, transfer_syntax=transfer_syntax
    )
    try:
        balanced(list(walk))
    except UnreadableObject:
        return


def test_agrees_with_pydicom(sample):
    ds = sample.read()
    walk = walk_dataset(
        fetch_from(sample.data),
        size=len(sample.data),
        dataset_offset=sample.dataset_offset,
        transfer_syntax=sample.meta.TransferSyntaxUID,
    )
    seen = {}
    depth = 0
    for kind, tag, vr, offset, length in walk:
        if not depth and kind in (ELEMENT, SEQUENCE_START, FRAGMENTS_START):
            seen[tag] = (vr, offset, length)
        depth += (kind in STARTS) - (kind in ENDS)
    lost = set(ds.keys()) - set(seen)
    if walk.truncated:
        assert len(lost) <= 1  # pydicom keeps the value that is cut
    else:
        assert not lost
        assert set(seen) <= set(ds.keys())
    if sample.meta.TransferSyntaxUID in DEFLATED:
        return
    for tag, (vr, offset, length) in seen.items():
        element = ds.get_item(tag) if tag in ds else None
        if isinstance(element, RawDataElement):
            assert (element.value_tell, element.length) == (offset, length)
            assert element.VR in (None, "UN", vr) or length == UNDEFINED


def nested(levels, tag=0x00400275):
    """`levels` sequences within each other, Explicit VR LE, undefined lengths, never closed."""
    one = struct.pack(
        "<HH2sHLHHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, UNDEFINED, 0xFFFE, 0xE000, UNDEFINED
    )
    return b"\x08\x00\x05\x00CS\x00\x00" + one * levels


def test_hundred_thousand_nested_sequences():
    walk = walk_over(nested(100_000), EXPLICIT_VR_LITTLE_ENDIAN)
    began = time.process_time()
    with pytest.raises(UnreadableObject) as caught:
        list(walk)
    assert caught.value.reason == "too_deeply_nested"
    assert time.process_time() - began < 1
    balanced(walk_over(nested(64), EXPLICIT_VR_LITTLE_ENDIAN))


@pytest.mark.parametrize("vr", [b"OB", b"UT", b"UN", b"SQ"])
def test_declared_sizes_are_not_believed(vr):
    data = nested(0) + struct.pack("<HH2sHL", 0x0042, 0x0011, vr, 0, 3_000_000_000) + bytes(20)
    asked = []

    def fetch(offset, length):
        asked.append(length)
        return data[offset : offset + length]

    tracemalloc.start()
    walk = walk_dataset(
        fetch, size=len(data), dataset_offset=0, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN
    )
    balanced(list(walk))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert walk.truncated
    assert max(asked) <= WINDOW
    assert peak < 1_000_000


def test_large_values_are_passed_over():
    value = bytes(1_000_000)
    data = nested(0) + struct.pack("<HH2sHL", 0x0042, 0x0011, b"OB", 0, len(value)) + value
    data += struct.pack("<HH2sH", 0x0042, 0x0012, b"LO", 2) + b"ab"
    read = 0

    def fetch(offset, length):
        nonlocal read
        found = data[offset : offset + length]
        read += len(found)
        return found

    walk = walk_dataset(
        fetch, size=len(data), dataset_offset=0, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN
    )
    tags = [tag for kind, tag, *_ in walk if kind == ELEMENT]
    assert tags == [0x00080005, 0x00420011, 0x00420012]
    assert read < 3 * WINDOW


def implicit(tag, value, length=None):
    length = len(value) if length is None else length
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length) + value


def test_unknown_of_undefined_length_is_implicit_inside():
    inner = implicit(0xFFFEE000, implicit(0x00280010, b"\x01\x02"))
    end = implicit(0xFFFEE0DD, b"")
    for order, transfer_syntax in (("<", ENCODINGS[1]), (">", ENCODINGS[2])):
        head = struct.pack(f"{order}HH2sHL", 0x0009, 0x1001, b"UN", 0, UNDEFINED)
        after = struct.pack(f"{order}HH2sH", 0x0010, 0x0010, b"PN", 2) + b"A "
        first = struct.pack(f"{order}HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
        walk = walk_over(first + head + inner + end + after, transfer_syntax)
        assert decode(walk) == {
            0x00080060: b"CT",
            0x00091001: [{0x00280010: b"\x01\x02"}],
            0x00100010: b"A ",
        }


def test_group_length_padding_and_odd_lengths():
    data = implicit(0x00080000, b"\x0c\0\0\0") + implicit(0x00080060, b"CT ") + bytes(64)
    walk = walk_over(data, IMPLICIT_VR_LITTLE_ENDIAN)
    assert decode(walk) == {0x00080000: b"\x0c\0\0\0", 0x00080060: b"CT "}
    assert not walk.truncated
    assert walk.broken is None


@pytest.mark.parametrize("declared", ENCODINGS)
@pytest.mark.parametrize("actual", ENCODINGS)
def test_transfer_syntax_that_lies(declared, actual):
    ds = {0x00080060: b"CT", 0x00081030: b"head", 0x00280010: b"\0\1"}
    walk = walk_over(encode(ds, actual), declared)
    assert decode(walk) == ds
    assert walk.mismatch == (declared != actual)


def test_unknown_value_representations():
    first = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
    last = struct.pack("<HH2sH", 0x0010, 0x0010, b"PN", 2) + b"A "
    short = struct.pack("<HH2sH", 0x0009, 0x0010, b"ZZ", 2) + b"xy"
    long = struct.pack("<HH2sHL", 0x0009, 0x0010, b"ZZ", 0, 2) + b"xy"
    none = implicit(0x00090010, b"xy")
    dashes = struct.pack("<HH2sH", 0x0009, 0x0010, b"--", 2) + b"xy"
    for odd in (short, long, none, dashes):
        walk = walk_over(first + odd + last, EXPLICIT_VR_LITTLE_ENDIAN)
        assert decode(walk) == {0x00080060: b"CT", 0x00090010: b"xy", 0x00100010: b"A "}


def test_fragments():
    head = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, UNDEFINED)
    data = nested(0) + head + implicit(0xFFFEE000, b"") + implicit(0xFFFEE000, b"abcd")
    data += implicit(0xFFFEE0DD, b"")
    events = list(walk_over(data, EXPLICIT_VR_LITTLE_ENDIAN))
    balanced(events)
    fragments = [event[3:] for event in events if event[0] == FRAGMENT]
    assert [length for _, length in fragments] == [0, 4]
    assert data[fragments[1][0] :][:4] == b"abcd"
    cut = walk_over(data[:-10], EXPLICIT_VR_LITTLE_ENDIAN)
    balanced(list(cut))
    assert cut.truncated


@given(
    st.binary(max_size=300_000), st.lists(st.tuples(st.integers(0, 310_000), st.integers(0, 9000)))
)
def test_inflated_source(data, reads):
    deflater = zlib.compressobj(wbits=-15)
    stored = b"12345" + deflater.compress(data) + deflater.flush()
    source = Inflated(fetch_from(stored), dataset_offset=5)
    for offset, length in reads:
        assert source(offset, length) == data[offset : offset + length]


def test_deflate_bomb_is_bounded():
    deflater = zlib.compressobj(wbits=-15)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(64)) + deflater.flush()
    source = Inflated(fetch_from(bomb), dataset_offset=0, limit=8 << 20)
    tracemalloc.start()
    assert source(60 << 20, 10) == b""
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert source.exceeded
    assert peak < 2_000_000


def test_zlib_header_and_damage():
    data = b"0123456789" * 1000
    assert Inflated(fetch_from(zlib.compress(data)), dataset_offset=0)(9990, 20) == b"0123456789"
    damaged = b"\xff" * 40
    assert Inflated(fetch_from(damaged), dataset_offset=0)(0, 10) == b""

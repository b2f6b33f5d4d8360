"""Where frames are: in one pass or by ranges, from a header's bytes or all, stored and back."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_archive.frame_places import frames_within
from gantry_domain.frame_table import FrameTable, frame_table
from gantry_domain.header import read_header
from gantry_domain.sources import WINDOW, Onwards, fetch_from
from gantry_stores.index.frame_tables import UnreadableFrames, decode_frames, encode_frames
from gantry_testkit.encoding import IDENTITY, explicit, item, read, stored

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
START = b"\xff\xd8"
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def compressed(frames: list[list[bytes]], *, table: bool, ended: bool = True) -> bytes:
    """An object with these fragments of each frame."""
    offsets, place = [], 0
    for fragments in frames:
        offsets.append(place)
        place += sum(len(fragment) + 8 for fragment in fragments)
    items = [item(pack(f"<{len(offsets)}L", *offsets) if table else b"")]
    items += [item(fragment) for fragments in frames for fragment in fragments]
    elements = {
        **IDENTITY,
        0x00280008: ("IS", f"{len(frames)}".encode().ljust(4)),
        0x00280010: ("US", b"\2\0"),
        0x00280011: ("US", b"\2\0"),
        0x00280100: ("US", b"\x08\0"),
    }
    head = b"".join(explicit(tag, vr, value) for tag, (vr, value) in sorted(elements.items()))
    pixels = explicit(0x7FE00010, "OB", b"".join(items), 0xFFFFFFFF)
    return stored(head + pixels + (DELIMITER if ended else b""), JPEG_BASELINE)


def native(frames: bytes, *, number: int, allocated: int = 8, rows: int = 2) -> bytes:
    """An object of frames that are two pixels wide."""
    elements = {
        **IDENTITY,
        0x00280008: ("IS", f"{number}".encode().ljust(10)),
        0x00280010: ("US", pack("<H", rows)),
        0x00280011: ("US", b"\2\0"),
        0x00280100: ("US", pack("<H", allocated)),
        0x7FE00010: ("OB", frames),
    }
    return stored(b"".join(explicit(t, vr, v) for t, (vr, v) in sorted(elements.items())))


def content(data: bytes, table: FrameTable | None, frame: int) -> bytes:
    assert table is not None
    return b"".join(data[offset : offset + length] for offset, length in table.pieces(frame))


fragments = st.lists(st.binary(min_size=2, max_size=40), min_size=1, max_size=3).map(
    lambda each: [START + each[0], *(b"\1" + more for more in each[1:])]
)


@given(
    frames=st.lists(fragments, min_size=1, max_size=6),
    table=st.booleans(),
    ended=st.booleans(),
    step=st.integers(1, 5000),
)
def test_fragments_are_found_by_ranges_and_in_one_pass(frames, table, ended, step):
    data = compressed(frames, table=table, ended=ended)
    header = read(data)
    found = frame_table(fetch_from(data), header)
    assert [content(data, found, n + 1) for n in range(len(frames))] == [
        b"".join(pieces) for pieces in frames
    ]
    offset = header.pixel_data.offset
    chunks = (data[n : n + step] for n in range(offset, len(data), step))
    assert frame_table(Onwards(chunks, base=offset), header, end=len(data)) == found
    assert decode_frames(encode_frames(found)) == found
    assert frames_within(data, header, size=len(data)) == encode_frames(found)


def test_one_frame_is_told_by_the_bytes_of_its_header():
    data = compressed([[START + bytes(3 * WINDOW)]], table=False)
    found = frames_within(data[:WINDOW], read(data), size=len(data))
    assert content(data, decode_frames(found), 1) == START + bytes(3 * WINDOW)


@pytest.mark.parametrize(
    "frames", [[[START + bytes(WINDOW)], [START]], [[START + bytes(WINDOW), b"\1\2"]]]
)
def test_further_fragments_are_not(frames):
    data = compressed(frames, table=True)
    assert frames_within(data[:WINDOW], read(data), size=len(data)) is None


def test_native_frames_take_no_more_than_the_header():
    data = native(bytes(range(8)), number=2)
    found = decode_frames(frames_within(data[:400], read(data), size=len(data)))
    assert [content(data, found, n) for n in (1, 2)] == [bytes(range(4)), bytes(range(4, 8))]


def test_any_number_of_frames_takes_a_few_bytes():
    """Frames of two bits, more of them than there could be places in memory."""
    number = 2_000_000_000
    data = native(b"", number=number, allocated=1, rows=1)
    length = number // 4
    declared = data[: -len(explicit(0x7FE00010, "OB", b""))] + explicit(
        0x7FE00010, "OB", b"", length
    )
    header = read(data)
    assert frames_within(data, header, size=len(data)) == b"U"
    header = read_header(fetch_from(declared), size=len(declared) + length)
    found = frames_within(declared, header, size=len(declared) + length)
    assert found is not None
    assert len(found) < 50
    assert decode_frames(found).number == number


@pytest.mark.parametrize("data", [b"", b"X", b"X" * 34, b"N1", b"Fnonsense"])
def test_what_is_damaged_is_said(data):
    with pytest.raises(UnreadableFrames):
        decode_frames(data)


def test_onwards_only():
    fetch = Onwards(iter([b"abcd", b"efgh"]), base=10)
    assert (fetch(11, 4), fetch(13, 99), fetch(40, 5)) == (b"bcde", b"defgh", b"")
    with pytest.raises(ValueError, match="gone by"):
        fetch(12, 1)

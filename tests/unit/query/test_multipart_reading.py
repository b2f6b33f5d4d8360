"""The reader of multipart bodies: any cutting of the bytes gives the same parts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_query.multipart_reading import (
    BrokenMultipart,
    MultipartReader,
    PartBegins,
    PartEnds,
)


def read(body: bytes, cuts: list[int], boundary: str = "b") -> list[tuple[dict[str, str], bytes]]:
    reader = MultipartReader(boundary)
    parts: list[tuple[dict[str, str], bytes]] = []
    ended = 0
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, stop in pairwise(places):
        for event in reader.feed(body[start:stop]):
            if isinstance(event, PartBegins):
                parts.append((dict(event.headers), b""))
            elif event is PartEnds.PART_ENDS:
                ended += 1
            else:
                parts[-1] = (parts[-1][0], parts[-1][1] + bytes(event))
    reader.close()
    assert ended == len(parts)
    return parts


# What looks like a delimiter, more often than chance would have it.
data = st.lists(
    st.sampled_from([b"\r", b"\n", b"--b", b"-", b"b", b"\r\n--b", b"\r\n--bx", b"x", b" "])
).map(b"".join)


def framed(parts: list[bytes]) -> bytes:
    return b"".join(b"--b\r\nA: 1\r\n\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


@given(st.lists(data, min_size=1), st.lists(st.integers(0, 300)))
def test_parts_come_whole_however_they_are_cut(parts, cuts):
    # A part that holds a delimiter cannot be sent with this boundary.
    parts = [b"".join(part.split(b"\r\n--b")) for part in parts]
    parts = [b"" if b"\r\n--b" in b"\r\n" + part + b"\r\n" else part for part in parts]
    assert [part for _, part in read(framed(parts), cuts)] == parts


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b\r\n\r\nx\r\n--b--", [({}, b"x")]),
        (b"\r\n--b\r\n\r\nx\r\n--b--\r\n", [({}, b"x")]),
        (b"a preamble\r\n--b  \r\n\r\nx\r\n--b--epilogue\r\n--b\r\n\r\ny", [({}, b"x")]),
        (
            b"--b\r\nContent-Type: a/b;\r\n c=d\r\nodd\r\n\r\nx\r\n--b--",
            [({"content-type": "a/b; c=d"}, b"x")],
        ),
        (b"--b\r\n\r\nx\r\n--boundary\r\n--b--", [({}, b"x\r\n--boundary")]),
        (b"--b--", []),
    ],
)
def test_what_clients_write(body, parts):
    assert read(body, []) == parts
    assert read(body, list(range(len(body)))) == parts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no parts",
        b"--b\r\nA: 1",
        b"--b\r\nA: 1\r\n\r\nx",
        b"--b\r\n\r\nx\r\n--b\t--",
        b"--b\r\n" + b"A: 1\r\n" * 10_000,
    ],
)
def test_what_is_broken_is_said(body):
    with pytest.raises(BrokenMultipart):
        read(body, [])


@pytest.mark.parametrize("boundary", ["", "x" * 300, "ä", "a\r\nb"])
def test_what_is_no_boundary(boundary):
    with pytest.raises(BrokenMultipart):
        MultipartReader(boundary)

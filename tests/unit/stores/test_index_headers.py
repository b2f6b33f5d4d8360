"""The stored form of headers, and rows as one parameter."""

import orjson
import pytest
import zstandard

from gantry_stores.index.headers import (
    CODEC,
    LARGEST_HEADER,
    UnreadableHeader,
    decode_header,
    encode_header,
    header_json,
)
from gantry_stores.index.recordsets import insert_rows, rows_parameter
from gantry_stores.index.schema import series

HEADER = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Chan^Tai Man"}]}}


def test_a_header_comes_back():
    data = encode_header(HEADER)
    assert decode_header(CODEC, data) == HEADER
    assert header_json(CODEC, data) == orjson.dumps(HEADER)


def test_an_unknown_codec_is_refused():
    with pytest.raises(UnreadableHeader, match="codec 99"):
        decode_header(99, encode_header(HEADER))


@pytest.mark.parametrize(
    "data", [b"", b"not compressed", encode_header(HEADER)[:-3], zstandard.compress(b"{")]
)
def test_damage_is_named(data):
    with pytest.raises(UnreadableHeader, match="damaged"):
        decode_header(CODEC, data)


def test_what_would_fill_memory_is_not_inflated():
    bomb = zstandard.compress(b"\0" * (LARGEST_HEADER + 1))
    assert len(bomb) < 10_000
    with pytest.raises(UnreadableHeader, match="larger"):
        header_json(CODEC, bomb)
    # Nor one that does not say how large it is.
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * 100)
    with pytest.raises(UnreadableHeader):
        header_json(CODEC, silent)


def test_rows_hold_no_nul_at_any_depth():
    rows = [{"a": "x\0y", "b": {"c\0": ["\0", {"d": "e\0"}]}, "n": 1}]
    assert orjson.loads(rows_parameter(rows)) == [{"a": "xy", "b": {"c": ["", {"d": "e"}]}, "n": 1}]
    # Text that only looks like one stays.
    assert orjson.loads(rows_parameter([{"a": "\\u0000"}])) == [{"a": "\\u0000"}]


def test_the_statement_does_not_depend_on_the_rows():
    def statement():
        return insert_rows(
            series,
            {"study_pk": 1, "modality": ""},
            order="study_pk",
            conflict="(pk)",
            returning="pk",
        )

    assert statement() is statement()
    assert '"study_pk" BIGINT, "modality" TEXT' in str(statement())

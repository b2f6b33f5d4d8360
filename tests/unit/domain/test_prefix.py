"""Identifying what arrives from its first bytes: right, or "not seen", never wrong."""

import struct
import time
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.prefix import identify
from gantry_domain.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
TAGS = {
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "PatientID": 0x00100020,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "Rows": 0x00280010,
}
VALUES = {
    "SOPClassUID": b"1.2.840.10008.5.1.4.1.1.2\0",
    "SOPInstanceUID": b"1.2.3\0",
    "PatientID": b"P1",
    "StudyInstanceUID": b"1.2.4 ",
    "SeriesInstanceUID": b"1.2.55",
    "Rows": b"\2\0",
}
VRS = {"PatientID": b"LO", "Rows": b"US"}


def encode(values, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN):
    order = ">" if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    encoded = b""
    for keyword, value in values.items():
        tag = TAGS[keyword]
        encoded += struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
        if transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN:
            encoded += struct.pack("<L", len(value))
        else:
            encoded += struct.pack(f"{order}2sH", VRS.get(keyword, b"UI"), len(value))
        encoded += value
    if transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        deflater = zlib.compressobj(wbits=-15)
        return deflater.compress(encoded) + deflater.flush()
    return encoded


@pytest.mark.parametrize(
    "transfer_syntax",
    [
        EXPLICIT_VR_LITTLE_ENDIAN,
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_everything_there(transfer_syntax, complete):
    encoded = encode(VALUES, transfer_syntax)
    found = identify(encoded, transfer_syntax=transfer_syntax, complete=complete)
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert found.SOPInstanceUID == "1.2.3"
    assert found.StudyInstanceUID == "1.2.4"
    assert found.SeriesInstanceUID == "1.2.55"
    assert found.has_patient_id
    assert found.missing == ()
    assert not found.exhausted
    assert found.broken is None


@pytest.mark.parametrize("keyword", UIDS)
@pytest.mark.parametrize("how", ["absent", "empty", "blank"])
def test_missing_for_certain(keyword, how):
    values = dict(VALUES)
    if how == "absent":
        del values[keyword]
    else:
        values[keyword] = b"" if how == "empty" else b"\0\0"
    for complete in (True, False):
        encoded = encode(values)
        found = identify(encoded, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=complete)
        assert found.missing == (keyword,)
        assert getattr(found, keyword) == (None if how == "absent" else "")
        assert not found.exhausted


def test_not_reached():
    values = {"SOPClassUID": VALUES["SOPClassUID"], "SOPInstanceUID": b"1.2.3\0"}
    encoded = encode(values)
    found = identify(encoded, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=False)
    assert found.exhausted
    assert found.missing == ()
    found = identify(encoded, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=True)
    assert not found.exhausted
    assert found.missing == ("StudyInstanceUID", "SeriesInstanceUID")


def test_behind_a_large_value():
    private = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 10_000_000) + bytes(1000)
    encoded = encode({"SOPClassUID": b"1.2"}) + private
    found = identify(encoded, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=False)
    assert found.SOPClassUID == "1.2"
    assert found.missing == ("SOPInstanceUID",)
    assert found.exhausted


def test_out_of_order():
    values = {keyword: VALUES[keyword] for keyword in ("Rows", *reversed(UIDS))}
    found = identify(encode(values), transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=False)
    assert found.missing == ()


def test_uids_of_items_are_others():
    item = encode(VALUES)
    nested = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    sequence = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, len(nested)) + nested
    undefined = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + nested
    undefined += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    for encoded in (sequence, undefined):
        found = identify(encoded, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=True)
        assert found.missing == UIDS


@given(st.integers(0, 200), st.sampled_from(list(VALUES)))
def test_cut_at_any_byte(cut, last):
    keywords = list(VALUES)[: list(VALUES).index(last) + 1]
    encoded = encode({keyword: VALUES[keyword] for keyword in keywords})
    found = identify(encoded[:cut], transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=False)
    whole = identify(encoded, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=False)
    assert found.missing == ()
    for keyword in UIDS:
        assert getattr(found, keyword) in (None, getattr(whole, keyword))


@given(
    st.binary(max_size=500),
    st.sampled_from(
        [
            EXPLICIT_VR_LITTLE_ENDIAN,
            IMPLICIT_VR_LITTLE_ENDIAN,
            EXPLICIT_VR_BIG_ENDIAN,
            DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
            "1.2.3",
            "",
        ]
    ),
    st.booleans(),
)
def test_any_bytes(data, transfer_syntax, complete):
    for prefix in (data, encode(VALUES)[:40] + data):
        found = identify(prefix, transfer_syntax=transfer_syntax, complete=complete)
        assert not (complete and found.exhausted)


def test_hostile_nesting_and_bombs():
    one = struct.pack("<HH2sHLHHL", 0x8, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    found = identify(one * 3000, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, complete=False)
    assert found.broken == "too_deeply_nested"
    deflater = zlib.compressobj(wbits=-15)
    bomb = deflater.compress(encode({"SOPClassUID": b"1.2"}))
    bomb += deflater.compress(struct.pack("<HH2sHL", 0x9, 0x1001, b"OB", 0, 4_000_000_000))
    bomb += b"".join(deflater.compress(bytes(1 << 20)) for _ in range(50))
    began = time.process_time()
    found = identify(
        bomb[:65536], transfer_syntax=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, complete=False
    )
    assert time.process_time() - began < 0.5
    assert found.SOPClassUID == "1.2"
    assert found.exhausted


def test_real_files_cut_anywhere(sample):
    encoded = sample.data[sample.dataset_offset :]
    syntax = sample.meta.TransferSyntaxUID
    whole = identify(encoded, transfer_syntax=syntax, complete=True)
    ds = sample.read()
    if len(ds):  # pydicom gives up where an encapsulated image is cut
        for keyword in UIDS:
            assert (getattr(whole, keyword) or "") == (ds.get(keyword) or "").strip()
    random = Random(sample.path.name)
    for cut in [random.randrange(min(len(encoded), 4000) + 1) for _ in range(30)]:
        found = identify(encoded[:cut], transfer_syntax=syntax, complete=False)
        assert set(found.missing) <= set(whole.missing)
        for keyword in UIDS:
            assert getattr(found, keyword) in (None, getattr(whole, keyword))

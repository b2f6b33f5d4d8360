"""Explicit VR Little Endian from everything else: pydicom reads the same values from both."""

import struct
import tracemalloc
import warnings
import zlib
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr

from gantry_domain.elements import walk_dataset
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.reencode import explicit_little_endian
from gantry_domain.sources import fetch_from
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    PixelEncoding,
)

HEAD = encode_file_meta(FileMeta("1.2", "1.3", EXPLICIT_VR_LITTLE_ENDIAN, "", "", ""))


def reencode(data, transfer_syntax, dataset_offset=0):
    return b"".join(
        explicit_little_endian(
            fetch_from(data),
            size=len(data),
            dataset_offset=dataset_offset,
            transfer_syntax=transfer_syntax,
        )
    )


def read(encoded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(BytesIO(HEAD + encoded))


def assert_same(one, other, *, big_endian):
    tags = [tag for tag in sorted(one.keys()) if tag.element != 0]
    assert tags == [tag for tag in sorted(other.keys()) if tag.element != 0]
    for tag in tags:
        mine, theirs = one[tag], other[tag]
        if mine.VR == "SQ":
            assert theirs.VR == "SQ"
            assert len(mine.value) == len(theirs.value)
            for item, its in zip(mine.value, theirs.value, strict=True):
                assert_same(item, its, big_endian=big_endian)
        elif mine.VR == theirs.VR:
            expected = mine.value
            if big_endian and mine.VR in ("OW", "OF"):  # pydicom leaves them as they are stored
                expected = swapped(expected, {"OW": 2, "OF": 4}[mine.VR])
            assert padded(expected) == padded(theirs.value), tag
        else:
            assert "UN" in (mine.VR, theirs.VR) or theirs.VR in ("OB", "OW", "US", "SS"), tag


def swapped(value, size):
    return b"".join(value[i : i + size][::-1] for i in range(0, len(value), size))


def padded(value):
    if isinstance(value, bytes):
        return value + bytes(len(value) % 2)
    return repr(value)  # NaN equals NaN


def test_real_files(sample):
    syntax = TRANSFER_SYNTAXES.get(sample.meta.TransferSyntaxUID)
    if syntax is None or syntax.pixels is not PixelEncoding.NATIVE:
        pytest.skip("not a native transfer syntax")
    source = sample.read()
    encoded = reencode(sample.data, syntax.uid, sample.dataset_offset)
    result = read(encoded)
    walk = walk_dataset(
        fetch_from(encoded),
        size=len(encoded),
        dataset_offset=0,
        transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN,
    )
    list(walk)
    if syntax.uid != EXPLICIT_VR_LITTLE_ENDIAN and syntax.uid not in DEFLATED:
        assert not walk.mismatch
        assert not walk.truncated
        assert walk.broken is None
    if "truncated" in sample.path.name or "nooffset" in sample.path.name:
        last = max(source.keys())
        del source[last]
        if last in result:
            del result[last]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(source, result, big_endian=syntax.uid == EXPLICIT_VR_BIG_ENDIAN)


def original():
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.ZeroVelocityPixelValue = -5
    ds.PatientName = "王^小明"
    ds.Rows = 2
    ds.Columns = 3
    ds.SamplesPerPixel = 1
    ds.BitsAllocated = 16
    ds.PixelRepresentation = 1
    ds.SmallestImagePixelValue = -7
    ds.RealWorldValueMappingSequence = [Dataset()]
    item = ds.RealWorldValueMappingSequence[0]
    item.RealWorldValueFirstValueMapped = -3
    item.RealWorldValueIntercept = 1.5
    item.FrameIncrementPointer = [0x00181063, 0x00181065]
    ds.ModalityLUTSequence = [Dataset(), Dataset()]
    ds.ModalityLUTSequence[0].LUTDescriptor = [1, 0, 16]
    ds.ModalityLUTSequence[0].LUTData = 77
    ds.ModalityLUTSequence[1].LUTDescriptor = [2, 0, 16]
    ds.ModalityLUTSequence[1].add_new(0x00283006, "OW", b"\1\2\3\4")
    ds.VectorGridData = struct.pack("<3f", 1, 2, 3)
    ds.add_new(0x7FE00010, "OW", struct.pack("<6h", -1, 2, -3, 4, -5, 6))
    return correct_ambiguous_vr(ds, is_little_endian=True)


def encode(ds, transfer_syntax):
    file = BytesIO()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.file_meta.MediaStorageSOPClassUID = "1.2"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.3"
    ds.save_as(file, enforce_file_format=True)
    data = file.getvalue()
    return data, 132 + 12 + int.from_bytes(data[140:144], "little")


@pytest.mark.parametrize(
    "transfer_syntax",
    [
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
    ],
)
def test_every_kind_of_value(transfer_syntax):
    ds = original()
    if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN:  # pydicom writes these bytes as they are
        ds.PixelData = struct.pack(">6h", -1, 2, -3, 4, -5, 6)
        ds.VectorGridData = struct.pack(">3f", 1, 2, 3)
        ds.ModalityLUTSequence[1].LUTData = b"\2\1\4\3"
    data, offset = encode(ds, transfer_syntax)
    result = read(reencode(data, transfer_syntax, offset))
    result.remove_private_tags()
    expected = original()
    for element in expected:
        vr = {"US or SS": "SS"}.get(element.VR, element.VR)
        assert vr == result[element.tag].VR, element.keyword
        assert result[element.tag].value == element.value, element.keyword


def test_group_lengths_odd_lengths_and_unknown_tags():
    def element(tag, value):
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value

    data = (
        element(0x00080000, b"\0\0\0\0") + element(0x00080060, b"CT ") + element(0x00091001, b"abc")
    )
    encoded = reencode(data, IMPLICIT_VR_LITTLE_ENDIAN)
    assert encoded == (
        struct.pack("<HH2sH", 8, 0x60, b"CS", 4)
        + b"CT  "
        + struct.pack("<HH2sHL", 9, 0x1001, b"UN", 0, 4)
        + b"abc\0"
    )


def test_long_value_of_a_short_representation():
    value = b"1.5\\" * 20_000 + b"1.5 "
    data = struct.pack("<HHL", 0x3006, 0x0050, len(value)) + value
    encoded = reencode(data, IMPLICIT_VR_LITTLE_ENDIAN)
    assert encoded == struct.pack("<HH2sHL", 0x3006, 0x50, b"UN", 0, len(value)) + value


@pytest.mark.parametrize("order", ["<", ">"])
def test_three_gigabytes_in_bounded_memory(order):
    size = 3 << 30
    syntax = IMPLICIT_VR_LITTLE_ENDIAN if order == "<" else EXPLICIT_VR_BIG_ENDIAN
    if order == "<":
        head = struct.pack("<HHL", 0x0008, 0x0060, 2) + b"CT"
        head += struct.pack("<HHL", 0x7FE0, 0x0010, size)
    else:
        head = struct.pack(">HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
        head += struct.pack(">HH2sHL", 0x7FE0, 0x0010, b"OB", 0, size)
    zeros = bytes(1 << 20)

    def fetch(offset, length):
        length = min(length, len(head) + size - offset)
        if offset >= len(head):
            return zeros[:length]
        found = head[offset : offset + length]
        return found + zeros[: length - len(found)]

    tracemalloc.start()
    total = 0
    for piece in explicit_little_endian(
        fetch, size=len(head) + size, dataset_offset=0, transfer_syntax=syntax
    ):
        total += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 10 + 12 + size
    assert peak < 8 << 20


def test_cut_pixel_data_end_in_good_order():
    data = struct.pack("<HHL", 0x7FE0, 0x0010, 100) + b"1234"
    encoded = reencode(data, IMPLICIT_VR_LITTLE_ENDIAN)
    assert encoded == struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 4) + b"1234"


def test_deflated_is_inflated_and_nothing_else():
    data = struct.pack("<HH2sH", 8, 0, b"UL", 4) + b"\0\0\0\0" + bytes(3_000_000)
    deflater = zlib.compressobj(wbits=-15)
    stored = deflater.compress(data) + deflater.flush()
    assert reencode(stored, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN) == data

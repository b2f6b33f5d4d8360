"""Two objects of one SOP Instance UID: what makes them the same and what sets them apart."""

import copy
import struct
import tracemalloc
import warnings
import zlib
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from gantry_domain.comparison import NATIVE, Relation, digest, relate, relate_decoded
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.reencode import explicit_little_endian
from gantry_domain.sources import fetch_from
from gantry_domain.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    PixelEncoding,
)

RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
SYNTAXES = [
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
]


def original(charset="GB18030"):
    ds = Dataset()
    ds.SpecificCharacterSet = charset
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID = "1.2.3"
    ds.StudyInstanceUID = "1.2"
    ds.SeriesInstanceUID = "1.2.2"
    ds.PatientName = "王^小明"
    ds.PatientID = "P1"
    ds.StudyDescription = "头部"
    ds.AccessionNumber = "A1"
    ds.SeriesDescription = "平扫"
    ds.ImagePositionPatient = [1, 2, 3.5]
    ds.PixelRepresentation = 0
    ds.SmallestImagePixelValue = 3
    ds.Rows = ds.Columns = 2
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = 16
    ds.ReferencedImageSequence = [Dataset(), Dataset()]
    ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.9"
    block = ds.private_block(0x0009, "GANTRY TEST", create=True)
    block.add_new(1, "LO", "private")
    block.add_new(2, "SQ", [Dataset()])
    block[2].value[0].ImageComments = "inside"
    block.add_new(3, "SQ", [])
    ds.add_new(0x7FE00010, "OW", b"\1\0\2\0\3\0\4\0")
    return ds


def encode(ds, transfer_syntax):
    ds = copy.deepcopy(ds)
    if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN:  # pydicom writes these bytes as they are
        pixels = ds.PixelData
        ds.PixelData = b"".join(pixels[i : i + 2][::-1] for i in range(0, len(pixels), 2))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.file_meta.MediaStorageSOPClassUID = "1.2"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.3"
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    data = file.getvalue()
    return data[132 + 12 + int.from_bytes(data[140:144], "little") :]


def digest_of(data, transfer_syntax, dataset_offset=0):
    return digest(
        fetch_from(data),
        size=len(data),
        dataset_offset=dataset_offset,
        transfer_syntax=transfer_syntax,
    )


def related(one, other, syntax=EXPLICIT_VR_LITTLE_ENDIAN, other_syntax=EXPLICIT_VR_LITTLE_ENDIAN):
    one_digest = digest_of(encode(one, syntax), syntax)
    other_digest = digest_of(encode(other, other_syntax), other_syntax)
    relation = relate(one_digest, other_digest)
    assert relate(other_digest, one_digest) is relation
    return relation


@pytest.mark.parametrize("one", SYNTAXES)
@pytest.mark.parametrize("other", SYNTAXES)
def test_other_transfer_syntax(one, other):
    assert related(original(), original(), one, other) is Relation.SAME_CONTENT


@pytest.mark.parametrize("charset", ["ISO_IR 192", ["", "ISO 2022 IR 58"], "GBK"])
def test_other_character_set(charset):
    assert related(original(), original(charset)) is Relation.SAME_CONTENT


def test_padding_group_lengths_and_lengths_of_sequences():
    data = encode(original(), EXPLICIT_VR_LITTLE_ENDIAN)
    group_length = struct.pack("<HH2sHL", 8, 0, b"UL", 4, 12345)
    other = group_length + data.replace(b"P1", b"P1").replace(
        struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", 4) + b"1.2\0",
        struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", 6) + b"1.2\0\0\0",
    )
    other += struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 4) + bytes(4)
    ds = original()
    ds["ReferencedImageSequence"].is_undefined_length = True
    for item in ds.ReferencedImageSequence:
        item.is_undefined_length_sequence_item = True
    assert data != other
    base = digest_of(data, EXPLICIT_VR_LITTLE_ENDIAN)
    assert relate(base, digest_of(other, EXPLICIT_VR_LITTLE_ENDIAN)) is Relation.SAME_CONTENT
    assert related(original(), ds) is Relation.SAME_CONTENT


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "王^大明"),
        ("PatientID", "P2"),
        ("PatientBirthDate", "20000101"),
        ("OtherPatientIDsSequence", [Dataset()]),
        ("AccessionNumber", "A2"),
        ("StudyDescription", "胸部"),
        ("StudyDate", "20240101"),
        ("ReferringPhysicianName", "Who"),
        ("AdmissionID", "7"),
        ("OriginalAttributesSequence", [Dataset()]),
    ],
)
def test_other_demographics(keyword, value):
    ds = original()
    setattr(ds, keyword, value)
    assert related(original(), ds) is Relation.DEMOGRAPHICS
    assert related(original(), ds, IMPLICIT_VR_LITTLE_ENDIAN) is Relation.DEMOGRAPHICS


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyInstanceUID", "1.3"),
        ("SeriesInstanceUID", "1.3"),
        ("SOPClassUID", "1.3"),
        ("ImagePositionPatient", [1, 2, 4]),
        ("SeriesDescription", "增强"),
        ("Rows", 4),
        ("PixelData", b"\1\0\2\0\3\0\5\0"),
        ("PixelData", b"\1\0\2\0\3\0\4\0\5\0"),
        ("PhotometricInterpretation", "MONOCHROME1"),
        ("ReferencedImageSequence", [Dataset()]),
        ("ReferencedImageSequence", []),
        ("ImageComments", "new"),
    ],
)
def test_conflict(keyword, value):
    ds = original()
    setattr(ds, keyword, value)
    assert related(original(), ds) is Relation.CONFLICT
    ds.PatientID = "P2"
    assert related(original(), ds) is Relation.CONFLICT


def test_without_pixel_data():
    ds = original()
    del ds.PixelData
    assert related(original(), ds) is Relation.CONFLICT
    assert related(ds, ds, IMPLICIT_VR_LITTLE_ENDIAN) is Relation.SAME_CONTENT


def test_private_values_count():
    for element, value in ((1, "another"), (2, [Dataset()]), (3, [Dataset()])):
        ds = original()
        ds.private_block(0x0009, "GANTRY TEST")[element].value = value
        assert related(original(), ds) is Relation.CONFLICT


def encapsulated(frames, **changes):
    ds = original()
    ds.PixelData = encapsulate(frames, **changes)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def test_fragments_and_offset_tables_do_not_matter():
    one = encapsulated([b"12345678", b"abcdefgh"], has_bot=True)
    other = encapsulated([b"12345678", b"abcdefgh"], has_bot=False, fragments_per_frame=2)
    assert related(one, other, RLE, RLE) is Relation.SAME_CONTENT
    other.PatientID = "P2"
    assert related(one, other, RLE, RLE) is Relation.DEMOGRAPHICS


def test_compressed_differently():
    one = encapsulated([b"12345678"])
    other = encapsulated([b"12345679"])
    assert related(one, original(), RLE) is Relation.NEEDS_DECODING
    assert related(one, one, RLE, JPEG_BASELINE) is Relation.NEEDS_DECODING
    # The same lossless syntax from another encoder; but another lossy stream has other pixels.
    assert related(one, other, RLE, RLE) is Relation.NEEDS_DECODING
    assert related(one, other, JPEG_BASELINE, JPEG_BASELINE) is Relation.CONFLICT
    other.PhotometricInterpretation = "YBR_FULL"
    assert related(one, other, RLE, JPEG_BASELINE) is Relation.NEEDS_DECODING
    other.ImagePositionPatient = [1, 2, 4]
    assert related(one, other, RLE, JPEG_BASELINE) is Relation.CONFLICT


def test_after_decoding():
    ds = original()
    ds.PatientID = "P2"
    syntax = EXPLICIT_VR_LITTLE_ENDIAN
    one, other = (
        digest_of(encode(original(), syntax), syntax),
        digest_of(encode(ds, syntax), syntax),
    )
    assert relate_decoded(one, one, same_pixels=True) is Relation.SAME_CONTENT
    assert relate_decoded(one, other, same_pixels=True) is Relation.DEMOGRAPHICS
    assert relate_decoded(one, other, same_pixels=False) is Relation.CONFLICT


def test_what_cannot_be_followed_counts_too():
    data = encode(original(), EXPLICIT_VR_LITTLE_ENDIAN)
    base = digest_of(data, EXPLICIT_VR_LITTLE_ENDIAN)
    broken = struct.pack("<HHL", 0xFFFE, 0xE000, 4)
    for tail in (b"abc", broken + b"1234", struct.pack("<HH2sHL", 0xFFFA, 1, b"OB", 0, 99) + b"1"):
        one = digest_of(data + tail, EXPLICIT_VR_LITTLE_ENDIAN)
        other = digest_of(data + tail[:-1] + b"9", EXPLICIT_VR_LITTLE_ENDIAN)
        assert relate(base, one) is Relation.CONFLICT
        assert relate(one, other) is Relation.CONFLICT
    assert relate(base, digest_of(data[:-1], EXPLICIT_VR_LITTLE_ENDIAN)) is Relation.CONFLICT


def test_real_files_in_other_encodings(sample):
    syntax = TRANSFER_SYNTAXES.get(sample.meta.TransferSyntaxUID)
    assert syntax is not None
    base = digest_of(sample.data, syntax.uid, sample.dataset_offset)
    assert relate(base, base) is Relation.SAME_CONTENT
    if syntax.pixels is not PixelEncoding.NATIVE:
        assert base.pixel_encoding in (None, syntax.uid)
        return
    assert base.pixel_encoding in (None, NATIVE)
    encoded = b"".join(
        explicit_little_endian(
            fetch_from(sample.data),
            size=len(sample.data),
            dataset_offset=sample.dataset_offset,
            transfer_syntax=syntax.uid,
        )
    )
    explicit = digest_of(encoded, EXPLICIT_VR_LITTLE_ENDIAN)
    if "truncated" in sample.path.name or "nooffset" in sample.path.name:
        if syntax.uid != EXPLICIT_VR_LITTLE_ENDIAN:  # that is passed on cut as it is
            assert relate(base, explicit) is Relation.CONFLICT
        return
    assert relate(base, explicit) is Relation.SAME_CONTENT
    deflater = zlib.compressobj(wbits=-15)
    deflated = deflater.compress(encoded) + deflater.flush()
    again = digest_of(deflated, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    assert relate(base, again) is Relation.SAME_CONTENT


def test_real_files_as_pydicom_writes_them(sample):
    """The other encoding from a writer that is not ours."""
    if sample.meta.TransferSyntaxUID != EXPLICIT_VR_LITTLE_ENDIAN:
        pytest.skip("not Explicit VR Little Endian")
    base = digest_of(sample.data, EXPLICIT_VR_LITTLE_ENDIAN, sample.dataset_offset)
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(sample.path)
        ds.file_meta.TransferSyntaxUID = IMPLICIT_VR_LITTLE_ENDIAN
        try:
            ds.save_as(file)
        except Exception as error:  # noqa: BLE001 - whatever pydicom has against the file
            pytest.skip(f"pydicom cannot write it: {error}")
    data = file.getvalue()
    implicit = digest_of(data, IMPLICIT_VR_LITTLE_ENDIAN, parse_file_meta(data).dataset_offset)
    cut = "truncated" in sample.path.name
    assert relate(base, implicit) is (Relation.CONFLICT if cut else Relation.SAME_CONTENT)


def test_bounded_memory():
    size = 512 << 20
    head = struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, size)

    def fetch(offset, length):
        length = min(length, len(head) + size - offset)
        found = head[offset : offset + length]
        return found + bytes(length - len(found))

    tracemalloc.start()
    digest(
        fetch,
        size=len(head) + size,
        dataset_offset=0,
        transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN,
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20

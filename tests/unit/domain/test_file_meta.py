"""The head of a stored file: what is written is read again, by us and by pydicom."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.filewriter import write_file_meta_info

from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    PRIVATE_INFORMATION_CREATOR_UID,
    FileMeta,
    encode_file_meta,
    parse_file_meta,
)
from gantry_domain.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
)

META = FileMeta(
    MediaStorageSOPClassUID="1.2.840.10008.5.1.4.1.1.2",
    MediaStorageSOPInstanceUID="1.2.3.4",
    TransferSyntaxUID=EXPLICIT_VR_LITTLE_ENDIAN,
    calling_ae="CT01",
    receiving_ae="GANTRY",
    partition="main",
)
uids = st.text("0123456789.", min_size=1, max_size=64)
ae_titles = st.text("ABCDEFGHIJ 0123456789_", max_size=16).map(str.strip)


@given(uids, uids, ae_titles, ae_titles, st.text(max_size=20).filter(lambda p: "\0" not in p))
def test_read_again(SOPClassUID, SOPInstanceUID, calling, receiving, partition):
    meta = FileMeta(
        SOPClassUID, SOPInstanceUID, EXPLICIT_VR_LITTLE_ENDIAN, calling, receiving, partition
    )
    encoded = encode_file_meta(meta)
    parsed = parse_file_meta(encoded + b"\x08\x00\x05\x00CS\x00\x00")
    assert parsed.meta == meta
    assert parsed.dataset_offset == len(encoded)


def test_pydicom_reads_it():
    encoded = encode_file_meta(META)
    assert len(encoded) % 2 == 0
    read_preamble(BytesIO(encoded), force=False)
    file = BytesIO(encoded[132:])
    ds = _read_file_meta_info(file)
    assert ds.FileMetaInformationGroupLength == len(encoded) - 132 - 12
    assert ds.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert ds.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN
    assert ds.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert IMPLEMENTATION_CLASS_UID.startswith("2.25.")
    assert ds.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert ds.SourceApplicationEntityTitle == ds.SendingApplicationEntityTitle == "CT01"
    assert ds.ReceivingApplicationEntityTitle == "GANTRY"
    assert ds.PrivateInformationCreatorUID == PRIVATE_INFORMATION_CREATOR_UID
    assert ds.PrivateInformation == b"main"


def test_what_pydicom_writes():
    ds = _read_file_meta_info(BytesIO(encode_file_meta(META)[132:]))
    file = BytesIO()
    write_file_meta_info(file, ds)
    parsed = parse_file_meta(bytes(128) + b"DICM" + file.getvalue())
    assert parsed.meta == META
    assert parsed.dataset_offset == 132 + len(file.getvalue())


def test_foreign_private_information_is_not_a_partition():
    encoded = encode_file_meta(META)
    foreign = encoded.replace(PRIVATE_INFORMATION_CREATOR_UID.encode(), b"1." + b"2" * 42)
    assert parse_file_meta(foreign).meta.partition == ""


def test_zeros_before_the_data_set():
    encoded = encode_file_meta(META)
    length = int.from_bytes(encoded[140:144], "little")
    padded = encoded[:140] + (length + 6).to_bytes(4, "little") + encoded[144:] + bytes(6)
    assert parse_file_meta(padded + b"\x08\x00").dataset_offset == len(padded)


def test_wrong_group_length():
    encoded = encode_file_meta(META)
    wrong = encoded[:140] + (7).to_bytes(4, "little") + encoded[144:]
    assert parse_file_meta(wrong).dataset_offset == len(encoded)


def test_deflated_data_set_that_looks_like_group_0002():
    meta = FileMeta("1.2", "1.3", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "", "", "")
    encoded = encode_file_meta(meta)
    assert parse_file_meta(encoded + b"\x02\x00\x10\x00UI\x04\x001.2\0").dataset_offset == len(
        encoded
    )


@pytest.mark.parametrize("preamble", [b"", b"DICM"])
def test_no_preamble(preamble):
    encoded = preamble + encode_file_meta(META)[132:]
    assert parse_file_meta(encoded).meta == META


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (b"", "no_file_meta"),
        (b"GIF89a" * 100, "no_file_meta"),
        (bytes(128) + b"DICM", "no_file_meta"),
        (encode_file_meta(META)[:180], "file_meta_truncated"),
        (encode_file_meta(META)[:170], "file_meta_truncated"),
        (encode_file_meta(META)[:158], "missing_transfer_syntax"),
    ],
)
def test_unreadable(prefix, reason):
    with pytest.raises(UnreadableObject) as caught:
        parse_file_meta(prefix)
    assert caught.value.reason == reason


@given(st.binary(max_size=300))
def test_any_bytes(tail):
    for head in (b"", bytes(128) + b"DICM", b"\x02\x00"):
        try:
            parsed = parse_file_meta(head + tail)
        except UnreadableObject:
            continue
        assert 0 < parsed.dataset_offset <= len(head + tail)

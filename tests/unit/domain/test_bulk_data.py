"""What is left of a data set without its bulk data is what PS3.4 Z.1.3 leaves of it."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, Sequence
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gantry_domain.file_meta import parse_file_meta
from gantry_domain.implicit import implicit_little_endian
from gantry_domain.reencode import explicit_little_endian
from gantry_domain.sources import fetch_from
from gantry_testkit.stored import file_of, image

BULK = {0x7FE00008, 0x7FE00009, 0x7FE00010, 0x00287FE0, 0x56000020, 0x00420011}
FILES = [
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "image_dfl.dcm",
    "JPEG2000.dcm",
    "MR_small_RLE.dcm",
    "examples_overlay.dcm",
    "waveform_ecg.dcm",
    "reportsi.dcm",
]


def is_bulk(tag: int) -> bool:
    repeated, element = tag >> 24, tag & 0xFFFF
    return (
        tag in BULK
        or (repeated == 0x60 and element == 0x3000)
        or (repeated == 0x50 and element in (0x3000, 0x200C))
    )


def stripped(content: bytes, *, implicit: bool = False) -> Dataset:
    parsed = parse_file_meta(content)
    encode = implicit_little_endian if implicit else explicit_little_endian
    encoded = b"".join(
        encode(
            fetch_from(content),
            size=len(content),
            dataset_offset=parsed.dataset_offset,
            transfer_syntax=parsed.meta.TransferSyntaxUID,
            bulk_data=False,
        )
    )
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    head = BytesIO()
    pydicom.filewriter.write_file_meta_info(head, meta, enforce_standard=False)
    return pydicom.dcmread(BytesIO(bytes(128) + b"DICM" + head.getvalue() + encoded))


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_nothing_else_is_left_out(name: str, *, implicit: bool) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom's wheel has no {name}")
    content = Path(str(path)).read_bytes()
    before, after = pydicom.dcmread(BytesIO(content)), stripped(content, implicit=implicit)
    for item in before.get("WaveformSequence", ()):
        del item.WaveformData
    kept = {int(e.tag) for e in before if e.tag.element and not is_bulk(int(e.tag))}
    assert {int(element.tag) for element in after} == kept
    for tag in kept:
        # Private elements of unknown VR lose it.
        if before[tag].VR == after[tag].VR:
            assert before[tag].value == after[tag].value, before[tag].keyword


def test_icons_keep_their_pixels_and_what_follows_is_there() -> None:
    icon = Dataset()
    icon.Rows = icon.Columns = 2
    icon.PixelData = b"\1\2\3\4"
    icon["PixelData"].VR = "OW"
    channel, wave = Dataset(), Dataset()
    channel.WaveformBitsStored = 16
    wave.ChannelDefinitionSequence = Sequence([channel])
    wave.WaveformData = bytes(32)
    wave["WaveformData"].VR = "OW"
    wave.NumberOfWaveformSamples = 16
    ds = image(IconImageSequence=[icon], WaveformSequence=[wave, wave], PixelDataProviderURL="x:y")
    ds.add_new(0x60020010, "US", 2)
    ds.add_new(0x60023000, "OW", bytes(32))
    ds.add_new(0xFFFCFFFC, "OB", bytes(8))
    ds.EncapsulatedDocument = b"%PDF"
    after = stripped(file_of(ds))
    assert after.IconImageSequence[0].PixelData == b"\1\2\3\4"
    for item in after.WaveformSequence:
        assert "WaveformData" not in item
        assert item.NumberOfWaveformSamples == 16
        assert item.ChannelDefinitionSequence[0].WaveformBitsStored == 16
    assert after[0x60020010].value == 2
    assert 0xFFFCFFFC in after
    for gone in (0x7FE00010, 0x60023000, 0x00287FE0, 0x00420011):
        assert gone not in after

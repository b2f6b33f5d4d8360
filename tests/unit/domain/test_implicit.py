"""What is re-encoded as Implicit VR Little Endian holds the values that it held before."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import parse_file_meta
from gantry_domain.implicit import implicit_little_endian
from gantry_domain.sources import fetch_from

NATIVE = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "ExplVR_BigEnd.dcm",
    "image_dfl.dcm",
    "rtplan.dcm",
    "reportsi.dcm",
    "nested_priv_SQ.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
]


def reencoded(content: bytes) -> bytes:
    parsed = parse_file_meta(content)
    return b"".join(
        implicit_little_endian(
            fetch_from(content),
            size=len(content),
            dataset_offset=parsed.dataset_offset,
            transfer_syntax=parsed.meta.TransferSyntaxUID,
        )
    )


def read_implicit(encoded: bytes) -> Dataset:
    ds = pydicom.dcmread(BytesIO(encoded), force=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return ds


@pytest.mark.parametrize("name", NATIVE)
def test_pydicom_reads_the_same_values(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom's wheel has no {name}")
    content = Path(str(path)).read_bytes()
    before = pydicom.dcmread(BytesIO(content))
    encoded = reencoded(content)
    assert len(encoded) % 2 == 0
    after = read_implicit(encoded)
    same_values(before, after)
    if "PixelData" in before and "Rows" in before:
        assert (before.pixel_array == after.pixel_array).all()


def same_values(before: Dataset, after: Dataset) -> None:
    compared = 0
    for element in before:
        if element.tag.element == 0 or element.keyword == "PixelData":
            continue
        assert element.tag in after, element.tag
        other = after[element.tag]
        if element.VR == "SQ" and other.VR == "SQ":
            assert len(element.value) == len(other.value)
            for one, two in zip(element.value, other.value, strict=True):
                same_values(one, two)
        elif element.VR == other.VR and element.VR not in ("OW", "UN"):
            assert element.value == other.value, element.tag
        compared += 1
    assert compared or not len(before)


def test_encapsulated_pixels_are_refused_by_name() -> None:
    content = Path(str(get_testdata_file("MR_small_RLE.dcm", download=False))).read_bytes()
    with pytest.raises(UnreadableObject, match="encapsulated_pixel_data"):
        reencoded(content)

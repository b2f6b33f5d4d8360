"""STOW-RS with metadata and bulk data: composed into data sets that say the same."""

import io
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import orjson
import pydicom
import pytest
from pydicom import Dataset, Sequence
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from gantry_testkit.stored import file_of, image, rows

TYPE = 'multipart/related; type="application/dicom+json"; boundary=XX'
Part = tuple[str, str, bytes]


def body_of(metadata: object, *bulk: Part) -> bytes:
    """`bulk`: Content-Type, Content-Location, content."""
    content = metadata if isinstance(metadata, bytes) else orjson.dumps(metadata)
    parts = [b"--XX\r\nContent-Type: application/dicom+json\r\n\r\n" + content + b"\r\n"]
    parts += [
        f"--XX\r\nContent-Type: {kind}\r\nContent-Location: {location}\r\n\r\n".encode()
        + each
        + b"\r\n"
        for kind, location, each in bulk
    ]
    return b"".join(parts) + b"--XX--\r\n"


def post(web, body: bytes, path: str = "/studies") -> httpx.Response:
    return web.client.post(f"{web.base}{path}", content=body, headers={"Content-Type": TYPE})


def separated(ds: Dataset, kind: str = "application/octet-stream") -> tuple[dict, list[Part]]:
    """Metadata, and each value of over 64 bytes as a part."""
    parts: list[Part] = []

    def keep(element: pydicom.DataElement) -> str:
        location = f"http://elsewhere/{ds.SOPInstanceUID}/{len(parts)}"
        parts.append((kind, location, element.value))
        return location

    # As it is read from a file, where each element has its VR.
    read = pydicom.dcmread(io.BytesIO(file_of(ds)))
    return read.to_json_dict(bulk_data_threshold=64, bulk_data_element_handler=keep), parts


def retrieved(web, ds: Dataset) -> Dataset:
    path = (
        f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
        f"/instances/{ds.SOPInstanceUID}"
    )
    accept = "application/dicom; transfer-syntax=*"
    answer = web.get(path, Accept=accept)
    assert answer.status_code == 200
    return pydicom.dcmread(io.BytesIO(answer.content))


def failure(answer: httpx.Response) -> tuple[int, int]:
    (item,) = answer.json()["00081198"]["Value"]
    return answer.status_code, item["00081197"]["Value"][0]


def test_it_says_the_same_as_before(web):
    ds = image(
        PatientName="Yamada^Tarou=山田^太郎", WindowCenter=["40.5", "50"], SliceThickness=None
    )
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    inner.add_new(0x00281201, "OW", bytes(range(200)))  # bulk data within an item
    ds.ReferencedImageSequence = Sequence([inner, Dataset()])
    ds.add_new(0x00090010, "LO", "ACME")
    ds.add_new(0x00091001, "UN", b"odd")
    ds.add_new(0x00180050, "DS", None)
    ds.add_new(0x00189073, "FD", [1.5, -2.25])
    ds.add_new(0x00280009, "AT", [0x00181063, 0x00181065])
    metadata, parts = separated(ds)
    assert len(parts) == 2
    answer = post(web, body_of([metadata], *parts), f"/studies/{ds.StudyInstanceUID}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["00081199"]["Value"][0]["00081155"]["Value"] == [ds.SOPInstanceUID]
    web.index()
    back = retrieved(web, ds)
    expected = ds.to_json_dict()
    expected["00091001"]["InlineBinary"] = "b2RkAA=="  # even
    assert back.to_json_dict() == expected
    assert back.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    (found,) = web.get(f"/instances?SOPInstanceUID={ds.SOPInstanceUID}").json()
    assert found["00100010"]["Value"][0]["Ideographic"] == "山田^太郎"


@pytest.mark.parametrize(
    "kind",
    [
        "image/dicom-rle",
        f"application/octet-stream; transfer-syntax={RLELossless}",
        f'image/dicom-rle; transfer-syntax="{RLELossless}"',
    ],
)
def test_compressed_frames_are_parts(web, kind):
    ds = image(NumberOfFrames=3)
    pixels = np.arange(3 * 256, dtype="<u2").reshape(3, 16, 16)
    ds.PixelData = pixels.tobytes()
    compressed = ds.compress(RLELossless, generate_instance_uid=False) or ds
    frames = list(generate_frames(compressed.PixelData, number_of_frames=3))
    metadata = compressed.to_json_dict()
    metadata["7FE00010"] = {"vr": "OB", "BulkDataURI": "bulk/1"}
    answer = post(web, body_of([metadata], *((kind, "bulk/1", frame) for frame in frames)))
    assert answer.status_code == 200, answer.text
    web.index()
    back = retrieved(web, ds)
    assert back.file_meta.TransferSyntaxUID == RLELossless
    assert list(generate_frames(back.PixelData, number_of_frames=3)) == frames
    assert (back.pixel_array == pixels).all()


def test_what_the_data_set_says_of_its_syntax_counts_where_the_part_says_nothing(web):
    ds = image()
    frame = b"\xff\xd8\xff\xd9"  # is not looked at
    metadata = ds.to_json_dict() | {
        "00083002": {"vr": "UI", "Value": ["1.2.840.10008.1.2.4.50"]},
        "7FE00010": {"vr": "OB", "BulkDataURI": "x"},
    }
    assert post(web, body_of([metadata], ("image/jpeg", "x", frame))).status_code == 200
    web.index()
    assert retrieved(web, ds).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"


def test_several_instances_and_one_that_is_refused(web):
    study = image().StudyInstanceUID
    one, two, bad, other = (image(StudyInstanceUID=study) for _ in range(4))
    other.StudyInstanceUID = image().StudyInstanceUID
    documents, parts = [], []
    for ds in (one, bad, two, other):
        metadata, own = separated(ds)
        documents.append(metadata)
        parts += own if ds is not bad else []
    answer = post(web, body_of(documents, *parts), f"/studies/{study}")
    assert answer.status_code == 202
    stored = [each["00081155"]["Value"][0] for each in answer.json()["00081199"]["Value"]]
    assert stored == [one.SOPInstanceUID, two.SOPInstanceUID]
    refused = {
        each["00081155"]["Value"][0]: each["00081197"]["Value"][0]
        for each in answer.json()["00081198"]["Value"]
    }
    assert refused == {bad.SOPInstanceUID: 0xC000, other.SOPInstanceUID: 0xA900}
    web.index()


def with_(document: Mapping[str, Any], **elements: object) -> dict[str, Any]:
    return {**document, **{tag[1:]: element for tag, element in elements.items()}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"t00280010": {"vr": "US", "Value": [70000]}},
        {"t00280010": {"vr": "US", "Value": ["many"]}},
        {"t00280010": {"vr": "ZZ", "Value": [1]}},
        {"t00280010": {"Value": [1]}},
        {"t00280010": 5},
        {"t00280010": {"vr": "US", "Value": 5}},
        {"t00081140": {"vr": "SQ", "Value": [5]}},
        {"t00081140": {"vr": "SQ", "Value": {}}},
        {"t00100010": {"vr": "PN", "Value": [7]}},
        {"t00100020": {"vr": "LO", "Value": ["a\\b"]}},
        {"t00281201": {"vr": "OW", "InlineBinary": "!"}},
        {"t00281201": {"vr": "OW", "BulkDataURI": "nowhere"}},
        {"t00281201": {"vr": "OW", "BulkDataURI": ["bulk"]}},
        {"tWINDOWXX": {"vr": "OW"}},
        {"t0028": {"vr": "US", "Value": [1]}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_its_instance(web, wrong):
    ds = image()
    answer = post(web, body_of([with_(ds.to_json_dict(), **wrong)]))
    assert failure(answer) == (409, 0xC000)
    assert rows(
        web.engine, "SELECT count(*) FROM instance WHERE sop_instance_uid = :u", u=ds.SOPInstanceUID
    ) == [(0,)]


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "image/jp2; transfer-syntax=1.2.3"])
def test_pixels_in_a_syntax_that_nobody_names_are_not_guessed(web, kind):
    metadata, parts = separated(image(), kind)
    assert failure(post(web, body_of([metadata], *parts))) == (409, 0xC122)


@pytest.mark.parametrize(
    "body",
    [
        body_of(b"{"),
        body_of({"00080018": {"vr": "UI"}}),
        body_of(b""),
        b"--XX\r\nContent-Type: text/xml\r\n\r\n<a/>\r\n--XX--\r\n",
        b"--XX\r\nContent-Type: application/dicom+json\r\n\r\n[]\r\n--XX--\r\n",
        b"--XX\r\nContent-Type: application/dicom+json\r\n\r\n[",
        body_of(b"[" + b" " * 2**23 + b"]"),
    ],
    ids=["broken", "no list", "empty", "of another type", "none", "cut", "too long"],
)
def test_without_metadata_nothing_is_stored(web, body):
    answer = post(web, body)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}


def test_data_sets_that_are_none(web):
    answer = post(web, body_of([5, None, {}, []]))
    assert answer.status_code == 409
    assert len(answer.json()["0008119A"]["Value"]) == 4


def test_large_bulk_data_pass_through(web):
    ds = image(Rows=2048, Columns=2048, PixelData=np.arange(2**22, dtype="<u2").tobytes())
    metadata, parts = separated(ds)
    assert post(web, body_of([metadata], *parts)).status_code == 200
    web.index()
    assert retrieved(web, ds).PixelData == ds.PixelData

"""Bulk data over HTTP: parts, one alone, ranges, and their byte order."""

import struct

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
)

from gantry_testkit.ct_files import STUDY, make_file
from gantry_testkit.multipart import parts_of

PDF = b"%PDF-1.7\r\n" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
def document(web):
    file = make_file(
        pixels=False,
        EncapsulatedDocument=PDF,
        MIMETypeOfEncapsulatedDocument="application/pdf",
        SeriesInstanceUID=f"{STUDY}.9",
    )
    (found,) = web.put(file)
    return found


def bulk_uri(web, found, tag: str = "00420011") -> str:
    (ds,) = web.get(f"{found.path}/metadata").json()
    uri = ds[tag]["BulkDataURI"]
    assert uri.startswith(web.base)
    return uri.removeprefix(web.base)


def test_bulk_data(web, document):
    uri = bulk_uri(web, document)
    ((content_type, data),) = parts_of(web.get(uri))
    assert (content_type, data) == ("application/octet-stream", PDF)
    one = web.get(uri, Accept="application/octet-stream")
    assert one.content == PDF
    assert "sandbox" in one.headers["content-security-policy"]
    native = web.get(uri, Accept="application/pdf, */*;q=0.1")
    assert native.headers["content-type"] == "application/pdf"
    assert web.get(uri, Accept="image/png").status_code == 406
    cached = web.get(uri, Accept="*/*", If_None_Match=native.headers["etag"])
    assert cached.status_code == 304


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-9", 0, 10), ("100-", 100, len(PDF)), ("-5", len(PDF) - 5, len(PDF)), ("9-9", 9, 10)],
)
def test_ranges_of_bulk_data(web, document, asked, start, stop):
    answer = web.get(bulk_uri(web, document), Accept="*/*", Range=f"bytes={asked}")
    assert answer.status_code == 206
    assert answer.content == PDF[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(PDF)}"


def test_ranges_that_cannot_be(web, document):
    uri = bulk_uri(web, document)
    outside = web.get(uri, Accept="*/*", Range=f"bytes={len(PDF)}-")
    assert outside.status_code == 416
    assert outside.headers["content-range"] == f"bytes */{len(PDF)}"
    for ignored in ("bytes=5-2", "bytes=1-2,5-6", "lines=1-2", "bytes=-"):
        whole = web.get(uri, Accept="*/*", Range=ignored)
        assert (whole.status_code, whole.content) == (200, PDF)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_bulk_data_are_little_endian(web, syntax):
    words = struct.pack("<1000H", *range(1000))
    held = struct.pack(">1000H", *range(1000)) if syntax == ExplicitVRBigEndian else words
    ds = pydicom.Dataset()
    ds.RedPaletteColorLookupTableData = held
    ds["RedPaletteColorLookupTableData"].VR = "OW"
    (found,) = web.put(make_file(syntax, pixels=False, ModalityLUTSequence=[ds]))
    (metadata,) = web.get(f"{found.path}/metadata").json()
    element = metadata["00283000"]["Value"][0]["00281201"]
    uri = element["BulkDataURI"].removeprefix(web.base)
    assert uri == f"{found.path}/bulk/00283000/0/00281201"
    assert web.get(uri, Accept="application/octet-stream").content == words
    odd = web.get(uri, Accept="*/*", Range="bytes=3-8")
    assert odd.content == words[3:9]


def test_dicomweb_client_reads_it(web, document):
    client = DICOMwebClient(web.base)
    (bulk,) = client.retrieve_bulkdata(web.base + bulk_uri(web, document))
    assert bulk == PDF

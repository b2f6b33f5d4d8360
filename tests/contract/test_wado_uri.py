"""WADO-URI over HTTP, and the OpenAPI document of all that is served."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ImplicitVRLittleEndian

from gantry_testkit.stored import file_of, image


@pytest.fixture(scope="module")
def found(web):
    ds = image(NumberOfFrames=2, PixelData=np.arange(512, dtype="<u2").tobytes())
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    (stored,) = web.put(file_of(ds))
    return stored


def asked(web, found, more="", **headers):
    uids = (
        f"studyUID={found.StudyInstanceUID}&seriesUID={found.SeriesInstanceUID}"
        f"&objectUID={found.SOPInstanceUID}"
    )
    return web.get(f"/wado?requestType=WADO&{uids}{more}", **headers)


def test_a_picture_by_default(web, found):
    answer = asked(web, found)
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (16, 16)
    etag = answer.headers["etag"]
    assert asked(web, found, If_None_Match=etag).status_code == 304


def test_a_picture_as_wanted(web, found):
    more = "&contentType=image/png&frameNumber=2&windowCenter=384&windowWidth=256&rows=8"
    answer = asked(web, found, more)
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (8, 8)
    assert asked(web, found, "&frameNumber=3").status_code == 404


def test_the_file(web, found):
    answer = asked(web, found, "&contentType=application/dicom")
    assert answer.headers["content-type"].startswith("application/dicom")
    ds = pydicom.dcmread(io.BytesIO(answer.content))
    assert ds.SOPInstanceUID == found.SOPInstanceUID
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    other = asked(web, found, "&contentType=application/dicom&transferSyntax=1.2.840.10008.1.2.5")
    assert other.headers["content-type"].endswith("=1.2.840.10008.1.2.5")
    mpeg = "1.2.840.10008.1.2.4.100"
    other = asked(web, found, f"&contentType=application/dicom&transferSyntax={mpeg}")
    assert other.status_code == 406


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("requestType=OTHER&studyUID=1&objectUID=1", "requestType"),
        ("requestType=WADO&objectUID=1", "studyUID"),
        ("requestType=WADO&studyUID=1", "objectUID"),
        ("requestType=WADO&studyUID=1&objectUID=1&anonymize=yes", "anonymize"),
    ],
)
def test_nonsense_is_400_by_name(web, query, parameter):
    answer = web.get(f"/wado?{query}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)
    assert web.get("/wado?requestType=WADO&studyUID=1&objectUID=1").status_code == 404


def test_the_openapi_document_names_what_is_there(web, found):
    document = web.get("/openapi.json").json()
    paths = document["paths"]
    assert len(paths) > 20
    for path, operations in paths.items():
        assert path.startswith(("/dicomweb/", "/held"))
        for operation in operations.values():
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert all(f"{{{name}}}" in path for name in named)
        filled = path
        for name in named:
            value = getattr(found, name, "1")
            filled = filled.replace(f"{{{name}}}", value)
        # A path that no route has would be told so in other words.
        answer = web.client.get(f"{web.base.removesuffix('/dicomweb')}{filled}")
        assert answer.status_code != 405 or "get" not in operations
        assert answer.json() != {"error": "Not Found"} if answer.status_code == 404 else True
    by_name = {p["name"] for p in paths["/dicomweb/studies"]["get"]["parameters"]}
    assert {"PatientName", "limit", "includefield"} <= by_name
    assert "SeriesNumber" not in by_name
    assert "post" in paths["/dicomweb/studies"]

"""What viewers ask, in their order and with their headers: from the list to the pixels."""

import io

import numpy as np
import pydicom
import pytest

from gantry_testkit.multipart import parts_of
from gantry_testkit.stored import image, new_uid

ORIGIN = {"Origin": "http://localhost:3000"}
JSON = "application/dicom+json"
# What a browser makes of the two Accept headers that OHIF sets.
OHIF = (
    'application/dicom+json, multipart/related; type="application/octet-stream"; transfer-syntax=*'
)
OHIF_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
PIXELS = np.arange(256, dtype="<u2").reshape(16, 16)


@pytest.fixture(scope="module")
def study(web) -> str:
    uid = new_uid()
    files = []
    for n in range(3):
        ds = image(
            StudyInstanceUID=uid,
            SeriesInstanceUID=f"{uid}.1",
            InstanceNumber=str(n + 1),
            PatientName="Wong^Mei Ling=黃^美玲",
            PatientID="OHIF1",
            PixelData=(PIXELS + n).tobytes(),
        )
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=True)
        files.append(out.getvalue())
    web.put(*files)
    return uid


def test_ohif_from_the_list_to_the_pixels(web, study):
    listed = web.get(
        "/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060",
        Accept=OHIF,
        **ORIGIN,
    )
    assert listed.headers["content-type"] == JSON
    assert study in [row["0020000D"]["Value"][0] for row in listed.json()]
    # The list filtered by a person, then what a study's page asks: of the study, of its patient.
    common = "limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060"
    for question in (
        f"00100020=*OHIF1*&{common}",
        f"{common}&StudyInstanceUID={study}",
        f"00100020=OHIF1&{common}",
    ):
        (row,) = web.get(f"/studies?{question}", Accept=OHIF, **ORIGIN).json()
    assert row["00100010"]["Value"] == [{"Alphabetic": "Wong^Mei Ling", "Ideographic": "黃^美玲"}]
    (series,) = web.get(
        f"/studies/{study}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011",
        Accept=OHIF,
        **ORIGIN,
    ).json()
    uid = series["0020000E"]["Value"][0]
    metadata = web.get(f"/studies/{study}/series/{uid}/metadata", Accept=OHIF, **ORIGIN)
    assert metadata.headers["content-type"] == JSON
    for n, instance in enumerate(metadata.json()):
        path = f"/studies/{study}/series/{uid}/instances/{instance['00080018']['Value'][0]}"
        answer = web.get(f"{path}/frames/1", Accept=OHIF_FRAMES, **ORIGIN)
        assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        ((content_type, data),) = parts_of(answer)
        assert content_type == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
        rows, columns = (instance[tag]["Value"][0] for tag in ("00280010", "00280011"))
        assert np.array_equal(np.frombuffer(data, "<u2").reshape(rows, columns), PIXELS + n)


def test_a_viewer_of_files_and_thumbnails(web, study):
    """As Weasis does: study metadata, a thumbnail of the series, then whole instances."""
    found = web.get(f"/studies/{study}/metadata", Accept="application/json").json()
    series = f"/studies/{study}/series/{found[0]['0020000E']['Value'][0]}"
    thumbnail = web.get(f"{series}/thumbnail", Accept="image/jpeg, image/*;q=0.9, */*;q=0.8")
    assert thumbnail.content.startswith(b"\xff\xd8")
    for n, each in enumerate(found):
        uid = each["00080018"]["Value"][0]
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        ((_, data),) = parts_of(web.get(f"{series}/instances/{uid}", Accept=accept))
        assert np.array_equal(pydicom.dcmread(io.BytesIO(data)).pixel_array, PIXELS + n)

"""WADO-RS over HTTP: the bytes as stored, the forms that the web allows, and metadata."""

import io
import json
import socket
import threading

import httpx
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES, PixelEncoding
from gantry_query import metrics
from gantry_query.streams import AT_ONCE
from gantry_runtime.metrics import sample
from gantry_testkit.ct_files import PIXELS, STUDY, make_file, new_uid
from gantry_testkit.multipart import parts_of

ANY = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def read(data: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(data))


@pytest.fixture(scope="module")
def native(web):
    (found,) = web.put(make_file(InstanceNumber=1))
    return found


def test_an_instance_is_what_was_stored(web, native):
    answer = web.get(native.path, Accept=ANY)
    assert answer.status_code == 200
    assert 'type="application/dicom"' in answer.headers["content-type"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    ((content_type, data),) = parts_of(answer)
    assert content_type == "application/dicom;transfer-syntax=1.2.840.10008.1.2.1"
    assert data == native.content == web.store.read(native.key)


def test_one_part(web, native):
    answer = web.get(native.path, Accept="application/dicom")
    assert answer.headers["content-type"].startswith("application/dicom;")
    assert int(answer.headers["content-length"]) == len(native.content)
    assert answer.content == native.content


def test_an_instance_has_a_version(web, native):
    etag = web.get(native.path, Accept="application/dicom").headers["etag"]
    same = web.get(native.path, Accept="application/dicom", If_None_Match=etag)
    assert (same.status_code, same.content) == (304, b"")
    assert web.get(native.path, Accept=ANY, If_None_Match=etag).status_code == 200


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("accept", [None, ANY, "application/dicom"])
def test_what_the_web_forbids_is_reencoded(web, syntax, accept):
    (found,) = web.put(make_file(syntax))
    answer = web.get(found.path, **({"Accept": accept} if accept else {}))
    if accept == "application/dicom":
        data = answer.content
        content_type = answer.headers["content-type"]
    else:
        ((content_type, data),) = parts_of(answer)
    if syntax == DeflatedExplicitVRLittleEndian and accept == ANY:
        assert data == found.content
        return
    assert content_type.endswith(ExplicitVRLittleEndian)
    ds, source = read(data), read(found.content)
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert ds.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
    assert np.array_equal(ds.pixel_array, PIXELS)
    assert ds.PatientName == source.PatientName
    assert {e.tag for e in ds} == {e.tag for e in source}


def test_compressed_is_decoded_only_where_it_must_be(web):
    (found,) = web.put(make_file(RLELossless))
    ((content_type, data),) = parts_of(web.get(found.path, Accept=ANY))
    assert content_type.endswith(RLELossless)
    assert data == found.content
    ((content_type, data),) = parts_of(web.get(found.path))
    assert content_type.endswith(ExplicitVRLittleEndian)
    ds = read(data)
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert ds.SOPInstanceUID == found.SOPInstanceUID
    assert np.array_equal(ds.pixel_array, PIXELS)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1, RLELossless])
@pytest.mark.parametrize("held", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_an_instance_is_encoded_when_asked(web, syntax, held):
    """The pixels alone are others; what encoders make up of spacing and position is left out."""
    (found,) = web.put(make_file(held))
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
    ((content_type, data),) = parts_of(web.get(found.path, Accept=accept))
    assert content_type.endswith(f"={syntax}")
    ds, source = read(data), read(found.content)
    assert ds.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(ds.pixel_array, PIXELS)
    assert {e.tag: e.value for e in ds if e.tag != "PixelData"} == {
        e.tag: e.value for e in source if e.tag != "PixelData"
    }
    assert data == found.content or held != syntax
    plain = f"{accept}, {ANY};q=0.5"
    assert parts_of(web.get(found.path, Accept=plain))


def test_what_cannot_be_decoded_is_406_by_name_and_any_is_as_stored(web):
    jpeg_lossless = "1.2.840.10008.1.2.4.70"
    (found,) = web.put(make_file(jpeg_lossless))
    for accept in ("application/dicom", 'multipart/related; type="application/dicom"'):
        refused = web.get(found.path, Accept=accept)
        assert refused.status_code == 406
        assert any(jpeg_lossless in available for available in refused.json()["available"])
    assert parts_of(web.get(found.path, Accept=ANY))[0][1] == found.content


def test_lossy_is_served_as_it_is_by_default(web):
    (found,) = web.put(make_file(JPEGBaseline8Bit))
    ((content_type, data),) = parts_of(web.get(found.path))
    assert content_type.endswith(JPEGBaseline8Bit)
    assert data == found.content
    j2k = f'multipart/related; type="application/dicom"; transfer-syntax={RLELossless}'
    refused = web.get(found.path, Accept=j2k)
    assert refused.status_code == 406
    assert JPEGBaseline8Bit in refused.text


def test_a_study_and_a_series_of_many_forms(web):
    study = new_uid()
    files = [
        make_file(syntax, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.{n % 2}")
        for n, syntax in enumerate(
            [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit] * 3
        )
    ]
    put = {found.SOPInstanceUID: found for found in web.put(*files)}
    before = sample("gantry_query_http_instances_total", form="as_stored")
    whole = web.get(f"/studies/{study}", Accept=ANY)
    parts = parts_of(whole)
    assert len(parts) == 12
    # Some are encoded anew, so nobody knows how long they will be.
    assert "content-length" not in whole.headers
    assert sample("gantry_query_http_instances_total", form="as_stored") == before + 9
    for content_type, data in parts:
        ds = read(data)
        found = put.pop(ds.SOPInstanceUID)
        assert content_type.endswith(ds.file_meta.TransferSyntaxUID)
        if found.meta.TransferSyntaxUID != ImplicitVRLittleEndian:
            assert data == found.content
    assert put == {}
    assert len(parts_of(web.get(f"/studies/{study}/series/{study}.1"))) == 6
    decoded = [content_type for content_type, _ in parts_of(web.get(f"/studies/{study}"))]
    assert sum(c.endswith(JPEGBaseline8Bit) for c in decoded) == 3
    assert sum(c.endswith(ExplicitVRLittleEndian) for c in decoded) == 9


def test_a_study_as_stored_says_how_long_it_is(web):
    study = new_uid()
    files = [
        make_file(StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", pixels=n != 1)
        for n in range(3)
    ]
    web.put(*files)
    answer = web.get(f"/studies/{study}", Accept=ANY)
    assert len(parts_of(answer)) == 3
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_what_is_not_there_is_404_by_name(web, native):
    for path, what in (
        ("/studies/9.9", "study"),
        (f"/studies/{STUDY}/series/9.9", "series"),
        (f"/studies/{STUDY}/series/{STUDY}.1/instances/9.9", "instance"),
    ):
        for suffix in ("", "/metadata"):
            answer = web.get(path + suffix)
            assert answer.status_code == 404
            assert answer.json() == {"error": f"there is no such {what}"}
    assert web.get(f"{native.path}/bulk/00420011").status_code == 404
    assert web.get(f"{native.path}/bulk/../../x").status_code == 404


def test_metadata_comes_from_the_index_alone(web):
    (found,) = web.put(make_file(StudyInstanceUID="2.25.77", SeriesInstanceUID="2.25.77.1"))
    web.store.delete(found.key)
    for path in (found.path, "/studies/2.25.77/series/2.25.77.1", "/studies/2.25.77"):
        answer = web.get(f"{path}/metadata")
        assert answer.headers["content-type"] == "application/dicom+json"
        (ds,) = answer.json()
        assert ds["00100010"]["Value"] == [{"Alphabetic": "CHAN^TAI MAN", "Ideographic": "陳^大文"}]
        assert ds["00083002"]["Value"] == [ExplicitVRLittleEndian]
        assert not any(tag.startswith("0002") for tag in ds)
    lost = web.get(found.path, Accept=ANY)
    assert (lost.status_code, lost.json()) == (500, {"error": "the archive has lost this object"})


def test_metadata_has_a_version(web, native):
    first = web.get(f"{native.path}/metadata")
    etag = first.headers["etag"]
    again = web.get(f"{native.path}/metadata", If_None_Match=f'"other", {etag}')
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    web.put(make_file(InstanceNumber=2))
    changed = web.get(f"{native.path}/metadata", If_None_Match=etag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag
    packed = web.get(f"{native.path}/metadata", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == changed.json()


def test_dicomweb_client_reads_everything(web, native):
    web.put(make_file(pixels=False, InstanceNumber=7))
    client = DICOMwebClient(web.base)
    whole = ("application/dicom", "*")
    ds = client.retrieve_instance(
        native.StudyInstanceUID, native.SeriesInstanceUID, native.SOPInstanceUID
    )
    assert np.array_equal(ds.pixel_array, PIXELS)
    everything = client.retrieve_study(STUDY, media_types=(whole,))
    metadata = client.retrieve_study_metadata(STUDY)
    assert len(everything) == len(metadata) > 1


def no_null_values(node: object) -> bool:
    if isinstance(node, dict):
        return node.get("Value") not in ([None], []) and all(map(no_null_values, node.values()))
    return all(map(no_null_values, node)) if isinstance(node, list) else True


@pytest.mark.long
def test_real_files_come_back_byte_for_byte(web, sample_files):
    """Every file that can be indexed: retrieved as stored, metadata valid, never a 5xx."""
    put = web.put(*sample_files)
    assert len(put) > 40
    for found in put:
        syntax = TRANSFER_SYNTAXES.get(found.meta.TransferSyntaxUID)
        ((content_type, data),) = parts_of(web.get(found.path, Accept=ANY))
        if found.meta.TransferSyntaxUID in (ImplicitVRLittleEndian, ExplicitVRBigEndian):
            assert content_type.endswith(f"={ExplicitVRLittleEndian}")
        else:
            assert content_type.endswith(f"={found.meta.TransferSyntaxUID}")
            assert data == found.content
        answer = web.get(f"{found.path}/metadata")
        assert answer.status_code == 200
        (ds,) = json.loads(answer.content.decode("utf-8"))
        assert no_null_values(ds)
        assert ds["00080018"]["Value"] == [found.SOPInstanceUID]
        assert ds["00080005"]["Value"] == ["ISO_IR 192"]
        plain = web.get(found.path, Accept="application/dicom")
        assert plain.status_code == 200 or (
            plain.status_code == 406 and syntax is not None and syntax.encapsulated
        )
    lossy = {uid for uid, s in TRANSFER_SYNTAXES.items() if s.pixels is PixelEncoding.LOSSY}
    assert any(found.meta.TransferSyntaxUID in lossy for found in put)


def test_a_client_that_leaves_frees_everything(web):
    study = new_uid()
    large = np.zeros((2048, 2048), dtype="<u2").tobytes()
    files = [
        make_file(StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", pixels=False)
        for _ in range(1)
    ]
    ds = read(make_file(StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1"))
    ds.Rows = ds.Columns = 2048
    ds.PixelData = large
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    web.put(out.getvalue(), *files)
    host, port = httpx.URL(web.base).host, httpx.URL(web.base).port
    idle = metrics.ACTIVE._value.get()
    for _ in range(60):  # more than there are threads
        with socket.create_connection((host, port)) as client:
            head = f"GET /dicomweb/studies/{study} HTTP/1.1\r\nHost: x\r\nAccept: {ANY}\r\n\r\n"
            client.sendall(head.encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert len(parts_of(web.get(f"/studies/{study}", Accept=ANY))) == 2
    settled = threading.Event()
    for _ in range(100):
        if metrics.ACTIVE._value.get() == idle:
            break
        settled.wait(0.1)
    assert metrics.ACTIVE._value.get() == idle


def test_an_object_lost_in_the_middle_cuts_the_answer(web):
    study = new_uid()
    files = [
        make_file(StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", InstanceNumber=n)
        for n in range(400)
    ]
    assert sum(map(len, files[:350])) > 2 * AT_ONCE
    put = web.put(*files)
    web.store.delete(put[350].key)
    with pytest.raises(httpx.RemoteProtocolError):
        web.get(f"/studies/{study}", Accept=ANY)

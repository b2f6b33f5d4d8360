"""STOW-RS over HTTP: what is stored, what is refused and why, and how it is found again."""

import socket
from collections.abc import Iterator

import httpx
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import JPEG2000Lossless

from gantry_domain.file_meta import parse_file_meta
from gantry_testkit.stored import encoded, file_of, image, new_uid, rows, with_changes

SUCCESS_KEYS = {"00081190", "00081199"}


def body_of(*files: bytes, content_type: str = "application/dicom") -> bytes:
    parts = [b"--XX\r\nContent-Type: %s\r\n\r\n%s\r\n" % (content_type.encode(), f) for f in files]
    return b"".join(parts) + b"--XX--\r\n"


def post(web, body, path="/studies", content_type=None, **headers) -> httpx.Response:
    content_type = content_type or 'multipart/related; type="application/dicom"; boundary=XX'
    return web.client.post(
        f"{web.base}{path}", content=body, headers={"Content-Type": content_type, **headers}
    )


def items(answer: httpx.Response, tag: str) -> list[dict]:
    return answer.json().get(tag, {}).get("Value", [])


def failures(answer: httpx.Response) -> list[tuple[str | None, int]]:
    found = items(answer, "00081198") + items(answer, "0008119A")
    return [
        (item.get("00081155", {}).get("Value", [None])[0], item["00081197"]["Value"][0])
        for item in found
    ]


def stored(answer: httpx.Response) -> list[str]:
    return [item["00081155"]["Value"][0] for item in items(answer, "00081199")]


def found(web, ds) -> int:
    return len(web.get(f"/instances?SOPInstanceUID={ds.SOPInstanceUID}").json())


def test_what_is_stored_is_found_and_comes_back_as_it_was(web):
    study = new_uid()
    sent = [image(StudyInstanceUID=study, InstanceNumber=str(n)) for n in range(3)]
    answer = post(web, body_of(*map(file_of, sent)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert answer.json().keys() == SUCCESS_KEYS
    assert stored(answer) == [ds.SOPInstanceUID for ds in sent]
    assert answer.json()["00081190"]["Value"] == [f"{web.base}/studies/{study}"]
    assert found(web, sent[0]) == 0
    assert len(web.published) == 3
    web.index()
    for ds, item in zip(sent, items(answer, "00081199"), strict=True):
        assert item["00081150"]["Value"] == [ds.SOPClassUID]
        url = item["00081190"]["Value"][0]
        back = web.client.get(url, headers={"Accept": "application/dicom"}).content
        assert back[parse_file_meta(back).dataset_offset :] == encoded(ds)


def test_one_instance_without_parts(web):
    ds = image()
    answer = post(web, file_of(ds), content_type="application/dicom")
    assert (answer.status_code, stored(answer)) == (200, [ds.SOPInstanceUID])


def test_a_body_in_chunks_of_any_size(web):
    sent = [image() for _ in range(5)]
    body = body_of(*map(file_of, sent))

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 37):
            yield body[start : start + 37]

    answer = post(web, chunks())
    assert (answer.status_code, len(stored(answer))) == (200, 5)


def test_the_study_of_the_address(web):
    study = new_uid()
    inside, outside = image(StudyInstanceUID=study), image()
    both = post(web, body_of(file_of(inside), file_of(outside)), f"/studies/{study}")
    assert both.status_code == 202
    assert stored(both) == [inside.SOPInstanceUID]
    assert failures(both) == [(outside.SOPInstanceUID, 0xA900)]
    none = post(web, body_of(file_of(outside)), f"/studies/{study}")
    assert none.status_code == 409
    web.index()
    assert (found(web, inside), found(web, outside)) == (1, 0)


def test_the_same_again_is_200_and_other_pixels_are_a_conflict(web):
    ds = image()
    for _ in range(2):
        assert post(web, body_of(file_of(ds))).status_code == 200
        web.index()
    other_name = with_changes(ds, PatientName="Other^Name")
    warned = post(web, body_of(file_of(other_name)))
    assert warned.status_code == 202
    (item,) = items(warned, "00081199")
    assert item["00081196"]["Value"] == [0xB000]
    other = with_changes(ds, PixelData=np.arange(1, 257, dtype="<u2").tobytes())
    elsewhere = with_changes(ds, StudyInstanceUID=new_uid())
    for contradicting in (other, elsewhere):
        refused = post(web, body_of(file_of(contradicting)))
        assert refused.status_code == 409
        assert failures(refused) == [(ds.SOPInstanceUID, 0x0111)]
    web.index()
    states = rows(
        web.engine,
        "SELECT state FROM object WHERE sop_instance_uid = :uid ORDER BY id",
        uid=ds.SOPInstanceUID,
    )
    wanted = ["primary", "duplicate", "duplicate", "conflict", "conflict"]
    assert [state for (state,) in states] == wanted
    assert found(web, ds) == 1


def test_what_is_refused_has_its_reason(web):
    good = image()
    secondary = image(SOPClassUID="1.2.3.4")
    nameless = image()
    del nameless.StudyInstanceUID
    strange = file_of(image()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0")
    answer = post(
        web,
        body_of(file_of(good), file_of(secondary), file_of(nameless), strange, b"", b"no file"),
    )
    assert answer.status_code == 202
    assert stored(answer) == [good.SOPInstanceUID]
    assert failures(answer) == [
        (secondary.SOPInstanceUID, 0x0122),
        (nameless.SOPInstanceUID, 0xC000),
        (None, 0xC122),
        (None, 0xC000),
        (None, 0xC000),
    ]
    alone = post(web, body_of(b"no file"))
    assert (alone.status_code, failures(alone)) == (409, [(None, 0xC000)])


def test_too_large_is_413(web):
    ds = image(PixelData=bytes(25 * 2**20))
    answer = post(web, body_of(file_of(ds)))
    assert answer.status_code == 413
    assert failures(answer) == [(ds.SOPInstanceUID, 0xC0F0)]
    small = image()
    both = post(web, body_of(file_of(ds), file_of(small)))
    assert (both.status_code, stored(both)) == (202, [small.SOPInstanceUID])
    assert not list((web.store_folder / ".tmp").iterdir())


def test_broken_bodies(web):
    first, second = image(), image()
    whole = body_of(file_of(first), file_of(second))
    cut = post(web, whole[:-300])
    assert (cut.status_code, stored(cut)) == (202, [first.SOPInstanceUID])
    assert failures(cut) == [(None, 0xC000)]
    web.index()
    assert (found(web, first), found(web, second)) == (1, 0)
    for body in (whole[:500], b"", b"what is this", b"--XX--"):
        answer = post(web, body)
        assert answer.status_code == 400
        assert "error" in answer.json()
    no_boundary = post(web, whole, content_type='multipart/related; type="application/dicom"')
    assert no_boundary.status_code == 400
    assert not list((web.store_folder / ".tmp").iterdir())


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain; boundary=XX",
        'multipart/related; type="image/jpeg"; boundary=XX',
        "multipart/form-data; boundary=XX",
    ],
)
def test_wrong_types_are_415(web, content_type):
    answer = post(web, body_of(file_of(image())), content_type=content_type)
    assert answer.status_code == 415
    assert "application/dicom" in answer.json()["error"]


def test_parts_of_a_wrong_type_are_415(web):
    answer = post(web, body_of(file_of(image()), content_type="image/jpeg"))
    assert (answer.status_code, failures(answer)) == (415, [(None, 0xC000)])


def test_a_client_that_leaves_leaves_nothing_unfinished(web):
    first, second = image(), image(PixelData=bytes(4 * 2**20))
    whole = body_of(file_of(first), file_of(second))
    url = httpx.URL(web.base)
    head = (
        f"POST {url.path}/studies HTTP/1.1\r\nHost: x\r\nContent-Length: {len(whole)}\r\n"
        'Content-Type: multipart/related; type="application/dicom"; boundary=XX\r\n\r\n'
    )
    with socket.create_connection((url.host, url.port)) as client:
        client.sendall(head.encode() + whole[: len(whole) // 2])
    with socket.create_connection((url.host, url.port)) as client:
        client.sendall(head.encode() + whole[: len(whole) // 2])
        client.settimeout(20)
        assert client.recv(4096).startswith(b"HTTP/1.1 408")  # it waited in vain
    assert not list((web.store_folder / ".tmp").iterdir())
    web.index()
    assert (found(web, first), found(web, second)) == (1, 0)


def test_a_body_that_trickles_in_is_408(web):
    url = httpx.URL(web.base)
    head = (
        f"POST {url.path}/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        'Content-Type: multipart/related; type="application/dicom"; boundary=XX\r\n\r\n'
    )
    with socket.create_connection((url.host, url.port)) as client:
        client.sendall(head.encode() + b"--XX\r\n")
        client.settimeout(0.1)  # a byte now and then, each in time
        answer = b""
        for _ in range(200):
            try:
                answer = client.recv(4096)
                break
            except TimeoutError:
                client.sendall(b"x")
    assert answer.startswith(b"HTTP/1.1 408")


def test_preflight_lets_pages_store(web):
    answer = web.client.options(f"{web.base}/studies", headers={"Origin": "https://viewer.example"})
    assert "POST" in answer.headers["access-control-allow-methods"]


def test_dicomweb_client_stores(web):
    sent = [image() for _ in range(3)]
    for ds in sent:
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    answer = DICOMwebClient(web.base).store_instances(sent)
    referenced = [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence]
    assert referenced == [ds.SOPInstanceUID for ds in sent]


@pytest.mark.long
def test_compressed_and_every_sample_file_in_one_request(web, sample_files):
    """Whatever the front door would take, and a reason for each of the others."""
    compressed = image()
    compressed.file_meta.TransferSyntaxUID = JPEG2000Lossless
    compressed.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f noise"])
    compressed["PixelData"].VR = "OB"
    files = [file_of(compressed), *sample_files]
    answer = post(web, body_of(*files))
    assert answer.status_code == 202
    assert compressed.SOPInstanceUID in stored(answer)
    assert len(stored(answer)) + len(failures(answer)) == len(files)
    assert len(stored(answer)) > 40
    web.index()
    (unreadable,) = rows(web.engine, "SELECT count(*) FROM object WHERE state = 'unreadable'")[0]
    assert unreadable <= len(files) // 20

"""Frames over HTTP: what pydicom reads, in the order asked, as stored or decompressed."""

import io

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from gantry_archive.frame_places import find_frames
from gantry_domain.keys import object_key
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_stores.index import frame_tables
from gantry_stores.index.database import transaction
from gantry_testkit.multipart import parts_of
from gantry_testkit.stored import file_of, image

OHIF = "multipart/related; type=application/octet-stream; transfer-syntax=*"
PLAIN = 'multipart/related; type="application/octet-stream"'
FRAMES = np.arange(3 * 64 * 48, dtype="<u2").reshape(3, 64, 48)


def put(web, ds, syntax=ExplicitVRLittleEndian):
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    (found,) = web.put(file_of(ds))
    return found


def frames_of(web, found, frames, accept):
    answer = web.get(f"{found.path}/frames/{frames}", Accept=accept)
    assert answer.status_code == 200, answer.text
    return parts_of(answer)


def multiframe(**values):
    shape = {"Rows": 64, "Columns": 48, "NumberOfFrames": 3, "PixelData": FRAMES.tobytes()}
    return image(**{**shape, **values})


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
)
def test_frames_in_the_order_asked(web, syntax):
    found = put(web, multiframe(), syntax)
    parts = frames_of(web, found, "3,1,2", PLAIN)
    assert [data for _, data in parts] == [FRAMES[n].tobytes() for n in (2, 0, 1)]
    plain = f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    assert {content_type for content_type, _ in parts} == {plain}
    ((content_type, data),) = frames_of(web, found, "2", OHIF)
    if syntax == RLELossless:
        stored = list(
            generate_frames(
                pydicom.dcmread(io.BytesIO(found.content)).PixelData, number_of_frames=3
            )
        )
        assert data == stored[1]
        assert content_type == f"application/octet-stream; transfer-syntax={RLELossless}"
        rle = frames_of(web, found, "1", 'multipart/related; type="image/dicom-rle"')
        assert rle == [(f"image/dicom-rle; transfer-syntax={RLELossless}", stored[0])]
    else:
        assert data == FRAMES[1].tobytes()
    one = web.get(f"{found.path}/frames/2", Accept="application/octet-stream")
    assert one.content == FRAMES[1].tobytes()
    etag = {"If_None_Match": f'"x", {one.headers["etag"]}'}
    again = web.get(f"{found.path}/frames/2", Accept="application/octet-stream", **etag)
    assert (again.status_code, again.content) == (304, b"")
    assert web.get(f"{found.path}/frames/2", Accept=PLAIN, **etag).status_code == 200


def test_what_is_not_there_or_cannot_be(web):
    found = put(web, multiframe())
    assert web.get(f"{found.path}/frames/1,4").json() == {"error": "there is no such frame"}
    for nonsense in ("0", "x", "1,", "-1", "1.5"):
        answer = web.get(f"{found.path}/frames/{nonsense}")
        assert (answer.status_code, answer.json()["parameter"]) == (400, "frames")
    jpeg = web.get(f"{found.path}/frames/1", Accept='multipart/related; type="image/jpeg"')
    assert jpeg.status_code == 406
    report = image()
    del report.PixelData
    assert web.get(f"{put(web, report).path}/frames/1").status_code == 404


@pytest.mark.parametrize("table", [True, False])
def test_frames_of_several_fragments(web, table):
    jpegs = [b"\xff\xd8" + bytes([n]) * 40 + b"\xff\xd9" for n in range(3)]
    ds = multiframe()
    ds.PixelData = encapsulate(jpegs, fragments_per_frame=4, has_bot=table)
    ds["PixelData"].VR = "OB"
    jpeg_lossless = "1.2.840.10008.1.2.4.70"
    found = put(web, ds, jpeg_lossless)
    parts = frames_of(web, found, "3,1", 'multipart/related; type="image/jpeg"; transfer-syntax=*')
    assert [data for _, data in parts] == [jpegs[2], jpegs[0]]
    assert parts[0][0] == f"image/jpeg; transfer-syntax={jpeg_lossless}"
    assert web.get(f"{found.path}/frames/1", Accept=PLAIN).status_code == 406
    assert web.get(f"{found.path}/frames/4", Accept=OHIF).status_code == 404


def due(web):
    with transaction(web.engine) as connection:
        return {object_id for object_id, _ in frame_tables.due(connection, after=None, limit=100)}


@pytest.fixture
def reads(web, monkeypatch):
    """The ranges that are read of the store."""
    ranges = []
    read = web.store.read

    def counted(key, offset=0, length=None):
        ranges.append((offset, length))
        return read(key, offset, length)

    monkeypatch.setattr(web.store, "read", counted)
    return ranges


def test_a_native_frame_is_one_ranged_read(web, reads):
    found = put(web, multiframe())
    reads.clear()
    assert frames_of(web, found, "2", OHIF)[0][1] == FRAMES[1].tobytes()
    ((_, length),) = reads
    assert length == FRAMES[1].nbytes


def test_frames_in_fragments_are_found_once_by_the_worker(web, reads):
    jpegs = [b"\xff\xd8" + bytes([n]) * 40_000 + b"\xff\xd9" for n in range(3)]
    ds = multiframe()
    ds.PixelData = encapsulate(jpegs)
    ds["PixelData"].VR = "OB"
    before = due(web)
    found = put(web, ds, "1.2.840.10008.1.2.4.70")
    (object_id,) = due(web) - before
    place = web.store_folder / object_key(object_id)
    lost = place.rename(place.with_suffix(".away"))
    find_frames(web.store, web.engine, go_on=lambda: True)
    assert due(web) == {object_id}  # it may come back
    lost.rename(place)
    assert find_frames(web.store, web.engine, go_on=lambda: False) == 0
    assert find_frames(web.store, web.engine, go_on=lambda: True) == 1
    assert find_frames(web.store, web.engine, go_on=lambda: True) == 0
    reads.clear()
    assert frames_of(web, found, "3", OHIF)[0][1] == jpegs[2]
    ((_, length),) = reads
    assert length == len(jpegs[2])


def test_fragments_that_nothing_tells_apart_are_406(web):
    ds = multiframe()
    ds.PixelData = encapsulate([b"a" * 40] * 3, fragments_per_frame=4, has_bot=False)
    ds["PixelData"].VR = "OB"
    found = put(web, ds, "1.2.840.10008.1.2.4.70")
    answer = web.get(f"{found.path}/frames/1", Accept=OHIF)
    assert answer.status_code == 406
    assert "told apart" in answer.json()["error"]


def test_frames_of_bits_that_begin_within_a_byte(web):
    bits = (np.arange(3 * 5 * 5) % 3 == 0).astype(np.uint8).reshape(3, 25)
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    ds = image(
        Rows=5,
        Columns=5,
        NumberOfFrames=3,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelData=packed + b"\0" * (len(packed) % 2),
    )
    ds["PixelData"].VR = "OB"
    found = put(web, ds)
    for n, (_, data) in enumerate(frames_of(web, found, "1,2,3", OHIF)):
        shown = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:25]
        assert np.array_equal(shown, bits[n])


def test_dicomweb_client_reads_frames(web):
    found = put(web, multiframe())
    uids = (found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID)
    frames = DICOMwebClient(web.base).retrieve_instance_frames(*uids, frame_numbers=[2, 3])
    assert frames == [FRAMES[1].tobytes(), FRAMES[2].tobytes()]


@pytest.mark.filterwarnings("ignore")  # pydicom's, of odd files
@pytest.mark.long
def test_frames_of_every_sample(web, sample_files):
    """Native frames are what pydicom reads; others come as stored, or with a reason."""
    compared = 0
    for found in web.put(*sample_files):
        answer = web.get(f"{found.path}/frames/1", Accept=OHIF)
        assert answer.status_code in (200, 404, 406), answer.text
        syntax = TRANSFER_SYNTAXES.get(found.meta.TransferSyntaxUID)
        if answer.status_code != 200 or syntax is None:
            continue
        ((_, data),) = parts_of(answer)
        ds = pydicom.dcmread(io.BytesIO(found.content), force=True)
        if not ds.dir("PixelData"):
            continue  # pydicom does not follow this file to its end
        if not str(ds.get("NumberOfFrames") or 1).isdigit():
            ds.NumberOfFrames = 1
        if syntax.encapsulated:
            count = int(ds.get("NumberOfFrames") or 1)
            assert data == next(generate_frames(ds.PixelData, number_of_frames=count))
        elif ds.BitsAllocated > 1 and "422" not in ds.get("PhotometricInterpretation", ""):
            raw = pixel_array(ds, index=0, raw=True)
            if ds.get("PlanarConfiguration"):
                raw = raw.transpose(2, 0, 1)
            assert data == raw.astype(raw.dtype.newbyteorder("<")).tobytes()
        compared += 1
    assert compared > 40

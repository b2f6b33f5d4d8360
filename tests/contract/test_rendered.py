"""Rendered resources and thumbnails over HTTP: right pictures, and reasons for the others."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless

from gantry_testkit.stored import file_of, image, new_uid


def put(web, ds):
    (found,) = web.put(file_of(ds))
    return found


def picture(web, path, accept="image/png") -> np.ndarray:
    answer = web.get(path, Accept=accept)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == accept
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


VALUES = np.arange(64 * 48, dtype="<u2").reshape(64, 48)


def ramp(**values) -> pydicom.Dataset:
    shape = {"Rows": 64, "Columns": 48, "PixelData": VALUES.tobytes()}
    return image(**{**shape, **values})


@pytest.fixture(scope="module")
def grey(web):
    return put(web, ramp(RescaleSlope="2", RescaleIntercept="-100"))


def linear(x, center, width):
    return np.clip((x - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


def test_a_window_is_that_of_the_standard(web, grey):
    x = VALUES * 2.0 - 100
    shown = picture(web, f"{grey.path}/rendered?window=1000,800,linear")
    assert np.abs(shown - linear(x, 1000, 800)).max() <= 1
    exact = picture(web, f"{grey.path}/rendered?window=1000,800,linear-exact")
    assert np.abs(exact - np.clip((x - 1000) / 800 + 0.5, 0, 1) * 255).max() <= 1
    sigmoid = picture(web, f"{grey.path}/rendered?window=1000,800,SIGMOID")
    assert np.abs(sigmoid - 255 / (1 + np.exp(-4 * (x - 1000) / 800))).max() <= 1
    whole = picture(web, f"{grey.path}/rendered")
    assert (whole.min(), whole.max()) == (0, 255)


def test_the_window_of_the_image_and_inverse_grey(web):
    own = put(web, ramp(WindowCenter=["500", "1"], WindowWidth=["300", "2"]))
    assert np.abs(picture(web, f"{own.path}/rendered") - linear(VALUES, 500, 300)).max() <= 1
    inverse = put(
        web, ramp(WindowCenter="500", WindowWidth="300", PhotometricInterpretation="MONOCHROME1")
    )
    shown = picture(web, f"{inverse.path}/rendered")
    assert np.abs(shown - (255 - linear(VALUES, 500, 300))).max() <= 1


def test_the_window_of_a_frame(web):
    def group(center):
        window, pixel = pydicom.Dataset(), pydicom.Dataset()
        window.WindowCenter, window.WindowWidth = center, 200
        pixel.FrameVOILUTSequence = [window]
        return pixel

    found = put(
        web,
        ramp(
            NumberOfFrames=2,
            PixelData=VALUES.tobytes() * 2,
            PerFrameFunctionalGroupsSequence=[group(300), group(900)],
        ),
    )
    for frame, center in ((1, 300), (2, 900)):
        shown = picture(web, f"{found.path}/frames/{frame}/rendered")
        assert np.abs(shown - linear(VALUES, center, 200)).max() <= 1
    assert web.get(f"{found.path}/frames/3/rendered").status_code == 404
    assert web.get(f"{found.path}/frames/0/rendered").status_code == 400
    several = web.get(
        f"{found.path}/frames/2,1/rendered", Accept='multipart/related; type="image/png"'
    )
    assert several.content.count(b"Content-Type: image/png") == 2
    assert web.get(f"{found.path}/frames/2,1/rendered", Accept="image/png").status_code == 406


def test_viewports(web, grey):
    def size(query):
        return picture(web, f"{grey.path}/rendered?{query}").shape

    assert size("viewport=24,1000") == (32, 24)
    assert size("viewport=96,1000") == (128, 96)
    assert size("viewport=480,20") == (20, 15)
    full = picture(web, f"{grey.path}/rendered?window=1000,9000,linear")
    window = "window=1000,9000,linear"
    part = picture(web, f"{grey.path}/rendered?{window}&viewport=10,20,5,7,10,20")
    assert np.array_equal(part, full[7:27, 5:15])
    mirrored = picture(web, f"{grey.path}/rendered?{window}&viewport=10,20,5,7,-10,-20")
    assert np.array_equal(mirrored, full[7:27, 5:15][::-1, ::-1])
    outside = web.get(f"{grey.path}/rendered?viewport=10,10,100,100,10,10")
    assert (outside.status_code, outside.json()["parameter"]) == (400, "viewport")


def test_thumbnails_at_every_level(web):
    study = new_uid()
    files = [
        file_of(ramp(StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", InstanceNumber=str(n)))
        for n in range(3)
    ]
    found = web.put(*files)
    series = f"/studies/{study}/series/{study}.1"
    for path in (f"/studies/{study}", series, found[0].path, f"{found[0].path}/frames/1"):
        small = picture(web, f"{path}/thumbnail", accept="image/jpeg")
        assert small.shape == (128, 96)
        assert picture(web, f"{path}/thumbnail?viewport=16,16").shape == (16, 12)
        assert picture(web, f"{path}/rendered").shape == (64, 48)
    every = web.get(f"{series}/rendered", Accept='multipart/related; type="image/jpeg"')
    assert every.status_code == 200
    assert every.content.count(b"Content-Type: image/jpeg") == 3


def test_quality_and_versions(web, grey):
    sizes = [
        len(web.get(f"{grey.path}/rendered?quality={quality}").content) for quality in (5, 50, 100)
    ]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    first = web.get(f"{grey.path}/rendered")
    assert first.headers["content-type"] == "image/jpeg"
    etag = first.headers["etag"]
    assert web.get(f"{grey.path}/rendered", If_None_Match=etag).status_code == 304
    assert web.get(f"{grey.path}/rendered?quality=5", If_None_Match=etag).status_code == 200


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("window=1,0,linear", "window"),
        ("window=1", "window"),
        ("window=1,nan,linear", "window"),
        ("window=1,2,cubic", "window"),
        ("viewport=1", "viewport"),
        ("viewport=0,5", "viewport"),
        ("viewport=99999,5", "viewport"),
        ("viewport=x,5", "viewport"),
        ("quality=0", "quality"),
        ("quality=101", "quality"),
    ],
)
def test_nonsense_is_400_by_name(web, grey, query, parameter):
    answer = web.get(f"{grey.path}/rendered?{query}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


def test_colours(web):
    pixels = np.arange(64 * 48 * 3, dtype="u1").reshape(64, 48, 3)
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    ds = ramp(PixelData=pixels.tobytes(), **bits, **rgb)
    assert np.array_equal(picture(web, f"{put(web, ds).path}/rendered"), pixels)
    compressed = ramp(PixelData=pixels.tobytes(), **bits, **rgb)
    compressed.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(picture(web, f"{put(web, compressed).path}/rendered"), pixels)


def test_what_cannot_be_drawn_says_why(web):
    report = image()
    del report.PixelData
    broken = ramp()
    broken.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    broken.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f noise"])
    broken["PixelData"].VR = "OB"
    short = ramp(Rows=4000, Columns=4000)
    for ds, why in (
        (report, "no pixel data"),
        (broken, "JPEG 2000"),
        (short, "cannot be decoded"),
    ):
        found = put(web, ds)
        for path in (found.path, f"/studies/{found.StudyInstanceUID}"):
            for last in ("rendered", "thumbnail"):
                answer = web.get(f"{path}/{last}")
                assert answer.status_code == 406
                assert why in answer.json()["error"]
    assert web.get(f"{found.path}/rendered", Accept="video/mp4").status_code == 406
    assert web.get("/studies/9.9/rendered").status_code == 404


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "examples_palette.dcm", "JPEG2000.dcm"]
)
def test_known_files(web, name):
    path = get_testdata_file(name)
    if path is None:
        pytest.skip(f"pydicom's wheel has no {name}")
    with open(path, "rb") as file:
        found = web.put(file.read())
    shown = picture(web, f"{found[0].path}/rendered")
    ds = pydicom.dcmread(path)
    assert shown.shape[:2] == (ds.Rows, ds.Columns)
    assert shown.std() > 1


@pytest.mark.long
def test_every_sample_gives_a_picture_or_a_reason(web, sample_files):
    drawn = 0
    for found in web.put(*sample_files):
        answer = web.get(f"{found.path}/rendered")
        assert answer.status_code in (200, 406), answer.text
        if answer.status_code == 200:
            Image.open(io.BytesIO(answer.content)).load()
            drawn += 1
        else:
            assert len(answer.json()["error"]) > 20
    assert drawn > 40

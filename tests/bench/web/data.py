"""The data of the benchmark: many small studies, and one CT series of 200 images."""

import random
from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np

from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_testkit.stored import CT_IMAGE, encoded, image

EXPLICIT = "1.2.840.10008.1.2.1"
ROOT = "1.2.826.0.1.3680043.10.1999"
FAMILY = "CHAN WONG LEE LAM CHEUNG HO NG LEUNG CHENG LAU YEUNG TSANG".split()
GIVEN = "TAI SIU MEI WAI KA MING HOI YAN ANNA PETER".split()
MODALITIES = ["CT", "MR", "US", "CR", "DX"]
CT_STUDY, CT_SERIES = f"{ROOT}.7", f"{ROOT}.7.1"


def file_of(**values: object) -> bytes:
    """A DICOM file in Explicit VR Little Endian."""
    ds = image(**values)
    meta = FileMeta(CT_IMAGE, ds.SOPInstanceUID, EXPLICIT, "", "", "")
    return encode_file_meta(meta) + encoded(ds)


def small_studies(number: int) -> Iterator[bytes]:
    """Studies of one small image each, spread over twenty months of 1000 studies."""
    chance = random.Random(1)
    template = file_of(
        SOPInstanceUID=f"{ROOT}.8.00000000.1.1",
        StudyInstanceUID=f"{ROOT}.8.00000000",
        SeriesInstanceUID=f"{ROOT}.8.00000000.1",
        PatientID="P0000000",
        AccessionNumber="A0000000",
        StudyDate="19000101",
        PatientName="N" * 32,
        Modality="ZZ",
    )
    for n in range(number):
        name = f"{chance.choice(FAMILY)}^{chance.choice(GIVEN)}^{chance.choice(GIVEN)}{n % 97}"
        day = date(2023, 1, 1) + timedelta(days=n * 600 // number)
        file = template
        for old, new in (
            (b".8.00000000", b".8.%08d" % (n + 10_000_000)),
            (b"P0000000", b"P%07d" % n),
            (b"A0000000", b"A%07d" % n),
            (b"19000101", day.strftime("%Y%m%d").encode()),
            (b"N" * 32, name.ljust(32).encode()),
            (b"ZZ", chance.choice(MODALITIES).encode()),
        ):
            file = file.replace(old, new)
        yield file


def ct_series(*, study: str = CT_STUDY, number: int = 200, side: int = 512) -> list[bytes]:
    """Images of half a megabyte that look like something."""
    y, x = np.mgrid[:side, :side]
    ball = np.hypot(x - side / 2, y - side / 2)
    noise = np.random.default_rng(1).integers(0, 60, (side, side))
    return [
        file_of(
            StudyInstanceUID=study,
            SeriesInstanceUID=f"{study}.1",
            SOPInstanceUID=f"{study}.1.{n + 1}",
            InstanceNumber=str(n + 1),
            PatientID="BIG",
            StudyDate="20200101",
            Rows=side,
            Columns=side,
            WindowCenter="1000",
            WindowWidth="800",
            RescaleSlope="1",
            RescaleIntercept="0",
            PixelData=(np.clip(1400 - ball * (2 + n / 100), 0, 4095) + noise)
            .astype("<u2")
            .tobytes(),
        )
        for n in range(number)
    ]

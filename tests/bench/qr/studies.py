"""The data: many small studies, and one of large images."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_testkit.stored import CT_IMAGE, encoded, image

ROOT = "1.2.826.0.1.3680043.10.1999.5"
LARGE_STUDY = f"{ROOT}.9"
FAMILY = "CHAN WONG LEE LAM CHEUNG HO NG LEUNG CHENG LAU YEUNG TSANG".split()
GIVEN = "TAI SIU MEI WAI KA MING HOI YAN ANNA PETER".split()
MODALITIES = ["CT", "MR", "US", "CR", "DX"]
DAYS = 600

_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Instance:
    """An image in Explicit VR Little Endian."""

    SOPInstanceUID: str
    data_set: bytes

    @property
    def head(self) -> bytes:
        """Preamble and file meta information."""
        return encode_file_meta(
            FileMeta(CT_IMAGE, self.SOPInstanceUID, EXPLICIT_VR_LITTLE_ENDIAN, "CT01", "GANTRY", "")
        )


def number(n: int) -> str:
    """A number as it is part of identifiers; never with a zero in front, for UIDs."""
    return str(10**_DIGITS + n)


def day(n: int, studies: int) -> date:
    """The date of study number n: as many on each day."""
    return date(2023, 1, 1) + timedelta(days=n * DAYS // studies)


def small(studies: int) -> Iterator[Instance]:
    """An image of 16 by 16 pixels for each study, made by replacing bytes of the same length."""
    chance = random.Random(1)
    nobody = "0" * (_DIGITS + 1)
    template = encoded(
        image(
            SOPInstanceUID=f"{ROOT}.1.{nobody}.1.1",
            StudyInstanceUID=f"{ROOT}.1.{nobody}",
            SeriesInstanceUID=f"{ROOT}.1.{nobody}.1",
            PatientID=f"P{nobody}",
            AccessionNumber=f"A{nobody}",
            StudyDate="19000101",
            PatientName="N" * 32,
            Modality="ZZ",
        )
    )
    for n in range(studies):
        name = f"{chance.choice(FAMILY)}^{chance.choice(GIVEN)} {chance.choice(GIVEN)} {n % 97}"
        content = template
        for old, new in (
            (nobody.encode(), number(n).encode()),
            (b"19000101", f"{day(n, studies):%Y%m%d}".encode()),
            (b"N" * 32, name.ljust(32).encode()),
            (b"ZZ", chance.choice(MODALITIES).encode()),
        ):
            content = content.replace(old, new)
        yield Instance(f"{ROOT}.1.{number(n)}.1.1", content)


def large(images: int, kib: int) -> Iterator[Instance]:
    """The images of one study, of so many KiB each."""
    for n in range(images):
        ds = image(
            StudyInstanceUID=LARGE_STUDY,
            SeriesInstanceUID=f"{LARGE_STUDY}.1",
            SOPInstanceUID=f"{LARGE_STUDY}.1.{n + 1}",
            InstanceNumber=str(n + 1),
            PatientID="LARGE",
            StudyDate="20200101",
            Rows=kib,
            Columns=512,
            PixelData=os.urandom(1024) * kib,
        )
        yield Instance(str(ds.SOPInstanceUID), encoded(ds))

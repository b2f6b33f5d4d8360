"""Small CT files for what is read over HTTP, in any transfer syntax."""

import secrets
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_testkit.stored import file_of


def new_uid() -> str:
    """Short enough for others to be made of it (PS3.5 9.1)."""
    return f"2.25.{secrets.randbits(100)}"


STUDY = new_uid()
PIXELS = np.arange(64 * 48, dtype="<u2").reshape(64, 48)


def make_file(
    syntax: str = ExplicitVRLittleEndian, *, pixels: bool = True, **attributes: Any
) -> bytes:
    """A small CT image; compressed syntaxes other than RLE hold one fragment of noise."""
    ds = pydicom.Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID = new_uid()
    ds.StudyInstanceUID = STUDY
    ds.SeriesInstanceUID = f"{STUDY}.1"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "CHAN^TAI MAN=陳^大文"
    ds.PatientID = "P1"
    ds.Modality = "CT"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    if pixels:
        ds.Rows, ds.Columns = PIXELS.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = PIXELS.tobytes()
        ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax == RLELossless:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(RLELossless, generate_instance_uid=False)
    elif pixels and TRANSFER_SYNTAXES[syntax].encapsulated:
        ds.PixelData = encapsulate([b"\xff\xd8 noise \xff\xd9"])
        ds["PixelData"].VR = "OB"
    elif syntax == ExplicitVRBigEndian and pixels:
        ds.PixelData = PIXELS.byteswap().tobytes()
    return file_of(ds)

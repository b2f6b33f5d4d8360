"""Tiny objects of any storage class in any transfer syntax, all of one series, made by hand."""

import struct
import zlib
from functools import cache

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)

OTHER_CLASS = "1.2.3.4.5"
"""A private one that nobody knows."""

STUDY = "1.2.3"
"""Of all of them."""

_CLASSES = {uid: n for n, uid in enumerate([*STORAGE_CLASSES, OTHER_CLASS])}
_SYNTAXES = {uid: n for n, uid in enumerate(TRANSFER_SYNTAXES)}


def instance_uid(SOPClassUID: str, transfer_syntax: str) -> str:
    """One that names the pair, so that an object cannot be taken for another."""
    return f"1.2.3.{_CLASSES[SOPClassUID]}.{_SYNTAXES[transfer_syntax]}"


@cache
def _body(*, implicit: bool, little: bool, encapsulated: bool) -> bytes:
    ds = Dataset()
    ds.PatientID = "PROBE"
    ds.StudyInstanceUID = STUDY
    ds.SeriesInstanceUID = "1.2.3.5"
    if encapsulated:
        ds.add_new("PixelData", "OB", encapsulate([b"not a real frame"]))
        ds["PixelData"].is_undefined_length = True
    else:
        ds.add_new("PixelData", "OW", bytes(range(16)))
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = little, implicit
    write_dataset(buffer, ds)
    return buffer.getvalue()


def _uid_element(tag: int, uid: str, *, implicit: bool, little: bool) -> bytes:
    """By hand: pydicom would take most of the time of these tests."""
    order = "<" if little else ">"
    value = uid.encode() + b"\0" * (len(uid) % 2)
    head = struct.pack(f"{order}HH", 8, tag)
    if implicit:
        return head + struct.pack(f"{order}L", len(value)) + value
    return head + b"UI" + struct.pack(f"{order}H", len(value)) + value


@cache
def data_set(SOPClassUID: str, transfer_syntax: str) -> bytes:
    """A tiny object in a transfer syntax, of even length."""
    implicit = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    little = transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
    SOPInstanceUID = instance_uid(SOPClassUID, transfer_syntax)
    encapsulated = TRANSFER_SYNTAXES[transfer_syntax].encapsulated
    content = (
        _uid_element(0x0016, SOPClassUID, implicit=implicit, little=little)
        + _uid_element(0x0018, SOPInstanceUID, implicit=implicit, little=little)
        + _body(implicit=implicit, little=little, encapsulated=encapsulated)
    )
    if transfer_syntax not in DEFLATED:
        return content
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = deflater.compress(content) + deflater.flush()
    return content + b"\0" * (len(content) % 2)

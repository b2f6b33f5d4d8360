"""Says where two files differ in value, whatever their encodings, by pydicom's reading of them."""

import io
import warnings
from collections.abc import Iterator
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import ExplicitVRBigEndian

_WORDS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}


def differences(one: bytes, other: bytes) -> list[str]:
    """What differs, by tag, between two PS3.10 files (the second in a little-endian syntax)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = _read(one), _read(other)
        swapped = first.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
        return list(_compare(first, second, "", swapped=swapped))


def _read(content: bytes) -> Dataset:
    ds = dcmread(io.BytesIO(content), force=True)
    ds.walk(lambda _ds, _element: None)  # decodes every element
    return correct_ambiguous_vr(ds, ds.original_encoding[1])


def _compare(one: Dataset, other: Dataset, path: str, *, swapped: bool) -> Iterator[str]:
    tags = {element.tag for element in one} | {element.tag for element in other}
    for tag in sorted(tags):
        if tag.element == 0:  # a group length is of the encoding (PS3.5 7.2)
            continue
        place = f"{path}{tag}"
        if tag not in one or tag not in other:
            yield f"{place} is only in {'the first' if tag in one else 'the second'}"
            continue
        a, b = one[tag], other[tag]
        if a.VR == "SQ" and b.VR == "SQ":
            if len(a.value) != len(b.value):
                yield f"{place} has {len(a.value)} and {len(b.value)} items"
                continue
            for number, (left, right) in enumerate(zip(a.value, b.value, strict=True)):
                yield from _compare(left, right, f"{place}[{number}].", swapped=swapped)
            continue
        left, right = _plain(a, swapped=swapped), _plain(b, swapped=False)
        if left != right:
            yield f"{place} is {a.VR} {left!r:.60} and {b.VR} {right!r:.60}"


def _plain(element: DataElement, *, swapped: bool) -> Any:
    value = element.value
    if isinstance(value, bytes | bytearray):
        size = _WORDS.get(element.VR, 1)
        value = bytes(value)
        if swapped and size > 1:
            value = b"".join(value[i : i + size][::-1] for i in range(0, len(value), size))
        # One byte of padding makes an odd length even (PS3.5 7.1).
        return value.rstrip(b"\0 ") if len(value) < 64 else value
    # Empty is empty, as no value, no text or no list.
    return "" if value is None or value in ("", []) else value

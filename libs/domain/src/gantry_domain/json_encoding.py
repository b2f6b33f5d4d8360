"""A data set of the DICOM JSON model (PS3.18 Annex F) as Explicit VR Little Endian, piece by piece.

Bulk data stay where they are: of each a `BulkPiece` says where in the stream it has its place. Text
is UTF-8. Lengths of sequences and items are undefined, so that no item need be held whole.
"""

from binascii import a2b_base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import Struct, error, pack
from typing import Any

import orjson

from gantry_domain.errors import PermanentError
from gantry_domain.json_model import PN_GROUPS, SINGLE_VALUE_VRS
from gantry_domain.value_representations import (
    BINARY_VRS,
    LONG_VRS,
    PIXEL_DATA,
    SHORT_VRS,
    SPECIFIC_CHARACTER_SET,
)

_UTF_8 = "ISO_IR 192"  # PS3.3 C.12.1.1.2
_DEEPEST = 32
_LONGEST_SHORT = 0xFFFE
_UNDEFINED = 0xFFFFFFFF
_NUMBERS = {
    "US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "SV": "q", "UV": "Q",
}  # fmt: skip
_HEAD = Struct("<HH2s")
_SHORT = Struct("<H")
_LONG = Struct("<L")
_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_END = b"\xfe\xff\x0d\xe0" + bytes(4)
_SEQUENCE_END = b"\xfe\xff\xdd\xe0" + bytes(4)


class BadDocument(PermanentError):
    """What cannot be made a data set. The text names the attribute and holds no value."""

    def __init__(self, tag: str, why: str) -> None:
        super().__init__(f"({tag[:4]},{tag[4:]}) {why}" if tag else why)


@dataclass(frozen=True, slots=True)
class BulkData:
    """A value that is kept elsewhere: the sizes of its parts in bytes. `encapsulated`: each part is
    a compressed frame (PS3.5 A.4)."""

    sizes: tuple[int, ...]
    encapsulated: bool = False


@dataclass(frozen=True, slots=True)
class BulkPiece:
    """Here the part with this number of the bulk data with this URI has its place."""

    uri: str
    number: int


def references(document: Mapping[str, Any], *, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Tag and BulkDataURI of each value that is kept elsewhere. Raises `BadDocument`."""
    for tag, element in document.items():
        if not isinstance(element, Mapping):
            raise BadDocument(_name(tag), "is no element")
        uri = element.get("BulkDataURI")
        if isinstance(uri, str):
            yield tag, uri
        elif element.get("vr") == "SQ":
            for item in _items(tag, element, depth):
                yield from references(item, depth=depth + 1)


def encode_document(
    document: Mapping[str, Any], bulk: Mapping[str, BulkData]
) -> Iterator[bytes | BulkPiece]:
    """The data set; `bulk` has what it refers to. Raises `BadDocument`.

    (0008,0005) says UTF-8 wherever it is needed. File meta information and group lengths are left
    out.
    """
    plain = orjson.dumps(document).isascii()
    if not plain or "00080005" in document:
        document = {**document, "00080005": {"vr": "CS", "Value": [_UTF_8]}}
    yield from _elements(document, bulk, 0)


def _elements(
    document: Mapping[str, Any], bulk: Mapping[str, BulkData], depth: int
) -> Iterator[bytes | BulkPiece]:
    for name in sorted(document, key=_tag):
        tag, element = _tag(name), document[name]
        if tag >> 16 in (0x0000, 0x0002) or not tag & 0xFFFF:
            continue
        if depth and tag == SPECIFIC_CHARACTER_SET:
            continue  # that of the whole data set
        vr = element.get("vr") if isinstance(element, Mapping) else None
        if vr not in SHORT_VRS and vr not in LONG_VRS:
            raise BadDocument(name, "has no value representation")
        if vr == "SQ":
            yield _long_head(tag, vr, _UNDEFINED)
            for item in _items(name, element, depth):
                yield _ITEM + _LONG.pack(_UNDEFINED)
                yield from _elements(item, bulk, depth + 1)
                yield _ITEM_END
            yield _SEQUENCE_END
        elif "BulkDataURI" in element:
            yield from _bulk(name, tag, vr, element["BulkDataURI"], bulk)
        else:
            yield _element(name, tag, vr, element)


def _tag(name: str) -> int:
    if len(name) != 8:
        raise BadDocument("", "an attribute has no tag of eight digits")
    try:
        return int(name, 16)
    except ValueError as wrong:
        raise BadDocument("", "an attribute has no tag of eight digits") from wrong


def _name(tag: str) -> str:
    """The tag, if it is one, for the text of an error."""
    return f"{_tag(tag):08X}"


def _items(name: str, element: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    if depth >= _DEEPEST:
        raise BadDocument(_name(name), "is nested too deeply")
    items = element.get("Value", [])
    if not isinstance(items, list):
        raise BadDocument(_name(name), "has no list of items")
    for item in items:
        if item is not None and not isinstance(item, Mapping):
            raise BadDocument(_name(name), "has an item that is none")
        yield item or {}


def _bulk(
    name: str, tag: int, vr: str, uri: object, bulk: Mapping[str, BulkData]
) -> Iterator[bytes | BulkPiece]:
    found = bulk.get(uri) if isinstance(uri, str) else None
    if found is None or not isinstance(uri, str):
        raise BadDocument(name, "refers to bulk data that are not there")
    if found.encapsulated:
        if tag != PIXEL_DATA:
            raise BadDocument(name, "is no pixel data, and cannot be compressed")
        # The first item is the offset table, which may be empty (PS3.5 A.4).
        yield _long_head(tag, "OB", _UNDEFINED) + _ITEM + _LONG.pack(0)
        for number, size in enumerate(found.sizes):
            if size > _UNDEFINED - 2:
                raise BadDocument(name, "has a frame that is too long")
            yield _ITEM + _LONG.pack(size + size % 2)
            yield BulkPiece(uri, number)
            if size % 2:
                yield b"\0"
        yield _SEQUENCE_END
        return
    size = sum(found.sizes)
    if size > _UNDEFINED - 2:
        raise BadDocument(name, "is too long")
    if vr in LONG_VRS:
        yield _long_head(tag, vr, size + size % 2)
    else:
        yield _short_head(tag, vr, size + size % 2)
    for number in range(len(found.sizes)):
        yield BulkPiece(uri, number)
    if size % 2:
        yield b"\0"


def _element(name: str, tag: int, vr: str, element: Mapping[str, Any]) -> bytes:
    try:
        value = _value(vr, element)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, error) as wrong:
        raise BadDocument(name, f"has a value that is no {vr}") from wrong
    if len(value) % 2:
        value += b"\0" if vr == "UI" or vr in BINARY_VRS else b" "  # PS3.5 6.2
    if vr in LONG_VRS:
        return _long_head(tag, vr, len(value)) + value
    return _short_head(tag, vr, len(value)) + value


def _long_head(tag: int, vr: str, length: int) -> bytes:
    return _HEAD.pack(tag >> 16, tag & 0xFFFF, vr.encode()) + b"\0\0" + _LONG.pack(length)


def _short_head(tag: int, vr: str, length: int) -> bytes:
    if length > _LONGEST_SHORT:  # PS3.5 6.2.2, Note 2
        return _long_head(tag, "UN", length)
    return _HEAD.pack(tag >> 16, tag & 0xFFFF, vr.encode()) + _SHORT.pack(length)


def _value(vr: str, element: Mapping[str, Any]) -> bytes:
    if vr in BINARY_VRS:
        return a2b_base64(element.get("InlineBinary", ""), strict_mode=True)
    values = element.get("Value", [])
    if not isinstance(values, list):
        raise TypeError("values are a list")
    if vr == "AT":
        tags = [int(text, 16) for text in values]
        return b"".join(pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)
    if vr in _NUMBERS:
        # Text where JSON has no such number (PS3.18 F.2.3).
        convert = float if vr in ("FL", "FD") else int
        return pack(f"<{len(values)}{_NUMBERS[vr]}", *map(convert, values))
    texts = ["" if value is None else _text(vr, value) for value in values]
    if len(texts) > 1 and vr in SINGLE_VALUE_VRS:
        raise ValueError("there is one value at most")
    if vr not in SINGLE_VALUE_VRS and any("\\" in text for text in texts):
        raise ValueError("a value holds what divides values")
    return "\\".join(texts).encode()


def _text(vr: str, value: Any) -> str:
    if vr == "PN":
        name = {"Alphabetic": value} if isinstance(value, str) else value
        return "=".join(name.get(group, "") for group in PN_GROUPS).rstrip("=")
    if vr in ("IS", "DS") and isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value)
        return text if len(text) <= 16 or vr == "IS" else f"{value:.9g}"
    if not isinstance(value, str):
        raise TypeError("text is a string")
    return value

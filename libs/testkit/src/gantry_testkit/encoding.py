"""Encoded objects put together by hand, element by element, sound or not."""

import struct
from collections.abc import Iterable

from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.header import Header, read_header
from gantry_domain.sources import fetch_from
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN

IDENTITY = {
    0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
    0x00080018: ("UI", b"1.2.3\0"),
    0x0020000D: ("UI", b"1.2.4\0"),
    0x0020000E: ("UI", b"1.2.5\0"),
}
"""What an object must have to be indexed: tag to VR and value."""

_LONG = ("OB", "OW", "SQ", "UN", "UT", "UC", "OF")


def explicit(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian; `length` is declared instead of its own."""
    length = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in _LONG:
        return head + struct.pack("<HL", 0, length) + value
    return head + struct.pack("<H", length) + value


def implicit(tag: int, value: bytes) -> bytes:
    """An element in Implicit VR Little Endian."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def item(content: bytes) -> bytes:
    """An item of a sequence."""
    return implicit(0xFFFEE000, content)


def stored(dataset: bytes, transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    """A data set behind file meta information, as it lies in the store."""
    meta = FileMeta("1.2", "1.2.3", transfer_syntax, "CT01", "GANTRY", "main")
    return encode_file_meta(meta) + dataset


def instance(elements: Iterable[tuple[int, str, bytes]] = (), tail: bytes = b"") -> bytes:
    """An object with its UIDs and further elements (tag, VR, value), in order."""
    every = {**IDENTITY, **{tag: (vr, value) for tag, vr, value in elements}}
    encoded = b"".join(explicit(tag, vr, value) for tag, (vr, value) in sorted(every.items()))
    return stored(encoded + tail)


def read(data: bytes, *, default_charset: str | None = None) -> Header:
    """Its header. Raises `UnreadableObject`."""
    return read_header(fetch_from(data), size=len(data), default_charset=default_charset)


def rules(header: Header) -> list[tuple[str, str | None]]:
    """What was found: rules with their tags."""
    return [(finding.rule, finding.tag) for finding in header.findings]

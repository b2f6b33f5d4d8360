"""The head of a stored DICOM file: preamble, DICM and the file meta information (PS3.10 7.1).

    0          128    132                                           dataset_offset
    | preamble | DICM | (0002,0000) .. (0002,0102), Explicit VR LE | the data set as sent ...

Who sent the object, to which of our names, and into which partition stand in the file itself, so
that the store alone is enough to rebuild the index.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from gantry_domain.errors import UnreadableObject
from gantry_domain.transfer_syntaxes import DEFLATED

# UIDs derived from UUIDs (PS3.5 B.2): nobody else's, and no registration needed.
IMPLEMENTATION_CLASS_UID = "2.25.317702155131172507265403674914374570193"
PRIVATE_INFORMATION_CREATOR_UID = "2.25.167212672502944280960648866527174755242"
IMPLEMENTATION_VERSION_NAME = "GANTRY_0_1"

PREAMBLE_SIZE = 128
_MAGIC = b"DICM"
_LONG_VRS = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"UC", b"UR", b"SQ"))
_IMPLICIT = Struct("<HHL")
_EXPLICIT = Struct("<HH2sH")
_ULONG = Struct("<L")

# PS3.10 Table 7.1-1
_GROUP_LENGTH = 0x0000
_VERSION = 0x0001
_SOP_CLASS = 0x0002
_SOP_INSTANCE = 0x0003
_TRANSFER_SYNTAX = 0x0010
_IMPLEMENTATION_CLASS = 0x0012
_IMPLEMENTATION_VERSION = 0x0013
_SOURCE_AE = 0x0016
_SENDING_AE = 0x0017
_RECEIVING_AE = 0x0018
_PRIVATE_CREATOR = 0x0100
_PRIVATE_INFORMATION = 0x0102


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the file meta information says; an absent element is an empty string.

    The UIDs are those of the C-STORE request (or the STOW-RS part), AE titles without padding.
    """

    MediaStorageSOPClassUID: str
    MediaStorageSOPInstanceUID: str
    TransferSyntaxUID: str
    calling_ae: str
    receiving_ae: str
    partition: str


@dataclass(frozen=True, slots=True)
class ParsedFileMeta:
    """File meta information and the offset of the first byte of the data set in the file."""

    meta: FileMeta
    dataset_offset: int


def encode_file_meta(meta: FileMeta) -> bytes:
    """Preamble, DICM and group 0002 in Explicit VR Little Endian (PS3.10 7.1).

    Text that is not of the default repertoire survives as ISO 8859-1 or becomes `?`: a sender's
    odd AE title is no reason to refuse its images.
    """
    elements = [
        _element(_VERSION, b"OB", b"\x00\x01"),
        _element(_SOP_CLASS, b"UI", _text(meta.MediaStorageSOPClassUID)),
        _element(_SOP_INSTANCE, b"UI", _text(meta.MediaStorageSOPInstanceUID)),
        _element(_TRANSFER_SYNTAX, b"UI", _text(meta.TransferSyntaxUID)),
        _element(_IMPLEMENTATION_CLASS, b"UI", _text(IMPLEMENTATION_CLASS_UID)),
        _element(_IMPLEMENTATION_VERSION, b"SH", _text(IMPLEMENTATION_VERSION_NAME)),
    ]
    if meta.calling_ae:
        elements.append(_element(_SOURCE_AE, b"AE", _text(meta.calling_ae)))
        elements.append(_element(_SENDING_AE, b"AE", _text(meta.calling_ae)))
    if meta.receiving_ae:
        elements.append(_element(_RECEIVING_AE, b"AE", _text(meta.receiving_ae)))
    if meta.partition:
        elements.append(_element(_PRIVATE_CREATOR, b"UI", _text(PRIVATE_INFORMATION_CREATOR_UID)))
        elements.append(_element(_PRIVATE_INFORMATION, b"OB", meta.partition.encode()))
    group = b"".join(elements)
    length = _element(_GROUP_LENGTH, b"UL", _ULONG.pack(len(group)))
    return b"".join((bytes(PREAMBLE_SIZE), _MAGIC, length, group))


def parse_file_meta(prefix: bytes) -> ParsedFileMeta:
    """Read the file meta information from the first bytes of a file; 64 KiB are plenty.

    Tolerates a missing preamble, wrong or missing group length, implicit VR, odd lengths and
    zeros between the file meta information and the data set. Raises `UnreadableObject` with the
    reason `no_file_meta`, `file_meta_truncated` or `missing_transfer_syntax`.
    """
    if prefix[PREAMBLE_SIZE : PREAMBLE_SIZE + 4] == _MAGIC:
        start = PREAMBLE_SIZE + 4
    elif prefix[:4] == _MAGIC:
        start = 4
    elif prefix[:2] == b"\x02\x00":
        start = 0
    else:
        raise UnreadableObject("no_file_meta")
    values: dict[int, bytes] = {}
    declared_end: int | None = None
    position = start
    for element, value, after in _walk(prefix, start):
        values.setdefault(element, value)
        position = after
        if element == _GROUP_LENGTH and len(value) == _ULONG.size:
            declared_end = after + _ULONG.unpack(value)[0]
        # A deflated data set can begin with any bytes, those of group 0002 too.
        if position == declared_end and _first_value(values, _TRANSFER_SYNTAX) in DEFLATED:
            break
    if not values:
        raise UnreadableObject("no_file_meta")
    transfer_syntax = _first_value(values, _TRANSFER_SYNTAX)
    if not transfer_syntax:
        raise UnreadableObject("missing_transfer_syntax")
    if (
        declared_end is not None
        and position < declared_end <= len(prefix)
        and not any(prefix[position:declared_end])
    ):
        position = declared_end
    partition = ""
    if _first_value(values, _PRIVATE_CREATOR) == PRIVATE_INFORMATION_CREATOR_UID:
        partition = values.get(_PRIVATE_INFORMATION, b"").rstrip(b"\0").decode(errors="replace")
    meta = FileMeta(
        MediaStorageSOPClassUID=_first_value(values, _SOP_CLASS),
        MediaStorageSOPInstanceUID=_first_value(values, _SOP_INSTANCE),
        TransferSyntaxUID=transfer_syntax,
        calling_ae=_first_value(values, _SENDING_AE) or _first_value(values, _SOURCE_AE),
        receiving_ae=_first_value(values, _RECEIVING_AE),
        partition=partition,
    )
    return ParsedFileMeta(meta, position)


def _text(value: str) -> bytes:
    return value.encode("latin-1", errors="replace")


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b" " if vr in (b"AE", b"SH") else b"\0"
    if vr in _LONG_VRS:
        return _EXPLICIT.pack(2, element, vr, 0) + _ULONG.pack(len(value)) + value
    return _EXPLICIT.pack(2, element, vr, len(value)) + value


def _walk(prefix: bytes, position: int) -> Iterator[tuple[int, bytes, int]]:
    """The elements of group 0002: number, value, offset after it."""
    while position + 8 <= len(prefix):
        group, element, vr, length = _EXPLICIT.unpack_from(prefix, position)
        if group != 2:
            return
        if vr in _LONG_VRS:
            if position + 12 > len(prefix):
                raise UnreadableObject("file_meta_truncated")
            (length,) = _ULONG.unpack_from(prefix, position + 8)
            position += 12
        else:
            if not (vr.isalpha() and vr.isupper()):
                (_, _, length) = _IMPLICIT.unpack_from(prefix, position)
            position += 8
        if position + length > len(prefix):
            raise UnreadableObject("file_meta_truncated")
        yield element, prefix[position : position + length], position + length
        position += length


def _first_value(values: dict[int, bytes], element: int) -> str:
    """The first value of a short text element without padding."""
    return values.get(element, b"").split(b"\\")[0].strip(b"\0 ").decode("latin-1")

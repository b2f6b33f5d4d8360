"""The directory of a file-set: the file DICOMDIR (PS3.10 8.6, PS3.3 Annex F).

    file meta | File-set ID, offsets | Directory Record Sequence: PATIENT STUDY SERIES IMAGE ...

Records are encoded as they are added, and each is followed by those below it. Where they stand is
known when all are there; then the offsets that tie them together are filled in.
"""

from collections.abc import Iterator, Sequence
from struct import Struct

from gantry_domain.charset_encoding import ASCII_ENCODER, UTF_8_ENCODER, TextEncoder
from gantry_domain.directory_records import (
    PATIENT,
    SERIES,
    STUDY,
    Document,
    has_value,
    record_keys,
    record_type,
)
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.identifier_encoding import encode_data_set, encode_text_element
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
DICOMDIR = "DICOMDIR"

_RECORD_TYPE = 0x00041430
_FILE_SET_ID = 0x00041130
_SPECIFIC_CHARACTER_SET = 0x00080005
_IN_USE = 0xFFFF
_PATIENT_ID, _STUDY_UID, _SERIES_UID = "00100020", "0020000D", "0020000E"

_SHORT = Struct("<HH2sHH")
_LONG = Struct("<HH2sHL")
_SEQUENCE = Struct("<HH2sHL")
_ITEM = Struct("<HHL")
# (0004,1400), (0004,1410), (0004,1420): next record, in use, first record below.
_LINKS = 2 * _LONG.size + _SHORT.size


class _Record:
    """A record and those below it. `offset`: of its item in the file."""

    __slots__ = ("below", "body", "offset")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.below: dict[str, _Record] = {}
        self.offset = 0

    @property
    def size(self) -> int:
        """Bytes of the item with its header."""
        return _ITEM.size + _LINKS + len(self.body)


class Directory:
    """The records of a file-set."""

    def __init__(self, file_set_id: str) -> None:
        self._id = file_set_id
        self._patients: dict[str, _Record] = {}
        self._unknown: dict[str, str] = {}

    def add(
        self,
        attributes: Document,
        *,
        file_id: Sequence[str],
        SOPClassUID: str,
        SOPInstanceUID: str,
        TransferSyntaxUID: str,
    ) -> None:
        """An instance with these attributes (text in UTF-8) in the file with this ID."""
        if not has_value(attributes.get(_PATIENT_ID)):
            attributes = {**attributes, _PATIENT_ID: self._supplied_id(attributes)}
        level = self._patients
        for kind, tag in ((PATIENT, _PATIENT_ID), (STUDY, _STUDY_UID), (SERIES, _SERIES_UID)):
            keys = record_keys(kind, attributes)
            level = level.setdefault(str(keys[tag]["Value"][0]), _Record(_body(kind, keys))).below
        kind = record_type(SOPClassUID)
        referenced = {
            "00041500": {"vr": "CS", "Value": list(file_id)},
            "00041510": {"vr": "UI", "Value": [SOPClassUID]},
            "00041511": {"vr": "UI", "Value": [SOPInstanceUID]},
            "00041512": {"vr": "UI", "Value": [TransferSyntaxUID]},
        }
        body = _body(kind, record_keys(kind, attributes), referenced)
        level[SOPInstanceUID] = _Record(body)

    def _supplied_id(self, attributes: Document) -> Document:
        """A Patient ID of its own for each study without one: it says who is who (PS3.3 F.5.1)."""
        study = str(attributes[_STUDY_UID]["Value"][0])
        number = len(self._unknown) + 1
        return {"vr": "LO", "Value": [self._unknown.setdefault(study, f"UNKNOWN{number}")]}

    def encode(self, SOPInstanceUID: str) -> Iterator[bytes]:
        """The file, with this UID of its own."""
        meta = encode_file_meta(
            FileMeta(
                MediaStorageSOPClassUID=MEDIA_STORAGE_DIRECTORY,
                MediaStorageSOPInstanceUID=SOPInstanceUID,
                TransferSyntaxUID=EXPLICIT_VR_LITTLE_ENDIAN,
                calling_ae="",
                receiving_ae="",
                partition="",
            )
        )
        head = _text(_FILE_SET_ID, self._id)
        start = len(meta) + len(head) + 2 * _LONG.size + _SHORT.size + _SEQUENCE.size
        end = _place(self._patients, start)
        patients = list(self._patients.values())
        yield meta
        yield head
        yield _LONG.pack(0x0004, 0x1200, b"UL", 4, patients[0].offset if patients else 0)
        yield _LONG.pack(0x0004, 0x1202, b"UL", 4, patients[-1].offset if patients else 0)
        yield _SHORT.pack(0x0004, 0x1212, b"US", 2, 0)
        yield _SEQUENCE.pack(0x0004, 0x1220, b"SQ", 0, end - start)
        yield from _items(self._patients)


def _place(records: dict[str, _Record], offset: int) -> int:
    """Give each of these, and all below, its place from `offset` on; the place after them."""
    for record in records.values():
        record.offset = offset
        offset = _place(record.below, offset + record.size)
    return offset


def _items(records: dict[str, _Record]) -> Iterator[bytes]:
    ordered = list(records.values())
    for number, record in enumerate(ordered, start=1):
        after = ordered[number].offset if number < len(ordered) else 0
        below = next(iter(record.below.values())).offset if record.below else 0
        yield b"".join(
            (
                _ITEM.pack(0xFFFE, 0xE000, _LINKS + len(record.body)),
                _LONG.pack(0x0004, 0x1400, b"UL", 4, after),
                _SHORT.pack(0x0004, 0x1410, b"US", 2, _IN_USE),
                _LONG.pack(0x0004, 0x1420, b"UL", 4, below),
                record.body,
            )
        )
        yield from _items(record.below)


def _body(kind: str, keys: Document, referenced: Document | None = None) -> bytes:
    """What follows the links of a record."""
    charset = b""
    try:
        encoded = _encoded(keys, ASCII_ENCODER)
    except UnicodeEncodeError:
        encoded = _encoded(keys, UTF_8_ENCODER)
        charset = _text(_SPECIFIC_CHARACTER_SET, UTF_8_ENCODER.terms)
    return b"".join(
        (_text(_RECORD_TYPE, kind), _encoded(referenced or {}, ASCII_ENCODER), charset, encoded)
    )


def _encoded(document: Document, encoder: TextEncoder) -> bytes:
    return encode_data_set(document, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN, encoder=encoder)


def _text(tag: int, value: str) -> bytes:
    return encode_text_element(tag, "CS", value, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN)

"""Instances that a client stores as metadata and bulk data (PS3.18 10.5.1, 8.6.1.2).

    first part: metadata, DICOM JSON ──────────────┐
    other parts: bulk data ──▶ spool, by location ─┴─▶ data sets, one after the other ──▶ Staging

The data sets are composed when all has come: in Explicit VR Little Endian, or, where pixel data are
compressed, in the transfer syntax that their parts name.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gantry_archive.staging import Provenance, Refusal, Refused
from gantry_domain.errors import PermanentError
from gantry_domain.json_encoding import (
    BadDocument,
    BulkData,
    BulkPiece,
    encode_document,
    references,
)
from gantry_domain.prefix import Identification
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)
from gantry_domain.value_representations import PIXEL_DATA
from gantry_query.bulk_spool import BulkSpool, SpooledPart, SpoolTooLarge
from gantry_query.multipart_reading import BrokenMultipart, MultipartReader, PartBegins, PartEnds
from gantry_query.negotiation import DICOM_JSON, JSON, OCTET_STREAM, parse_accept
from gantry_query.reception import MOST_INSTANCES, Outcome, StoreDoor, Unsupported
from gantry_stores.objects import StoreFull

LARGEST_METADATA = 8 * 2**20
LARGEST_BULK = 4 * 2**30
_SMALL = 256 * 1024

# PS3.18 Table 8.7.3-5; JPEG is not among them, for its default there is one that few mean.
_DEFAULT_SYNTAXES = {
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jpx": "1.2.840.10008.1.2.4.92",
}


class MetadataReception:
    """The body of one request. Used by one thread at a time, ended by `finish` or `abort`."""

    def __init__(
        self, door: StoreDoor, *, partition: str, StudyInstanceUID: str, boundary: str
    ) -> None:
        """The UID may be empty. Raises `BrokenMultipart`."""
        self._door = door
        self._partition = partition
        self._study = StudyInstanceUID
        self._reader = MultipartReader(boundary)
        self._metadata = bytearray()
        self._spool = BulkSpool(LARGEST_BULK, door.spool)
        self._parts = 0
        self._full: Refused | None = None
        self.broken: BrokenMultipart | None = None
        """Why the body could not be read."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; what comes after the body broke is discarded."""
        if self.broken is not None or self._full is not None:
            return
        try:
            for event in self._reader.feed(data):
                match event:
                    case PartBegins(headers=headers):
                        self._begin(headers)
                    case PartEnds():
                        pass
                    case piece:
                        self._write(piece)
        except BrokenMultipart as error:
            self.broken = error
        except StoreFull:
            self._full = Refused(Refusal.STORE_FULL, "there is no room for bulk data")
        except SpoolTooLarge:
            self._full = Refused(Refusal.TOO_LARGE, f"more than {LARGEST_BULK} bytes of bulk data")

    def _begin(self, headers: Mapping[str, str]) -> None:
        self._parts += 1
        content_type = headers.get("content-type", OCTET_STREAM)
        if self._parts == 1:
            ranges = parse_accept(content_type)
            if not ranges or ranges[0].type not in (DICOM_JSON, JSON):
                raise BrokenMultipart(f"its first part is not {DICOM_JSON}")
        elif self._parts > MOST_INSTANCES:
            raise BrokenMultipart(f"it has more than {MOST_INSTANCES} parts")
        else:
            self._spool.begin(headers.get("content-location", ""), content_type)

    def _write(self, piece: memoryview) -> None:
        if self._parts > 1:
            self._spool.write(piece)
            return
        if len(self._metadata) + len(piece) > LARGEST_METADATA:
            raise BrokenMultipart(f"its metadata are larger than {LARGEST_METADATA} bytes")
        self._metadata += piece

    def finish(self) -> Iterator[Outcome]:
        """The body is complete: what became of its instances, in their order."""
        try:
            if self.broken is None and self._full is None:
                try:
                    self._reader.close()
                except BrokenMultipart as error:
                    self.broken = error
            documents = [] if self.broken is not None else self._documents()
            for document in documents:
                yield self._store(document)
        finally:
            self.abort()

    def abort(self) -> None:
        """Nothing stays of what came."""
        self._spool.close()

    def _documents(self) -> list[Any]:
        try:
            documents = orjson.loads(self._metadata)
        except orjson.JSONDecodeError:
            documents = None
        self._metadata.clear()
        if not isinstance(documents, list):
            if self._full is None:
                self.broken = BrokenMultipart("its metadata are no list of data sets in JSON")
            return []
        return documents

    def _store(self, document: Any) -> Outcome:
        found = _identification(document)
        if self._full is not None:
            return Outcome(self._full, found)
        if not isinstance(document, dict):
            return Outcome(Refused(Refusal.UNREADABLE, "it is no data set"), None)
        try:
            bulk, syntax = self._bulk(document)
            pieces = encode_document(document, bulk)
            return self._stage(pieces, syntax)
        except BadDocument as error:
            return Outcome(Refused(Refusal.UNREADABLE, str(error)[:64]), found)
        except _NotStored as error:
            return Outcome(Unsupported(True, str(error)), found)

    def _stage(self, pieces: Iterator[bytes | BulkPiece], syntax: str) -> Outcome:
        staging = self._door.stager.begin(
            Provenance(
                calling_ae="",
                receiving_ae="",
                partition=self._partition,
                transfer_syntax=syntax,
                StudyInstanceUID=self._study,
                storage_classes=self._door.storage_classes,
            )
        )
        try:
            small = bytearray()
            for piece in pieces:
                if isinstance(piece, bytes):
                    small += piece
                    if len(small) < _SMALL:
                        continue
                staging.write(memoryview(bytes(small)))
                small.clear()
                if isinstance(piece, BulkPiece):
                    for chunk in self._spool.read(self._spool.parts[piece.uri][piece.number]):
                        staging.write(memoryview(chunk))
            staging.write(memoryview(bytes(small)))
        except BaseException:  # nothing half made stays, whatever ended it
            staging.abort()
            raise
        return Outcome(staging.finish(), staging.found)

    def _bulk(self, document: Mapping[str, Any]) -> tuple[dict[str, BulkData], str]:
        """What the document refers to, and the transfer syntax of the whole."""
        bulk: dict[str, BulkData] = {}
        syntax = EXPLICIT_VR_LITTLE_ENDIAN
        # Some clients say it of the instance and not of the part.
        assumed = _uid(document, "00083002") or _uid(document, "00020010")
        for tag, uri in references(document):
            parts = self._spool.parts.get(uri)
            if parts is None:
                raise BadDocument(tag, "refers to bulk data that are not there")
            own = _syntax_of(parts, assumed)
            encapsulated = own is not None and tag == f"{PIXEL_DATA:08X}"
            if encapsulated and own is not None:
                syntax = own
            bulk[uri] = BulkData(tuple(part.size for part in parts), encapsulated)
        return bulk, syntax


class _NotStored(PermanentError):
    """Pixel data in a transfer syntax that nobody names, or that is not stored."""


def _syntax_of(parts: list[SpooledPart], assumed: str | None) -> str | None:
    """The syntax in which the parts are compressed; None: they are not."""
    found = {_part_syntax(part, assumed) for part in parts}
    if len(found) > 1:
        raise _NotStored("its pixel data are in several transfer syntaxes")
    return found.pop()


def _part_syntax(part: SpooledPart, assumed: str | None) -> str | None:
    ranges = parse_accept(part.content_type)
    if not ranges:
        return None
    media_type, named = ranges[0].type, ranges[0].syntax
    if media_type == OCTET_STREAM and named is None:
        return None
    if not media_type.startswith(("image/", "video/", OCTET_STREAM)):
        return None  # a document, say application/pdf: bytes like others
    syntax = TRANSFER_SYNTAXES.get(named or assumed or _DEFAULT_SYNTAXES.get(media_type, ""))
    if syntax is None:
        raise _NotStored("the transfer syntax of its pixel data is not named, or not known")
    if syntax.encapsulated:
        return syntax.uid
    if syntax.uid in (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN):
        return None
    raise _NotStored("its pixel data are in a transfer syntax that is not taken in parts")


def _identification(document: Any) -> Identification | None:
    """Who a document says that it is."""
    if not isinstance(document, dict):
        return None
    return Identification(
        SOPClassUID=_uid(document, "00080016"),
        SOPInstanceUID=_uid(document, "00080018"),
        StudyInstanceUID=_uid(document, "0020000D"),
        SeriesInstanceUID=_uid(document, "0020000E"),
        has_patient_id=False,
        missing=(),
        exhausted=False,
        broken=None,
    )


def _uid(document: Mapping[str, Any], tag: str) -> str | None:
    element = document.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    if isinstance(values, list) and values and isinstance(values[0], str):
        return values[0][:64]
    return None

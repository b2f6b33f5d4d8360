"""Whether two objects of one SOP Instance UID are the same content, whatever their encoding.

Each is digested on its own, streaming; then two digests are related. Of no weight are implicit or
explicit VR, byte order, deflation, padding, group lengths, the character set's encoding, defined
or undefined lengths of sequences, offset tables and the cutting of pixel data into fragments.
"""

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from gantry_domain.attributes import Level, attributes_at
from gantry_domain.charset import Charset, charset_of
from gantry_domain.dictionary import KEYWORDS
from gantry_domain.elements import (
    ELEMENT,
    FRAGMENT,
    FRAGMENTS_START,
    ITEM_END,
    ITEM_START,
    SEQUENCE_END,
    SEQUENCE_START,
    Event,
    Walk,
    walk_dataset,
)
from gantry_domain.json_model import SINGLE_VALUE_VRS, little_endian
from gantry_domain.sources import Fetch
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES, PixelEncoding
from gantry_domain.value_representations import (
    PIXEL_DATA_TAGS,
    SPECIFIC_CHARACTER_SET,
    WORD_SIZES,
    vr_of,
)


def _tags(*keywords: str) -> frozenset[int]:
    return frozenset(KEYWORDS[keyword] for keyword in keywords)


_STUDY, _SERIES, _SOP_CLASS = 0x0020000D, 0x0020000E, 0x00080016
_PARENTS = (_STUDY, _SERIES, _SOP_CLASS)

# Who the patient is and why the study was made: all of group 0010, and:
_DEMOGRAPHICS = (
    _tags(*(a.keyword for a in attributes_at(Level.PATIENT, Level.STUDY) if not a.computed))
    # PS3.3 C.7.1.1 Patient
    | _tags("ReferencedPatientSequence")
    # PS3.3 C.7.2.1 General Study
    | _tags(
        "ReferringPhysicianIdentificationSequence",
        "ConsultingPhysicianName",
        "ConsultingPhysicianIdentificationSequence",
        "PhysiciansOfRecord",
        "PhysiciansOfRecordIdentificationSequence",
        "PhysiciansReadingStudyIdentificationSequence",
        "RequestingService",
        "RequestingServiceCodeSequence",
        "ReferencedStudySequence",
        "ProcedureCodeSequence",
        "ReasonForPerformedProcedureCodeSequence",
    )
    # PS3.3 C.7.2.2 Patient Study
    | _tags(
        "AdmittingDiagnosesCodeSequence",
        "AdmissionID",
        "IssuerOfAdmissionIDSequence",
        "ServiceEpisodeID",
        "IssuerOfServiceEpisodeIDSequence",
        "ServiceEpisodeDescription",
        "ReasonForVisit",
        "ReasonForVisitCodeSequence",
    )
    # PS3.3 C.12.1: that these were corrected on the way
    | _tags("InstanceCoercionDateTime", "OriginalAttributesSequence")
) - set(_PARENTS)

# What a compression changes beside the pixels (PS3.3 C.7.6.1.1.5, C.7.6.3; PS3.5 8.2).
_COMPRESSION = _tags(
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_NO_CONTENT = frozenset((SPECIFIC_CHARACTER_SET, 0x00080001, 0xFFFCFFFC)) | _tags(
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "EncapsulatedPixelDataValueTotalLength"
)

NATIVE = "native"
_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
_TEXT_VRS = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_CHUNK = 1024 * 1024  # a multiple of every word size
_DECODED_TEXT = 1024 * 1024


class Relation(Enum):
    """How two objects with the same SOP Instance UID relate."""

    SAME_CONTENT = "nothing differs but the encoding"
    DEMOGRAPHICS = "only attributes of the patient and the study differ"
    CONFLICT = "pixels, parents or other attributes differ"
    NEEDS_DECODING = "the pixels are compressed in different ways: decode and compare them"


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """The content of an object, in digests (SHA-256) that do not depend on its encoding.

    `parents` are StudyInstanceUID, SeriesInstanceUID and SOPClassUID. `pixels` is None without
    pixel data, `pixel_encoding` is `native` or the transfer syntax UID of compressed ones.
    `compression` holds the attributes that describe the compression, `other` all the rest.
    """

    parents: tuple[str, str, str]
    pixels: bytes | None
    pixel_encoding: str | None
    demographics: bytes
    compression: bytes
    other: bytes


def relate(one: ContentDigest, other: ContentDigest) -> Relation:
    """The relation of two objects; symmetric."""
    if one.parents != other.parents or one.other != other.other:
        return Relation.CONFLICT
    if (one.pixels is None) != (other.pixels is None):
        return Relation.CONFLICT
    if one.pixel_encoding != other.pixel_encoding:
        return Relation.NEEDS_DECODING
    if one.pixels != other.pixels:
        # Two lossless encoders differ where the pixels do not.
        syntax = TRANSFER_SYNTAXES.get(one.pixel_encoding or "")
        lossless = syntax is not None and syntax.pixels is PixelEncoding.LOSSLESS
        return Relation.NEEDS_DECODING if lossless else Relation.CONFLICT
    if one.compression != other.compression:
        return Relation.CONFLICT
    return relate_decoded(one, other, same_pixels=True)


def relate_decoded(one: ContentDigest, other: ContentDigest, *, same_pixels: bool) -> Relation:
    """The relation after NEEDS_DECODING, when the decoded pixels have been compared."""
    if not same_pixels:
        return Relation.CONFLICT
    if one.demographics != other.demographics:
        return Relation.DEMOGRAPHICS
    return Relation.SAME_CONTENT


def digest(
    fetch: Fetch,
    *,
    size: int,
    dataset_offset: int,
    transfer_syntax: str,
    default_charset: str | None = None,
) -> ContentDigest:
    """Digest a stored object of `size` bytes; reads all of it, in chunks of a megabyte.

    Raises `UnreadableObject` as the walk does.
    """
    walk = walk_dataset(
        fetch, size=size, dataset_offset=dataset_offset, transfer_syntax=transfer_syntax
    )
    return _Digester(walk, transfer_syntax=transfer_syntax, default_charset=default_charset).run()


class _Hash(Protocol):
    """As of hashlib."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Digester:
    """One pass over the walk: a digest for each top-level element, then one for each kind."""

    def __init__(self, walk: Walk, *, transfer_syntax: str, default_charset: str | None) -> None:
        self._walk = walk
        self._transfer_syntax = transfer_syntax
        self._default_charset = default_charset
        self._elements: dict[int, bytes] = {}
        self._uids: dict[int, str] = {}
        self._pixels: _Hash | None = None
        self._pixel_encoding: str | None = None

    def run(self) -> ContentDigest:
        walk = self._walk
        charset = charset_of(b"", self._default_charset)
        charsets: list[Charset] = []
        # Of each open sequence: whether an item has been met.
        has_items: list[bool] = []
        top_tag = 0
        hasher: _Hash = hashlib.sha256()
        depth = 0
        pixels = False
        first_fragment = False
        for event in walk:
            kind, tag, _, offset, length = event
            if kind in (ELEMENT, SEQUENCE_START, FRAGMENTS_START):
                if not depth:
                    if top_tag:
                        self._keep(top_tag, hasher)
                    top_tag = tag
                    hasher = hashlib.sha256()
                    pixels = tag in PIXEL_DATA_TAGS
                    if pixels:
                        hasher = self._pixels = self._pixels or hasher
                        self._pixel_encoding = self._encoding(fragments=kind == FRAGMENTS_START)
                if tag & 0xFFFF == 0 or tag in _NO_CONTENT:
                    if tag == SPECIFIC_CHARACTER_SET:
                        terms = walk.window.read(offset, min(length, 1024)).rstrip(b"\0 ")
                        charset = charset_of(terms, self._default_charset)
                    if not depth:
                        top_tag = 0
                    if kind == ELEMENT:
                        continue
                hasher.update(tag.to_bytes(4))
            if kind == ELEMENT:
                if not depth and tag in _PARENTS:
                    self._uids.setdefault(tag, self._uid(offset, length))
                self._feed(hasher, event, charset)
            elif kind == SEQUENCE_START:
                depth += 1
                has_items.append(False)
            elif kind == ITEM_START:
                depth += 1
                has_items[-1] = True
                charsets.append(charset)
                hasher.update(b"item")
            elif kind == ITEM_END:
                depth -= 1
                charset = charsets.pop()
                hasher.update(b"end of item")
            elif kind == FRAGMENTS_START:
                depth += 1
                has_items.append(pixels and depth == 1)
                first_fragment = True
            elif kind == FRAGMENT:
                # The first is the basic offset table.
                if not (pixels and depth == 1 and first_fragment):
                    self._feed_bytes(hasher, "OB", offset, length, pad=False)
                first_fragment = False
            elif kind == SEQUENCE_END:
                depth -= 1
                # A sequence without items is an empty value: its VR may be lost.
                hasher.update(b"end" if has_items.pop() else bytes(8))
        if top_tag:
            self._keep(top_tag, hasher)
        return self._result(self._gaps())

    def _encoding(self, *, fragments: bool) -> str:
        if fragments or self._transfer_syntax == _BIG_ENDIAN_PIXELS:
            return self._transfer_syntax
        return NATIVE

    def _keep(self, tag: int, hasher: _Hash) -> None:
        """Of a repeated element the first counts, as in the header."""
        if tag not in PIXEL_DATA_TAGS:
            self._elements.setdefault(tag, hasher.digest())

    def _uid(self, offset: int, length: int) -> str:
        value = self._walk.window.read(offset, min(length, 256))
        return value.split(b"\\")[0].strip(b"\0 ").decode("latin-1")

    def _feed(self, hasher: _Hash, event: Event, charset: Charset) -> None:
        """A value, told so that it is the same in all encodings."""
        _, tag, vr, offset, length = event
        if not length:
            hasher.update(bytes(8))
        elif vr in _TEXT_VRS and vr_of(tag) != "UN" and length <= _DECODED_TEXT:
            text = _normalised(self._walk.window.read(offset, length), vr, charset)
            hasher.update(len(text).to_bytes(8) + text)
        else:
            self._feed_bytes(hasher, vr, offset, length, pad=tag not in PIXEL_DATA_TAGS)

    def _feed_bytes(self, hasher: _Hash, vr: str, offset: int, length: int, *, pad: bool) -> None:
        """Bytes in little endian order, padded to even length (PS3.5 7.1.1)."""
        if pad:
            hasher.update((length + length % 2).to_bytes(8))
        swap = not self._walk.little and WORD_SIZES.get(vr, 1) > 1
        end = offset + length
        while offset < end:
            chunk = self._walk.window.read(offset, min(_CHUNK, end - offset))
            if not chunk:
                hasher.update(b"cut")
                return
            hasher.update(little_endian(chunk, vr) if swap else chunk)
            offset += len(chunk)
        if length % 2:
            hasher.update(b" " if vr in _TEXT_VRS else b"\0")

    def _gaps(self) -> bytes:
        """What the walk could not tell counts as it is."""
        hasher = hashlib.sha256()
        for start, end in self._walk.gaps:
            offset = start
            while end is None or offset < end:
                wanted = _CHUNK if end is None else min(_CHUNK, end - offset)
                chunk = self._walk.window.read(offset, wanted)
                if not chunk:
                    break
                hasher.update(chunk)
                offset += len(chunk)
            hasher.update(b"gap")
        return hasher.digest()

    def _result(self, gaps: bytes) -> ContentDigest:
        demographics, compression, other = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        for tag, element in sorted(self._elements.items()):
            if tag >> 16 == 0x0010 or tag in _DEMOGRAPHICS:
                demographics.update(element)
            elif tag in _COMPRESSION:
                compression.update(element)
            elif tag not in _PARENTS:
                other.update(element)
        other.update(gaps)
        study, series, sop_class = (self._uids.get(tag, "") for tag in _PARENTS)
        return ContentDigest(
            parents=(study, series, sop_class),
            pixels=None if self._pixels is None else self._pixels.digest(),
            pixel_encoding=self._pixel_encoding,
            demographics=demographics.digest(),
            compression=compression.digest(),
            other=other.digest(),
        )


def _normalised(raw: bytes, vr: str, charset: Charset) -> bytes:
    """Text as UTF-8 without padding and without what PS3.5 6.2 lets writers leave out."""
    text = charset.decode(raw, name=vr == "PN")[0].rstrip("\0 ")
    if vr in SINGLE_VALUE_VRS:
        return text.encode()
    values = [value.strip("\0 ") for value in text.split("\\")]
    if vr == "PN":
        values = [
            "=".join(group.rstrip("^ ") for group in v.split("=")).rstrip("=") for v in values
        ]
    return "\\".join(values).encode()

"""Reads a stored object for the index: ranged reads of its header, the whole only for its hash."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from gantry_archive.frame_places import frames_within
from gantry_domain.entries import DEFAULT_PARTITION, Entry, ObjectFinding, Unreadable
from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import ParsedFileMeta, parse_file_meta
from gantry_domain.header import Header, read_header
from gantry_domain.keys import object_key
from gantry_domain.policies.findings import Severity
from gantry_domain.receipts import Receipt
from gantry_domain.sources import WINDOW, Fetch
from gantry_runtime.logs import get_logger
from gantry_runtime.partners import Partner
from gantry_stores.index.headers import compress_header
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

UNEXPECTED = "unexpected_error"


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """What the configuration says of senders.

    `charsets` has character sets by calling AE title, for data that name none or a wrong one;
    `take_last` the calling AE titles whose newer demographics replace older ones. The titles are
    casefolded, for devices differ.
    """

    charsets: Mapping[str, str] = field(default_factory=dict)
    take_last: frozenset[str] = frozenset()


def reading_rules(partners: Iterable[Partner]) -> ReadingRules:
    """The rules that the configured partners make."""
    partners = tuple(partners)
    return ReadingRules(
        charsets={
            partner.ae_title.casefold(): partner.charset
            for partner in partners
            if partner.charset is not None
        },
        take_last=frozenset(
            partner.ae_title.casefold() for partner in partners if partner.duplicates == "take_last"
        ),
    )


@dataclass(frozen=True, slots=True)
class ReadObject:
    """An object as read: `weight` is the number of bytes of its header as JSON."""

    entry: Entry | Unreadable
    weight: int = 0


def read_object(receipt: Receipt, *, store: ObjectStore, rules: ReadingRules) -> ReadObject:
    """Read one object.

    What is wrong with the object itself makes it `Unreadable`. Raises `ObjectNotFound` where it
    is gone, and the transient errors of the store.
    """
    key = object_key(receipt.object_id)
    size, sha256 = receipt.size, receipt.sha256
    if size is None or sha256 is None:
        found = store.stat(key)
        size, sha256 = found.size, sha256 or found.sha256
    first = store.read(key, 0, WINDOW)
    try:
        parsed = parse_file_meta(first)
    except UnreadableObject as error:
        return ReadObject(Unreadable(receipt.object_id, size, None, error.reason))
    # Known or not from the receipt, so that a reindex writes the same.
    sha256 = sha256 or dataset_sha256(store, key, parsed.dataset_offset)
    partition = parsed.meta.partition or DEFAULT_PARTITION
    try:
        header = read_header(
            _after(first, store, key),
            size=size,
            default_charset=rules.charsets.get(parsed.meta.calling_ae.casefold()),
            parsed=parsed,
        )
        json = orjson.dumps(header.attributes)
        frames = frames_within(first, header, size=size)
        entry = _entry(
            receipt=receipt,
            size=size,
            sha256=sha256,
            partition=partition,
            parsed=parsed,
            header=header,
            json=json,
            frames=frames,
        )
        return ReadObject(entry, len(json))
    except UnreadableObject as error:
        reason = error.reason
    except MemoryError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        # A defect of ours that one object brings to light must not hold up its batch; the object
        # stays, its row says so, and a reindex by a mended Gantry reads it.
        log.exception("object_not_understood", object=str(receipt.object_id), exc_info=error)
        reason = UNEXPECTED
    return ReadObject(Unreadable(receipt.object_id, size, sha256, reason, partition))


def dataset_sha256(store: ObjectStore, key: str, dataset_offset: int) -> bytes:
    """The SHA-256 of an object's data set as sent, streamed."""
    digest = hashlib.sha256()
    for chunk in store.chunks(key, dataset_offset):
        digest.update(chunk)
    return digest.digest()


def _after(first: bytes, store: ObjectStore, key: str) -> Fetch:
    """Ranged reads of the object, the first window from memory."""

    def fetch(offset: int, length: int) -> bytes:
        if offset + length <= len(first):
            return first[offset : offset + length]
        if offset == 0 and length <= WINDOW:
            return first
        return store.read(key, offset, length)

    return fetch


def _entry(
    *,
    receipt: Receipt,
    size: int,
    sha256: bytes,
    partition: str,
    parsed: ParsedFileMeta,
    header: Header,
    json: bytes,
    frames: bytes | None,
) -> Entry:
    return Entry(
        object_id=receipt.object_id,
        partition=partition,
        size=size,
        dataset_offset=parsed.dataset_offset,
        sha256=sha256,
        TransferSyntaxUID=parsed.meta.TransferSyntaxUID,
        SOPClassUID=header.text("00080016") or "",
        SOPInstanceUID=header.text("00080018") or "",
        StudyInstanceUID=header.text("0020000D") or "",
        SeriesInstanceUID=header.text("0020000E") or "",
        calling_ae=parsed.meta.calling_ae,
        called_ae=parsed.meta.receiving_ae,
        attributes=header.attributes,
        header=compress_header(json),
        frames=frames,
        findings=tuple(
            ObjectFinding(
                finding.rule, Severity.WARNING, finding.tag or None, finding.detail or None
            )
            for finding in header.findings
        ),
    )

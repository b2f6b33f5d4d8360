"""The header of a stored object: everything but the pixels, as the DICOM JSON model.

Read through a window, so that a ranged read or two serve for an object of any size; bounded in
what it keeps; and told as findings what a careful reader would want to know about the object.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from gantry_domain.charset import Charset, charset_of
from gantry_domain.dictionary import KEYWORDS
from gantry_domain.elements import (
    ELEMENT,
    FRAGMENTS_START,
    ITEM_END,
    ITEM_START,
    SEQUENCE_END,
    SEQUENCE_START,
    Walk,
    walk_dataset,
)
from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import FileMeta, ParsedFileMeta, parse_file_meta
from gantry_domain.findings import (
    DATA_SET_BROKEN,
    ELEMENTS_OUT_OF_ORDER,
    HEADER_TOO_LARGE,
    REPEATED_ELEMENT,
    TRANSFER_SYNTAX_MISMATCH,
    TRUNCATED,
    VALUE_TOO_LONG,
    Findings,
    HeaderFinding,
)
from gantry_domain.json_model import NUMERIC_VRS, PN_GROUPS, Element, JsonModel
from gantry_domain.pixel_data import PixelDataLocation, locate_pixel_data
from gantry_domain.sources import WINDOW, Fetch
from gantry_domain.value_representations import (
    BINARY_VRS,
    LUT_DESCRIPTOR,
    PIXEL_DATA_TAGS,
    PIXEL_REPRESENTATION,
    SPECIFIC_CHARACTER_SET,
    US_OR_OW,
    US_OR_SS,
)

INLINE_BINARY = 1024
INLINE_NUMBERS = 16 * 1024
INLINE_TEXT = 64 * 1024
# Lists of numbers as text and free text are data in bulk when they are large.
_BULK_TEXT = frozenset(("DS", "IS", "LT", "ST", "UC", "UR", "UT"))
HEADER_LIMIT = 8 * 1024 * 1024
# Beside it sequences cannot crowd out the plain elements.
_TOP_LEVEL_LIMIT = 2 * 1024 * 1024
_ELEMENT_COST = 64  # {"vr":"XX","Value":[]} and its key, or a reference
# What passing over deflated elements may inflate; no header comes near.
_INFLATED_LIMIT = 512 * 1024 * 1024

_FIRST_TAG = 0x00040000  # groups 0000 and 0002 are of messages and files
_UNDECIDED_VRS = frozenset((US_OR_SS, US_OR_OW))
_ASCII = charset_of(b"")
_UTF_8 = "ISO_IR 192"
# The elements without which an object cannot be filed: tag, and their name in a reason.
_IDENTITY = (
    ("0020000D", "study_uid"),
    ("0020000E", "series_uid"),
    ("00080018", "sop_instance_uid"),
    ("00080016", "sop_class_uid"),
)


@dataclass(frozen=True, slots=True)
class BulkLocation:
    """A value that the JSON refers to: its path there, and where its bytes are in the object.

    The path is that of the `BulkDataURI` without `bulk/`: `00420011`, or with the item's index,
    from 0, for each sequence: `30060039/0/30060040/1/30060050`. The bytes are in the order of the
    object's transfer syntax; offsets are as for pixel data.
    """

    path: str
    offset: int
    length: int
    vr: str


@dataclass(frozen=True, slots=True)
class Header:
    """A header. `attributes`: the DICOM JSON model in ascending order of tags, text in UTF-8,
    without groups 0000 and 0002, group lengths, pixel data and what follows them.
    """

    meta: FileMeta
    dataset_offset: int
    attributes: dict[str, Any]
    findings: tuple[HeaderFinding, ...]
    pixel_data: PixelDataLocation | None
    bulk: tuple[BulkLocation, ...]

    def values(self, name: str) -> list[Any]:
        """The values of a keyword or tag (8 hex digits) as in the JSON model; empty if none."""
        element = self.attributes.get(_key_of(name))
        values: list[Any] = element.get("Value", []) if element else []
        return values

    def text(self, name: str) -> str | None:
        """The first value as text, None if there is none; of a name all groups, `A=I=P`."""
        values = self.values(name)
        value = values[0] if values else None
        if isinstance(value, dict):
            groups = (value.get(group, "") for group in PN_GROUPS)
            return "=".join(groups).rstrip("=")
        return None if value is None else str(value)

    def number(self, name: str) -> int | float | None:
        """The first value if it is a number."""
        values = self.values(name)
        value = values[0] if values else None
        return value if isinstance(value, int | float) else None


def read_header(
    fetch: Fetch,
    *,
    size: int,
    default_charset: str | None = None,
    parsed: ParsedFileMeta | None = None,
) -> Header:
    """The header of the object of `size` bytes that `fetch` reads.

    `default_charset`: terms of (0008,0005) for data that name none or a wrong one. `parsed`: the
    file meta information, where that has been read already. Raises
    `UnreadableObject`: the reasons of `parse_file_meta` and of the walk, `missing_study_uid`,
    `missing_series_uid`, `missing_sop_instance_uid`, `missing_sop_class_uid`, or the same with
    `invalid` for UIDs over 64 characters or not of printable ASCII.
    """
    first = fetch(0, WINDOW)
    parsed = parsed or parse_file_meta(first)
    walk = walk_dataset(
        fetch,
        size=size,
        dataset_offset=parsed.dataset_offset,
        transfer_syntax=parsed.meta.TransferSyntaxUID,
        first=first,
        inflated_limit=_INFLATED_LIMIT,
    )
    reader = _Reader(walk, default_charset=default_charset)
    reader.read()
    header = Header(
        meta=parsed.meta,
        dataset_offset=parsed.dataset_offset,
        attributes=reader.attributes,
        findings=reader.findings.all(),
        pixel_data=reader.pixel_data,
        bulk=tuple(reader.bulk),
    )
    _check_identity(header)
    return header


def _check_identity(header: Header) -> None:
    for key, name in _IDENTITY:
        uid = header.text(key)
        if not uid:
            raise UnreadableObject(f"missing_{name}")
        if len(uid) > 64 or not (uid.isascii() and uid.isprintable()):
            raise UnreadableObject(f"invalid_{name}")


def _key_of(name: str) -> str:
    if len(name) == 8 and name[0] in "0123456789ABCDEF":
        return name
    return f"{KEYWORDS[name]:08X}"


class _Reader:
    """One pass over the walk."""

    def __init__(self, walk: Walk, *, default_charset: str | None) -> None:
        self._walk = walk
        self._default_charset = default_charset
        self.findings = Findings()
        self._model = JsonModel(self.findings.report)
        self.attributes: dict[str, Any] = {}
        self.pixel_data: PixelDataLocation | None = None
        self.bulk: list[BulkLocation] = []
        # Elements whose VR depends on others, perhaps on later ones: the data sets around them
        # from the root, the element to fill, its tag, VR and value.
        self._undecided: list[tuple[list[dict[str, Any]], Element, int, str, bytes]] = []

    def read(self) -> None:
        walk = self._walk
        report = self.findings.report
        read_value = walk.window.read
        make_element = self._model.element
        little = walk.little
        charset = charset_of(b"", self._default_charset)
        ds = self.attributes
        last_tag = 0
        path = ""
        in_order = True
        element: Element = {}  # the open sequence and its items
        items: list[dict[str, Any]] = []
        stack: list[_Frame] = []  # what those were around the open sequence or item
        fragments: tuple[str, int, bool] | None = None  # key, offset, whether to keep them
        top_level_budget = _TOP_LEVEL_LIMIT
        nested_budget = HEADER_LIMIT - _TOP_LEVEL_LIMIT
        top_sequence = ("", 0, nested_budget)  # key, tag, budget before it
        dropped = False  # the open top-level sequence has used up the budget

        for kind, tag, vr, offset, length in walk:
            if kind == ELEMENT:
                if not stack and tag in PIXEL_DATA_TAGS:
                    self._locate_pixel_data(tag, vr, offset, length)
                    break
                if tag & 0xFFFF == 0 or tag < _FIRST_TAG or dropped:
                    continue
                key = f"{tag:08X}"
                if tag > last_tag:
                    last_tag = tag
                else:
                    in_order = False
                    if key in ds:
                        report(REPEATED_ELEMENT, tag)
                        continue
                cost = _ELEMENT_COST + (length if length <= INLINE_BINARY else _cost(vr, length))
                if stack:
                    nested_budget -= cost
                    dropped = nested_budget < 0
                    if dropped:
                        continue
                else:
                    top_level_budget -= cost
                    if top_level_budget < 0:
                        report(HEADER_TOO_LARGE, 0, "elements left out")
                        continue
                if tag == SPECIFIC_CHARACTER_SET:
                    charset = self._charset(read_value(offset, min(length, INLINE_BINARY)))
                    ds[key] = {"vr": "CS", "Value": [_UTF_8]}
                    continue
                if length > INLINE_BINARY and _is_bulk(vr, length):
                    vr = "OW" if vr == US_OR_OW else vr  # noqa: PLW2901
                    ds[key] = new = {"vr": vr, "BulkDataURI": f"bulk/{path}{key}"}
                    self.bulk.append(BulkLocation(path + key, offset, length, vr))
                    if vr == US_OR_SS:
                        self._undecided.append(
                            ([*(frame.ds for frame in stack), ds], new, tag, vr, b"")
                        )
                    continue
                raw = read_value(offset, min(length, INLINE_TEXT)) if length else b""
                if len(raw) < length:
                    if length <= INLINE_TEXT:
                        report(TRUNCATED, tag)
                        continue
                    report(VALUE_TOO_LONG, tag, f"{length} bytes")
                    raw = _cut_text(raw, vr, charset)
                if vr in _UNDECIDED_VRS:
                    ds[key] = new = {"vr": "US"}
                    self._undecided.append(
                        ([*(frame.ds for frame in stack), ds], new, tag, vr, raw)
                    )
                else:
                    ds[key] = make_element(tag, vr, raw, charset, little=little)
            elif kind == SEQUENCE_START:
                key = f"{tag:08X}"
                repeated = tag <= last_tag and key in ds
                in_order &= tag > last_tag
                last_tag = max(tag, last_tag)
                new = {"vr": "SQ"}
                if repeated:
                    report(REPEATED_ELEMENT, tag)
                elif not dropped:
                    ds[key] = new
                if repeated or dropped:
                    walk.skip_sequence()
                if not stack:
                    top_sequence = (key, tag, nested_budget)
                stack.append(_Frame(ds, element, items, charset, last_tag, path, in_order))
                path = f"{path}{key}/"
                element, items = new, []
            elif kind == ITEM_START:
                nested_budget -= _ELEMENT_COST
                dropped |= nested_budget < 0
                stack.append(_Frame(ds, element, items, charset, last_tag, path, in_order))
                path = f"{path}{len(items)}/"
                ds, last_tag, in_order = {}, 0, True
                if not dropped:
                    items.append(ds)
            elif kind == ITEM_END:
                if not in_order:
                    _sort(ds)
                ds, element, items, charset, last_tag, path, in_order = stack.pop()
            elif kind == FRAGMENTS_START:
                if not stack and tag in PIXEL_DATA_TAGS:
                    self._locate_pixel_data(tag, vr, offset, length)
                    break
                key = f"{tag:08X}"
                fragments = (key, offset, not dropped and key not in ds)
                in_order &= tag > last_tag
                last_tag = max(tag, last_tag)
            elif kind == SEQUENCE_END and fragments is not None:
                key, start, keep = fragments
                fragments = None
                if keep:
                    ds[key] = {"vr": vr, "BulkDataURI": f"bulk/{path}{key}"}
                    self.bulk.append(BulkLocation(path + key, start, offset - start, vr))
            elif kind == SEQUENCE_END:
                if items:
                    element["Value"] = items
                ds, element, items, charset, last_tag, path, in_order = stack.pop()
                if dropped and not stack:
                    key, tag, nested_budget = top_sequence  # noqa: PLW2901
                    self._drop_sequence(key, tag)
                    dropped = False
        self._decide()
        self._finish(in_order=in_order if not stack else stack[0].in_order)

    def _charset(self, raw: bytes) -> Charset:
        charset = charset_of(raw.rstrip(b"\0 "), self._default_charset)
        if charset.finding is not None:
            self.findings.report(charset.finding, SPECIFIC_CHARACTER_SET)
        return charset

    def _locate_pixel_data(self, tag: int, vr: str, offset: int, length: int) -> None:
        self.pixel_data = locate_pixel_data(
            self._walk,
            self.findings,
            self.attributes,
            tag=tag,
            vr=vr,
            offset=offset,
            length=length,
        )

    def _drop_sequence(self, key: str, tag: int) -> None:
        """A sequence is in the header as a whole or not at all."""
        self.attributes.pop(key, None)
        self.bulk = [bulk for bulk in self.bulk if not bulk.path.startswith(f"{key}/")]
        self.findings.report(HEADER_TOO_LARGE, tag, "sequence left out")

    def _decide(self) -> None:
        """Elements whose VR the data set decides: the nearest element that does so counts."""
        little = self._walk.little
        for around, element, tag, vr, raw in self._undecided:
            if vr == US_OR_OW:
                decided = "US" if _nearest(around, LUT_DESCRIPTOR) == 1 else "OW"
            else:
                decided = "SS" if _nearest(around, PIXEL_REPRESENTATION) == 1 else "US"
            element["vr"] = decided
            element.update(self._model.element(tag, decided, raw, _ASCII, little=little))

    def _finish(self, *, in_order: bool) -> None:
        walk = self._walk
        if "00080005" not in self.attributes:
            self.attributes["00080005"] = {"vr": "CS", "Value": [_UTF_8]}
            _sort(self.attributes)
        if not in_order:
            self.findings.report(ELEMENTS_OUT_OF_ORDER)
            _sort(self.attributes)
        if walk.mismatch:
            self.findings.report(TRANSFER_SYNTAX_MISMATCH)
        if walk.truncated and self.pixel_data is None:
            self.findings.report(TRUNCATED)
        if walk.broken is not None:
            self.findings.report(DATA_SET_BROKEN, 0, walk.broken)


class _Frame(NamedTuple):
    """Where the reader was before a sequence or item opened."""

    ds: dict[str, Any]
    element: Element
    items: list[dict[str, Any]]
    charset: Charset
    last_tag: int
    path: str
    in_order: bool


def _is_bulk(vr: str, length: int) -> bool:
    """Whether a value over 1 KiB is only referred to."""
    if vr in BINARY_VRS or vr == US_OR_OW:
        return True
    if vr in NUMERIC_VRS or vr == US_OR_SS:
        return length > INLINE_NUMBERS
    return length > INLINE_TEXT and vr in _BULK_TEXT


def _cost(vr: str, length: int) -> int:
    """What a value over 1 KiB adds to the header."""
    return _ELEMENT_COST if _is_bulk(vr, length) else min(length, INLINE_TEXT)


def _cut_text(raw: bytes, vr: str, charset: Charset) -> bytes:
    """Cut between two characters."""
    for surplus in range(4):
        cut = raw[: len(raw) - surplus]
        if charset.decode(cut, name=vr == "PN")[1] is None:
            return cut
    return raw


def _nearest(around: list[dict[str, Any]], tag: int) -> Any:
    """The first value of the element in the innermost data set that has it."""
    key = f"{tag:08X}"
    for ds in reversed(around):
        values = ds.get(key, {}).get("Value")
        if values:
            return values[0]
    return None


def _sort(ds: dict[str, Any]) -> None:
    """PS3.18 F.2.2: in ascending order of tags."""
    ordered = sorted(ds.items())
    ds.clear()
    ds.update(ordered)


__all__ = [
    "BulkLocation",
    "Header",
    "HeaderFinding",
    "PixelDataLocation",
    "read_header",
]

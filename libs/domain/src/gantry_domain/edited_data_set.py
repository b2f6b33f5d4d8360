"""A stored data set with some elements left out or replaced, while it streams.

    events of the walk ──▶ an editor says: kept | left out | replaced ──▶ Explicit VR Little Endian

What is kept passes in chunks, whatever its size; encapsulated pixel data stay as they are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from gantry_domain.elements import (
    ELEMENT,
    FRAGMENT,
    FRAGMENTS_START,
    ITEM_END,
    ITEM_START,
    SEQUENCE_END,
    SEQUENCE_START,
    UNDEFINED,
    Walk,
    walk_dataset,
)
from gantry_domain.little_endian import (
    CLOSED_ITEM,
    CLOSED_SEQUENCE,
    HEAD_WITHOUT_VR,
    OPENED_ITEM,
    joined,
    value_pieces,
)
from gantry_domain.reencode import (
    VRContext,
    element_head,
    element_pieces,
    root_pixel_representation,
)
from gantry_domain.sources import Fetch
from gantry_domain.value_representations import BINARY_VRS

LONGEST_EDITED = 1 << 16
"""Bytes of the longest value that is looked at; what is longer and would have to be is left out."""

STARTS = frozenset((SEQUENCE_START, ITEM_START, FRAGMENTS_START))
ENDS = frozenset((ITEM_END, SEQUENCE_END))


class Edit(Enum):
    """What becomes of an element that is not rewritten."""

    KEEP = "keep"
    LEAVE_OUT = "leave out"
    EMPTY = "empty"


Rewrite = Callable[[bytes], bytes | None]
"""A new value for the value as it is encoded, little endian; None: the element is left out."""

Ranges = tuple[tuple[int, int], ...]


class Editor(Protocol):
    """Says what becomes of each element, at any depth."""

    @property
    def own(self) -> Mapping[int, bytes]:
        """Elements of the data set itself, encoded, in the place of those with these tags."""

    def value(self, tag: int, vr: str, length: int) -> Edit | Rewrite:
        """What becomes of a value of so many bytes."""

    def sequence(self, tag: int) -> Edit:
        """What becomes of a sequence; the elements of one that is kept are asked about."""

    def fragments(self, tag: int) -> Edit:
        """What becomes of encapsulated data."""

    def blanked(self, walk: Walk, offset: int, length: int) -> Ranges:
        """Which bytes of a fragment become NUL, as ranges of the walk's offsets."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Where a data set is read from, and how it is encoded there."""

    fetch: Fetch
    size: int
    dataset_offset: int
    transfer_syntax: str

    def walk(self) -> Walk:
        """A walk over it."""
        return walk_dataset(
            self.fetch,
            size=self.size,
            dataset_offset=self.dataset_offset,
            transfer_syntax=self.transfer_syntax,
        )


def edited(source: Encoded, editor: Editor) -> Iterator[bytes]:
    """The data set after the edits, in Explicit VR Little Endian.

    Raises `UnreadableObject` as the walk does, perhaps after the first bytes. Where the object is
    cut or broken the result ends in good order before that place.
    """
    context = VRContext(root_pixel_representation(source.walk()))
    yield from joined(_Editing(editor, source.walk(), context).pieces())


def encoded(tag: int, vr: str, value: bytes) -> bytes:
    """An element with this value, padded to an even length (PS3.5 6.2)."""
    if len(value) % 2:
        value += b"\0" if vr == "UI" or vr in BINARY_VRS else b" "
    return element_head(tag, vr, len(value)) + value


class _Editing:
    """One pass over one data set."""

    def __init__(self, editor: Editor, walk: Walk, context: VRContext) -> None:
        self._editor = editor
        self._walk = walk
        self._context = context
        self._own = editor.own

    def pieces(self) -> Iterator[bytes]:
        to_add = sorted(self._own)
        left_out: int | None = None  # the depth at which an element ends that is not told of
        depth = 0
        for kind, tag, vr, offset, length in self._walk:
            depth -= kind in ENDS
            if left_out is not None:
                left_out = None if kind in ENDS and depth == left_out else left_out
                depth += kind in STARTS
                continue
            if not depth and kind in (ELEMENT, SEQUENCE_START, FRAGMENTS_START):
                while to_add and to_add[0] <= tag:
                    yield self._own[to_add.pop(0)]
            if kind in (SEQUENCE_START, FRAGMENTS_START):
                kept, head = self._begin(kind, tag, depth)
                yield head
                left_out = None if kept else depth
            elif kind == ELEMENT:
                yield from self._element(tag, vr, offset, length, depth)
            elif kind == FRAGMENT:
                yield from self._fragment(offset, length)
            elif kind == ITEM_START:
                self._context.open_item()
                yield OPENED_ITEM
            elif kind == ITEM_END:
                self._context.close_item()
                yield CLOSED_ITEM
            else:
                yield CLOSED_SEQUENCE
            depth += kind in STARTS
        for tag in to_add:
            yield self._own[tag]

    def _begin(self, kind: int, tag: int, depth: int) -> tuple[bool, bytes]:
        """Whether what is in it is told, and what goes before it."""
        if not depth and tag in self._own:
            return False, b""
        if kind == FRAGMENTS_START:
            kept = self._editor.fragments(tag) is Edit.KEEP
            return kept, element_head(tag, "OB", UNDEFINED) if kept else b""
        edit = self._editor.sequence(tag)
        if edit is Edit.KEEP:
            return True, element_head(tag, "SQ", UNDEFINED)
        return False, element_head(tag, "SQ", 0) if edit is Edit.EMPTY else b""

    def _element(self, tag: int, vr: str, offset: int, length: int, depth: int) -> Iterator[bytes]:
        if not tag & 0xFFFF or (not depth and tag in self._own):
            return  # group lengths would be wrong (PS3.5 7.2)
        self._context.note(self._walk, tag, offset, length)
        vr = self._context.decide(vr)
        edit = self._editor.value(tag, vr, length)
        if edit is Edit.KEEP:
            yield from element_pieces(self._walk, tag, vr, offset, length)
        elif edit is Edit.EMPTY:
            yield encoded(tag, vr, b"")
        elif callable(edit) and length <= LONGEST_EDITED:
            value = edit(b"".join(value_pieces(self._walk, vr, offset, length)))
            if value is not None:
                yield encoded(tag, vr, value)

    def _fragment(self, offset: int, length: int) -> Iterator[bytes]:
        blanked = self._editor.blanked(self._walk, offset, length)
        yield HEAD_WITHOUT_VR(0xFFFE, 0xE000, length + length % 2)
        for chunk in value_pieces(self._walk, "OB", offset, length):
            yield _blank(chunk, offset, blanked)
            offset += len(chunk)


def _blank(chunk: bytes, offset: int, ranges: Ranges) -> bytes:
    """The chunk, which begins at `offset`, with NUL in these ranges."""
    for start, end in ranges:
        first, last = max(start - offset, 0), min(end - offset, len(chunk))
        if first < last:
            chunk = chunk[:first] + bytes(last - first) + chunk[last:]
    return chunk

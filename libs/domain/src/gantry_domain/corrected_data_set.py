"""A stored data set after corrections, as pieces: new bytes, and ranges of what is stored.

    0 ......... (0010,0010) old ......... (0040,...) ......... pixel data ......... end
    [ range ]   [ new bytes ]   [ range ] [ (0400,0561) new ] [ range up to the end      ]

So nothing is copied but what is new, whatever the size of the object, and its encoding stays. Only
where the Specific Character Set has no place for a new value all text becomes UTF-8.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from gantry_domain.charset import Charset, charset_of
from gantry_domain.charset_encoding import UTF_8, UTF_8_ENCODER, TextEncoder, encoder_of
from gantry_domain.corrections import (
    MODIFICATION_DATE_TIME,
    MODIFIED_ATTRIBUTES,
    MODIFYING_SYSTEM,
    ORIGINAL_ATTRIBUTES,
    REASON,
    REASON_FOR_MODIFICATION,
    SEQUENCE,
    SOURCE_OF_PREVIOUS_VALUES,
    SYSTEM,
    Correction,
    element_of,
    is_new,
)
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
)
from gantry_domain.json_model import JsonModel
from gantry_domain.value_representations import (
    BINARY_VRS,
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    PIXEL_DATA_TAGS,
    SEQUENCE_DELIMITATION,
    SPECIFIC_CHARACTER_SET,
)

Range = tuple[int, int | None]
"""From an offset of what is stored to another; None: to the end."""
Piece = bytes | Range

_TEXT_VRS = frozenset("LO LT PN SH ST UC UT".split())  # of the Specific Character Set (PS3.5 6.1.2)
_LONGEST_SHORT = 0xFFFE
_LONGEST_TERMS = 1024
_MODEL = JsonModel(lambda _rule, _tag, _detail: None)


def corrected_pieces(
    make_walk: Callable[[], Walk], corrections: Sequence[Correction], *, start: int
) -> list[Piece]:
    """The data set after the corrections; `make_walk` gives a walk over it, which begins at
    `start`.

    Offsets are those of the walk. What can no longer be walked is left as it is. Raises
    `UnreadableObject` as the walk does.
    """
    walk = make_walk()
    elements, rest = _top_level(walk, start)
    terms = _terms(walk, elements)
    encoder = _encoder(terms, corrections)
    converted: Mapping[int, list[Piece]] = {}
    edits = _Edits(walk, elements, charset_of(terms))
    if encoder is None:
        converted = _Conversion(make_walk(), start).run()
        encoder = UTF_8_ENCODER
        edits.convert(converted)
    items = edits.make(corrections, encoder)
    new: dict[int, list[Piece]] = {tag: [content] for tag, content in edits.made.items()}
    if items:
        kept = next((each for each in elements if each.tag == ORIGINAL_ATTRIBUTES), None)
        new[ORIGINAL_ATTRIBUTES] = _originals(walk, kept, converted, items)
    return _joined([*_assembled(elements, new, converted), (rest, walk.end)])


@dataclass(frozen=True, slots=True)
class _Element:
    """An element of the data set itself: where its head, its value and its end are."""

    tag: int
    vr: str
    start: int
    offset: int
    length: int
    end: int


def _top_level(walk: Walk, start: int) -> tuple[list[_Element], int]:
    """The elements before the pixel data, and where what follows them begins."""
    found: list[_Element] = []
    depth = 0
    opened = (0, "", 0, 0, 0)
    for kind, tag, vr, offset, length in walk:
        if kind in (SEQUENCE_START, ITEM_START, FRAGMENTS_START):
            if not depth:
                if tag in PIXEL_DATA_TAGS:
                    break
                opened = (tag, vr, start, offset, length)
            if kind == SEQUENCE_START:
                walk.skip_sequence()
            depth += 1
        elif kind in (SEQUENCE_END, ITEM_END):
            depth -= 1
            if not depth:
                found.append(_Element(*opened, end=offset))
                start = offset
        elif kind == ELEMENT and not depth:
            if tag in PIXEL_DATA_TAGS:
                break
            found.append(_Element(tag, vr, start, offset, length, offset + length))
            start = offset + length
    return found, start


def _terms(walk: Walk, elements: Iterable[_Element]) -> bytes:
    for each in elements:
        if each.tag == SPECIFIC_CHARACTER_SET:
            return walk.window.read(each.offset, min(each.length, _LONGEST_TERMS)).rstrip(b"\0 ")
    return b""


def _encoder(terms: bytes, corrections: Iterable[Correction]) -> TextEncoder | None:
    """What writes the new values as the data set writes its own; None: its set has not all."""
    texts = [text for each in corrections for text in each.attributes.values()]
    if all(text.isascii() for text in texts):
        return UTF_8_ENCODER
    encoder = encoder_of(terms.decode("ascii", errors="replace"))
    charset = charset_of(terms)
    if encoder is None:
        return None
    try:
        # Read again it has to be the same: some sets have a character twice, and some bytes look
        # like those of another set.
        same = all(charset.decode(encoder.encode(text, name=True))[0] == text for text in texts)
    except UnicodeEncodeError:
        return None
    return encoder if same else None


class _Writer:
    """Heads and small elements in the encoding of a data set."""

    def __init__(self, walk: Walk) -> None:
        order = "<" if walk.little else ">"
        self.explicit = walk.explicit
        self._without_vr = Struct(f"{order}HHL").pack
        self._short = Struct(f"{order}HH2sH").pack
        self._long = Struct(f"{order}HH2s2xL").pack

    def head(self, tag: int, vr: str, length: int) -> bytes:
        group, element = tag >> 16, tag & 0xFFFF
        if not self.explicit:
            return self._without_vr(group, element, length)
        if vr in LONG_VRS:
            return self._long(group, element, vr.encode(), length)
        return self._short(group, element, vr.encode(), length)

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        if len(value) % 2:
            value += b"\0" if vr == "UI" or vr in BINARY_VRS else b" "  # PS3.5 6.2
        return self.head(tag, vr, len(value)) + value

    def of_items(self, tag: int, length: int = 0) -> bytes:
        """The head of an item, or a delimiter."""
        return self._without_vr(tag >> 16, tag & 0xFFFF, length)

    def item(self, content: bytes) -> bytes:
        return self.of_items(ITEM, len(content)) + content


class _Edits:
    """The elements that corrections replace or add, and what stood there before."""

    def __init__(self, walk: Walk, elements: Sequence[_Element], charset: Charset) -> None:
        self._walk = walk
        self._writer = _Writer(walk)
        self._charset = charset
        self._converted: Mapping[int, list[Piece]] = {}
        self._to_utf_8 = False
        self.made: dict[int, bytes] = {}
        # VR and value by tag as they stand: the first of a tag counts, as for the index.
        self._now: dict[int, tuple[str, bytes]] = {}
        self._elements: dict[int, _Element] = {}
        for each in elements:
            self._elements.setdefault(each.tag, each)

    def convert(self, converted: Mapping[int, list[Piece]]) -> None:
        """All text becomes UTF-8; `converted` are the elements that this changes."""
        self._to_utf_8, self._converted = True, converted
        self.made[SPECIFIC_CHARACTER_SET] = self._writer.element(
            SPECIFIC_CHARACTER_SET, "CS", UTF_8.encode()
        )

    def make(self, corrections: Iterable[Correction], encoder: TextEncoder) -> bytes:
        """Make the edits; the items that tell of them."""
        items = b""
        for correction in corrections:
            before = b""
            for tag, vr, text in correction.elements():
                if vr == SEQUENCE:
                    before += self._taken_away(tag)
                    continue
                found = self._standing(tag)
                after = element_of(tag, vr, text)
                if not is_new(None if found is None else self._json(tag, *found), after):
                    continue
                before += self._writer.element(tag, *(found or (vr, b"")))
                value = encoder.encode(text, name=vr == "PN")
                self._now[tag] = vr, value
                self.made[tag] = self._writer.element(tag, vr, value)
            if before:
                items += self._item(correction, before)
        return items

    def _standing(self, tag: int) -> tuple[str, bytes] | None:
        if tag in self._now or tag not in self._elements:
            return self._now.get(tag)
        each = self._elements[tag]
        raw = self._walk.window.read(each.offset, min(each.length, _LONGEST_SHORT))
        if self._to_utf_8 and each.vr in _TEXT_VRS:
            raw = self._charset.decode(raw, name=each.vr == "PN")[0].encode()
        self._now[tag] = each.vr, raw
        return self._now[tag]

    def _taken_away(self, tag: int) -> bytes:
        """Leave a sequence out; the element as it was, without its items where it is too long."""
        if tag in self.made or tag not in self._elements:
            return b""
        self.made[tag] = b""
        each = self._elements[tag]
        pieces = self._converted.get(each.start, [(each.start, each.end)])
        if each.end - each.start > _LONGEST_SHORT:
            return self._writer.element(tag, SEQUENCE, b"")
        read = self._walk.window.read
        return b"".join(
            piece if isinstance(piece, bytes) else read(piece[0], (piece[1] or each.end) - piece[0])
            for piece in pieces
        )

    def _json(self, tag: int, vr: str, raw: bytes) -> Mapping[str, object]:
        charset = charset_of(UTF_8.encode()) if self._to_utf_8 else self._charset
        return _MODEL.element(tag, vr, raw, charset, little=self._walk.little)

    def _item(self, correction: Correction, before: bytes) -> bytes:
        """PS3.3 Table C.12-1."""
        element, inner = self._writer.element, self._writer.item(before)
        return self._writer.item(
            self._writer.head(MODIFIED_ATTRIBUTES, "SQ", len(inner))
            + inner
            + element(MODIFICATION_DATE_TIME, "DT", correction.modified_at.encode())
            + element(MODIFYING_SYSTEM, "LO", SYSTEM.encode())
            + element(SOURCE_OF_PREVIOUS_VALUES, "LO", b"")
            + element(REASON_FOR_MODIFICATION, "CS", REASON.encode())
        )


def _assembled(
    elements: Iterable[_Element],
    new: Mapping[int, list[Piece]],
    converted: Mapping[int, list[Piece]],
) -> list[Piece]:
    """The elements with the new ones in their places."""
    # Group lengths would no longer be right, and need not be there (PS3.5 7.2).
    lengths = {tag & ~0xFFFF for tag in new}
    pieces: list[Piece] = []
    waiting = sorted(new)
    for each in elements:
        while waiting and waiting[0] <= each.tag:
            pieces += new[waiting.pop(0)]
        if each.tag in new or each.tag in lengths or (converted and not each.tag & 0xFFFF):
            continue
        pieces += converted.get(each.start, [(each.start, each.end)])
    for tag in waiting:
        pieces += new[tag]
    return pieces


def _originals(
    walk: Walk, kept: _Element | None, converted: Mapping[int, list[Piece]], items: bytes
) -> list[Piece]:
    """(0400,0561): the items that it has had, and those of ours."""
    writer = _Writer(walk)
    if kept is None or kept.vr != "SQ":
        return [writer.head(ORIGINAL_ATTRIBUTES, "SQ", len(items)) + items]
    end = writer.of_items(SEQUENCE_DELIMITATION)
    if kept.start in converted:
        return [*converted[kept.start][:-1], items, end]
    last = kept.end
    if kept.length == UNDEFINED and walk.window.read(last - 8, 8) == end:
        last -= 8
    head = writer.head(ORIGINAL_ATTRIBUTES, "SQ", UNDEFINED)
    return [head, (kept.offset, last), items, end]


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same with ranges that follow each other made one, and bytes too."""
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, bytes) and isinstance(last, bytes):
            joined[-1] = last + piece
        elif isinstance(piece, tuple) and isinstance(last, tuple) and last[1] == piece[0]:
            joined[-1] = (last[0], piece[1])
        elif piece and not (isinstance(piece, tuple) and piece[0] == piece[1]):
            joined.append(piece)
    return joined


class _Conversion:
    """All text of a data set as UTF-8: the elements of it that change, by where they start."""

    def __init__(self, walk: Walk, start: int) -> None:
        self._walk = walk
        self._writer = _Writer(walk)
        self._start = start

    def run(self) -> dict[int, list[Piece]]:
        walk, writer = self._walk, self._writer
        converted: dict[int, list[Piece]] = {}
        charset = charset_of(b"")
        charsets: list[Charset] = []
        pieces: list[Piece] = []  # of the open element of the data set itself
        opened = cursor = self._start
        changed = False
        as_it_is = 0  # so many containers are open of a sequence whose inside is encoded otherwise
        depth = 0
        for kind, tag, vr, offset, length in walk:
            if kind in (SEQUENCE_START, FRAGMENTS_START, ITEM_START):
                if not depth:
                    if tag in PIXEL_DATA_TAGS:
                        break
                    opened, pieces, changed = cursor, [], False
                depth += 1
                if as_it_is or kind == FRAGMENTS_START or self._unknown(kind, cursor):
                    as_it_is += 1
                    pieces.append((cursor, offset))
                elif kind == SEQUENCE_START:
                    pieces.append(writer.head(tag, "SQ", UNDEFINED))
                else:
                    charsets.append(charset)
                    pieces.append(writer.of_items(ITEM, UNDEFINED))
                cursor = offset
            elif kind in (SEQUENCE_END, ITEM_END):
                depth -= 1
                if as_it_is:
                    as_it_is -= 1
                    pieces.append((cursor, offset))
                elif kind == SEQUENCE_END:
                    pieces.append(writer.of_items(SEQUENCE_DELIMITATION))
                else:
                    charset = charsets.pop()
                    pieces.append(writer.of_items(ITEM_DELIMITATION))
                cursor = offset
                if not depth and changed:
                    converted[opened] = _joined_but_last(pieces)
            elif kind == FRAGMENT:
                pieces.append((cursor, offset + length))
                cursor = offset + length
            else:
                if not depth:
                    if tag in PIXEL_DATA_TAGS:
                        break
                    opened, pieces, changed = cursor, [], False
                if tag == SPECIFIC_CHARACTER_SET and not as_it_is:
                    terms = walk.window.read(offset, min(length, _LONGEST_TERMS)).rstrip(b"\0 ")
                    charset = charset_of(terms)
                new = None if as_it_is else self._text(tag, vr, offset, length, charset)
                changed |= new is not None
                pieces.append((cursor, offset + length) if new is None else new)
                cursor = offset + length
                if not depth and changed:
                    converted[opened] = pieces
        return converted

    def _unknown(self, kind: int, start: int) -> bool:
        """Whether a sequence was written by somebody who did not know it: Implicit VR inside."""
        if kind != SEQUENCE_START or not self._writer.explicit:
            return False
        return self._walk.window.read(start + 4, 2) == b"UN"

    def _text(self, tag: int, vr: str, offset: int, length: int, charset: Charset) -> bytes | None:
        """The element as UTF-8; None: it stays as it is."""
        if tag == SPECIFIC_CHARACTER_SET:
            return self._writer.element(tag, "CS", UTF_8.encode())
        if vr not in _TEXT_VRS:
            return None
        raw = self._walk.window.read(offset, length)
        if raw.isascii() and 0x1B not in raw:
            return None
        value = charset.decode(raw, name=vr == "PN")[0].encode()
        if vr not in LONG_VRS and len(value) > _LONGEST_SHORT:
            return None
        return self._writer.element(tag, vr, value)


def _joined_but_last(pieces: Sequence[Piece]) -> list[Piece]:
    """The last is the delimiter, before which others may want to go."""
    return [*_joined(pieces[:-1]), pieces[-1]]

"""The walk over a data set: its elements, sequences and items, one after the other (PS3.5 7).

Iterative and with `struct`, so that no nesting exhausts a stack; through a window, so that large
values are passed over by their offset and never read; tolerant as files in the wild demand. The
consumer reads the values that it wants with `Walk.window.read`.
"""

from collections.abc import Iterator
from struct import Struct

from gantry_domain.errors import UnreadableObject
from gantry_domain.sources import INFLATED_LIMIT, Fetch, Inflated, Window
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gantry_domain.value_representations import (
    BINARY_VRS,
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    PIXEL_DATA_TAGS,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    vr_of,
)

# What an event of the walk is about.
ELEMENT = 0  # a value: offset and length of its bytes
SEQUENCE_START = 1
ITEM_START = 2
ITEM_END = 3
SEQUENCE_END = 4  # also the end of fragments
FRAGMENTS_START = 5  # encapsulated pixel data (PS3.5 A.4)
FRAGMENT = 6  # offset and length of its bytes; the first is the basic offset table

# (kind, tag, VR, offset, length): the tag and VR of the element that an item or end belongs to;
# offset of the value or, at an end, of the first byte after it; UNDEFINED if no length is given.
Event = tuple[int, int, str, int, int]

UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 64
MAX_ELEMENTS = 5_000_000
_UNBOUNDED = 1 << 62

_SHORT = {vr.encode(): vr for vr in SHORT_VRS}
_LONG = {vr.encode(): vr for vr in LONG_VRS}
_FRAGMENT_VRS = BINARY_VRS - {"UN"}
# So many items show that a value of unknown VR is a sequence.
_ITEMS_TRIED = 64
# The groups with which data sets begin, read in the wrong byte order.
_SWAPPED_FIRST_GROUPS = frozenset((0x0400, 0x0800, 0x1000))

# GE's private syntax: Implicit VR LE but for the order of the pixels' bytes.
_GE_IMPLICIT = "1.2.840.113619.5.2"

_EXPLICIT = {True: Struct("<HH2sH").unpack_from, False: Struct(">HH2sH").unpack_from}
_IMPLICIT = {True: Struct("<HHL").unpack_from, False: Struct(">HHL").unpack_from}
_ULONG = {True: Struct("<L").unpack_from, False: Struct(">L").unpack_from}
_TAG = {True: Struct("<HH").unpack_from, False: Struct(">HH").unpack_from}


class Walk:
    """Iterate once over it for the events of one data set.

    `explicit`, `little`: the encoding as found, `mismatch` if it is not the declared one.
    After the iteration: `truncated` if the data set ends within an element, `broken` names a
    place where it could not be followed; `gaps` are the ranges (offset, end) of which nothing was
    told for these reasons, the end None if it is not known. Every start has its end all the same.
    Raises `UnreadableObject`: `too_deeply_nested` (over 64 sequences), `too_many_elements`.
    """

    __slots__ = (
        "_end", "_skip", "_start", "broken", "explicit", "gaps", "little", "mismatch", "truncated",
        "window",
    )  # fmt: skip

    def __init__(
        self, window: Window, *, start: int, end: int | None, explicit: bool, little: bool
    ) -> None:
        """`end` None: the end is where `window` has no more bytes."""
        self.window = window
        self._start = start
        self._end = _UNBOUNDED if end is None else end
        self.explicit = explicit
        self.little = little
        self.mismatch = False
        self._skip = False
        self.truncated = False
        self.broken: str | None = None
        self.gaps: list[tuple[int, int | None]] = []
        self._believe_the_first_element()

    @property
    def end(self) -> int | None:
        """The offset where the data set ends; None if that is not known: it is deflated."""
        return None if self._end == _UNBOUNDED else self._end

    def skip_sequence(self) -> None:
        """At a SEQUENCE_START with a length: go on at its end, without its items."""
        self._skip = True

    def __iter__(self) -> Iterator[Event]:
        window = self.window
        short, long, dictionary, pixel_data = _SHORT, _LONG, vr_of, PIXEL_DATA_TAGS
        position, end = self._start, self._end
        explicit, little = self.explicit, self.little
        unpack_explicit, unpack_implicit = _EXPLICIT[little], _IMPLICIT[little]
        # The open container: a data set (ELEMENT), a sequence's items or fragments, of which
        # element, and whether only a delimiter ends it. `stack` has the same of those around it.
        mode, owner, owner_vr, delimited = ELEMENT, 0, "", False
        stack: list[tuple[int, int, str, bool, int, bool, bool]] = []
        budget = MAX_ELEMENTS
        close = False
        while True:
            if close or position >= end:
                if not stack:
                    break
                if delimited and not close and end == self._end:
                    self.truncated = True
                close = False
                kind = ITEM_END if mode == ELEMENT else SEQUENCE_END
                yield (kind, owner, owner_vr, min(position, self._end), 0)
                mode, owner, owner_vr, delimited, end, explicit, little = stack.pop()
                unpack_explicit, unpack_implicit = _EXPLICIT[little], _IMPLICIT[little]
                continue
            budget -= 1
            if not budget:
                raise UnreadableObject("too_many_elements")
            buffer = window.buffer
            index = position - window.base
            if index < 0 or index + 12 > len(buffer):
                window.move(position)
                index, buffer = 0, window.buffer
                if len(buffer) < 8:
                    self._end_early(position, buffer, nested=bool(stack))
                    break

            if mode != ELEMENT:
                group, element, length = unpack_implicit(buffer, index)
                tag = group << 16 | element
                if tag == ITEM:
                    position += 8
                    if mode == FRAGMENTS_START:
                        if length == UNDEFINED:
                            self.broken = "fragments_broken"
                            break
                        yield (FRAGMENT, owner, owner_vr, position, length)
                        position += length
                        self.truncated = position > self._end
                        continue
                    yield (ITEM_START, owner, owner_vr, position, length)
                    stack.append((mode, owner, owner_vr, delimited, end, explicit, little))
                    mode, delimited = ELEMENT, length == UNDEFINED
                    if not delimited:
                        end = self._end_of_container(position + length)
                    explicit = self._item_is_explicit(position, end, explicit, little)
                elif tag == SEQUENCE_DELIMITATION:
                    position += 8
                    close = True
                elif tag == ITEM_DELIMITATION:
                    position += 8
                else:
                    self.broken = "sequence_broken"
                    if mode == FRAGMENTS_START:
                        break
                    # Go on with what follows the sequence, as far as that is known.
                    close = True
                    if not delimited:
                        self.gaps.append((position, end))
                        position = end
                continue

            if explicit:
                group, element, raw_vr, length = unpack_explicit(buffer, index)
                tag = group << 16 | element
                vr = short.get(raw_vr, "")
                offset = position + 8
                if not vr and group != 0xFFFE:
                    vr = long.get(raw_vr, "")
                    if not vr:
                        vr, offset, length = self._odd_vr(position, end, little)
                    elif index + 12 > len(buffer):
                        self.truncated = True
                        break
                    else:
                        length = _ULONG[little](buffer, index + 8)[0]
                        offset = position + 12
            else:
                group, element, length = unpack_implicit(buffer, index)
                tag = group << 16 | element
                vr = dictionary(tag)
                offset = position + 8

            if group == 0xFFFE:
                if not stack and tag in (ITEM_DELIMITATION, SEQUENCE_DELIMITATION):
                    position += 8
                elif tag == ITEM_DELIMITATION:
                    position += 8
                    close = True
                elif tag in (ITEM, SEQUENCE_DELIMITATION) and stack:
                    # The delimiter of this item is missing; the sequence deals with the tag.
                    close = True
                else:
                    self.broken = "unexpected_item"
                    break
                continue
            if not tag and not stack:
                self._end_early(position, window.read(position, 4096), nested=False)
                break

            inner_explicit, inner_little = explicit, little
            if vr == "UN":
                if length == UNDEFINED:
                    if tag in pixel_data:
                        vr = "OB"
                    else:
                        # PS3.5 6.2.2 Note 4 (CP-246): Implicit VR Little Endian inside.
                        vr, inner_explicit, inner_little = "SQ", False, True
                elif explicit:
                    # PS3.5 6.2.2: known after all, only its writer did not know it.
                    known = dictionary(tag)
                    if known != "SQ":
                        vr = known
                    elif not length or self._item_at(offset, little):
                        vr, inner_explicit = known, False
                if vr == "UN" and length != UNDEFINED and self._items_fill(offset, length, little):
                    # A private sequence whose VR is lost with Implicit VR.
                    vr, inner_explicit = "SQ", False
            if length == UNDEFINED and vr != "SQ":
                if vr in _FRAGMENT_VRS:
                    yield (FRAGMENTS_START, tag, "OB", offset, UNDEFINED)
                    stack.append((mode, owner, owner_vr, delimited, end, explicit, little))
                    mode, owner, owner_vr, delimited = FRAGMENTS_START, tag, "OB", True
                    position = offset
                    continue
                if not self._item_at(offset, little):
                    self.broken = "undefined_length"
                    break
                vr = "SQ"
            if vr == "SQ":
                self._skip = False
                yield (SEQUENCE_START, tag, vr, offset, length)
                inner_end = end if length == UNDEFINED else self._end_of_container(offset + length)
                if self._skip and length != UNDEFINED:
                    position = inner_end
                    yield (SEQUENCE_END, tag, vr, position, 0)
                    continue
                if len(stack) >= 2 * MAX_DEPTH:
                    raise UnreadableObject("too_deeply_nested")
                stack.append((mode, owner, owner_vr, delimited, end, explicit, little))
                mode, owner, owner_vr, delimited = SEQUENCE_START, tag, vr, length == UNDEFINED
                end, explicit, little = inner_end, inner_explicit, inner_little
                unpack_explicit, unpack_implicit = _EXPLICIT[little], _IMPLICIT[little]
                position = offset
                continue
            if offset + length > self._end:
                self.truncated = True
                if tag in pixel_data:
                    yield (ELEMENT, tag, vr, offset, length)
                    position = self._end
                break
            position = offset + length
            yield (ELEMENT, tag, vr, offset, length)

        position = min(position, self._end)
        if position < self._end and (self.truncated or self.broken is not None):
            self.gaps.append((position, self.end))
        while stack:
            kind = ITEM_END if mode == ELEMENT else SEQUENCE_END
            yield (kind, owner, owner_vr, position, 0)
            mode, owner, owner_vr, *_ = stack.pop()

    def _believe_the_first_element(self) -> None:
        """Files contradict their transfer syntax; the first element shows how they are encoded."""
        head = self.window.read(self._start, 8)
        if len(head) < 8:
            return
        group, _ = _TAG[self.little](head, 0)
        if group in _SWAPPED_FIRST_GROUPS:
            self.little = not self.little
            self.mismatch = True
        known = head[4:6] in _SHORT or head[4:6] in _LONG
        if self.explicit and not known and not _capitals(head[4:6]):
            length = _ULONG[self.little](head, 4)[0]
            fits = self._start + 8 + length <= self._end or length == UNDEFINED
            self.explicit = not fits
            self.mismatch |= fits
        elif known and not self.explicit:
            self.explicit = self.mismatch = True

    def _item_is_explicit(self, position: int, end: int, explicit: bool, little: bool) -> bool:
        """Some writers change the encoding within a sequence: look at the item's first element."""
        head = self.window.read(position, 8)
        if len(head) < 8 or _TAG[little](head, 0)[0] == 0xFFFE:
            return explicit
        known = head[4:6] in _SHORT or head[4:6] in _LONG
        if explicit:
            return known or _capitals(head[4:6])
        length = _ULONG[little](head, 4)[0]
        return known and length != UNDEFINED and position + 8 + length > end

    def _odd_vr(self, position: int, end: int, little: bool) -> tuple[str, int, int]:
        """VR, offset and length of the value of an element whose VR PS3.5 does not know."""
        head = self.window.read(position, 12)
        group, element, raw_vr, short_length = _EXPLICIT[little](head, 0)
        tag = group << 16 | element
        if _capitals(raw_vr):
            if not short_length and len(head) == 12 and position + 8 < end:
                following = _TAG[little](head, 8)
                if following <= (group, element):
                    # PS3.5 6.2: VRs of the future have 32 bits of length.
                    return "UN", position + 12, _ULONG[little](head, 8)[0]
            return "UN", position + 8, short_length
        length: int = _ULONG[little](head, 4)[0]
        if length == UNDEFINED or position + 8 + length <= end:
            return vr_of(tag), position + 8, length  # an element in Implicit VR
        if position + 8 + short_length <= end:
            return vr_of(tag), position + 8, short_length
        return vr_of(tag), position + 8, length

    def _item_at(self, offset: int, little: bool) -> bool:
        head = self.window.read(offset, 4)
        return len(head) == 4 and _TAG[little](head, 0) == (0xFFFE, 0xE000)

    def _items_fill(self, offset: int, length: int, little: bool) -> bool:
        """Whether a value is a chain of items from its first byte to its last."""
        end = offset + length
        if end > self._end or length < 8:
            return False
        for _ in range(_ITEMS_TRIED):
            head = self.window.read(offset, 8)
            if len(head) < 8 or _TAG[little](head, 0) != (0xFFFE, 0xE000):
                return False
            item_length = _ULONG[little](head, 4)[0]
            if item_length == UNDEFINED:
                return True
            offset += 8 + item_length
            if offset >= end:
                return offset == end
        return True

    def _end_of_container(self, end: int) -> int:
        if end > self._end:
            self.truncated = True
            return self._end
        return end

    def _end_early(self, position: int, rest: bytes, *, nested: bool) -> None:
        """The data set has no further element here: is it cut, or followed by padding?"""
        unknown_end = self._end == _UNBOUNDED
        past_end = unknown_end and not rest and not self.window.read(position - 1, 1)
        if nested or past_end:
            self.truncated = position > self._start
        elif any(rest):
            self.broken = "trailing_bytes"


def _capitals(raw_vr: bytes) -> bool:
    return raw_vr.isalpha() and raw_vr.isupper()


def encoding_of(transfer_syntax: str) -> tuple[bool, bool]:
    """(explicit VR, little endian) of the data set of a transfer syntax (PS3.5 Annex A)."""
    if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN:
        return True, False
    return transfer_syntax not in (IMPLICIT_VR_LITTLE_ENDIAN, _GE_IMPLICIT), True


def walk_dataset(
    fetch: Fetch,
    *,
    size: int,
    dataset_offset: int,
    transfer_syntax: str,
    first: bytes = b"",
    inflated_limit: int = INFLATED_LIMIT,
) -> Walk:
    """A walk over the data set of a stored object of `size` bytes.

    `first`: the object's first bytes if they have been read already. If the data set is deflated
    the offsets of the walk, and those that `walk.window` takes, are of the inflated data set.
    """
    explicit, little = encoding_of(transfer_syntax)
    if transfer_syntax in DEFLATED:
        inflated = Inflated(fetch, dataset_offset=dataset_offset, limit=inflated_limit)
        window = Window(inflated)
        return Walk(window, start=0, end=None, explicit=explicit, little=little)
    window = Window(fetch, first=first)
    return Walk(window, start=dataset_offset, end=size, explicit=explicit, little=little)

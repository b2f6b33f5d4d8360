"""Where encoders and cameras write comments into compressed frames: they tell of their maker.

JPEG and JPEG 2000 begin alike, with segments that have a marker and a length (ISO/IEC 10918-1 B.1,
15444-1 A.1). What readers need of them stays: JFIF, colour profiles, Adobe's and SPIFF's colours.
"""

from collections.abc import Iterator

from gantry_domain.elements import Walk

_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f"
# APPn but 0 (JFIF), 2 (ICC), 8 (SPIFF) and 14 (Adobe); and COM.
_OF_JPEG = frozenset((0xE1, *range(0xE3, 0xE8), *range(0xE9, 0xEE), 0xEF, 0xFE))
_OF_JPEG_2000 = frozenset((0x64,))
# With the first scan, the first tile or the end the comments are over: SOS, SOT, EOI.
_LAST = frozenset((0xDA, 0x90, 0xD9))


def frame_comments(walk: Walk, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The ranges of comments in a fragment that begins a frame, as offsets of the walk."""
    end = offset + length
    first = walk.window.read(offset, 2)
    telling = {_JPEG: _OF_JPEG, _JPEG_2000: _OF_JPEG_2000}.get(first)
    offset += 2
    while telling is not None and offset + 4 <= end:
        head = walk.window.read(offset, 4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in _LAST:
            return
        if head[1] == 0xFF:  # a fill byte
            offset += 1
            continue
        size = int.from_bytes(head[2:])
        if head[1] in telling:
            yield offset + 4, min(offset + 2 + size, end)
        offset += 2 + max(size, 2)

"""Pieces of a data set in little endian order, as both re-encodings write them."""

from collections.abc import Iterable, Iterator
from struct import Struct

from gantry_domain.elements import UNDEFINED, Walk
from gantry_domain.json_model import little_endian
from gantry_domain.value_representations import BINARY_VRS, WORD_SIZES

CHUNK = 1024 * 1024
"""Bytes of the longest piece: a multiple of every word size."""

HEAD_WITHOUT_VR = Struct("<HHL").pack
OPENED_ITEM = HEAD_WITHOUT_VR(0xFFFE, 0xE000, UNDEFINED)
CLOSED_ITEM = HEAD_WITHOUT_VR(0xFFFE, 0xE00D, 0)
CLOSED_SEQUENCE = HEAD_WITHOUT_VR(0xFFFE, 0xE0DD, 0)

_OUTPUT = 64 * 1024
_PADDED_WITH_NUL = BINARY_VRS | {"UI"}


def value_pieces(walk: Walk, vr: str, offset: int, length: int) -> Iterator[bytes]:
    """A value in little endian order, padded to even length (PS3.5 7.1.1)."""
    swap = not walk.little and WORD_SIZES.get(vr, 1) > 1
    end = offset + length
    while offset < end:
        chunk = walk.window.read(offset, min(CHUNK, end - offset))
        if not chunk:
            return
        yield little_endian(chunk, vr) if swap else chunk
        offset += len(chunk)
    if length % 2:
        yield b"\0" if vr in _PADDED_WITH_NUL or vr in WORD_SIZES else b" "


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth sending."""
    output: list[bytes] = []
    waiting = 0
    for piece in pieces:
        output.append(piece)
        waiting += len(piece)
        if waiting >= _OUTPUT:
            yield b"".join(output)
            output.clear()
            waiting = 0
    if output:
        yield b"".join(output)

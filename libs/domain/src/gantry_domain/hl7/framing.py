"""Messages out of a stream of bytes (HL7 v2 Minimal Lower Layer Protocol, release 1).

    | 0x0B | message ... | 0x1C | 0x0D |

The last byte is not waited for, for some leave it out. Between messages blanks are passed over, and
anything else is none of this protocol. What is longer than allowed is read to its end, so that its
sender hears why it is refused, but only its beginning is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass

START, END = 0x0B, 0x1C
_BLANKS = b"\r\n\0 "
_KEPT = 64 * 1024


class NotMllp(Exception):
    """Bytes outside of a message."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message as it came; of one that is too large the beginning alone."""

    content: bytes
    too_large: bool = False


def framed(message: bytes) -> bytes:
    """A message as it is sent."""
    return b"\x0b" + message + b"\x1c\r"


class Framer:
    """Takes pieces of a stream, and gives the messages that they complete."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._buffer = bytearray()
        self._size = 0
        self.within = False
        """Whether a message has begun that has not ended."""

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """The messages that end in this piece. Raises `NotMllp`."""
        place = 0
        while place < len(piece):
            if not self.within:
                rest = piece[place:].lstrip(_BLANKS)
                if not rest:
                    return
                if rest[0] != START:
                    raise NotMllp
                place = len(piece) - len(rest) + 1
                self._buffer.clear()
                self._size = 0
                self.within = True
            end = piece.find(END, place)
            self._take(piece[place : len(piece) if end < 0 else end])
            if end < 0:
                return
            place = end + 1
            self.within = False
            too_large = self._size > self._largest
            yield Frame(bytes(self._buffer[:_KEPT] if too_large else self._buffer), too_large)

    def _take(self, content: bytes) -> None:
        self._size += len(content)
        if self._size <= self._largest:
            self._buffer += content
        else:
            missing = max(0, _KEPT - len(self._buffer))
            self._buffer += content[:missing]
            del self._buffer[_KEPT:]

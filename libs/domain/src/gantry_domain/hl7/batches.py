"""Batches of messages (HL7 v2 2.10.3): taken apart, and answered by a batch of acknowledgements.

[FHS] { [BHS] { MSH ... } [BTS] } [FTS]
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from gantry_domain.errors import PermanentError

_BREAK = re.compile(rb"\r\n|\r|\n")
_HEADS, _ENDS = (b"FHS", b"BHS"), (b"BTS", b"FTS")
_BLANKS = b"\xef\xbb\xbf\r\n\t\0 "
_USUAL = b"|^~\\&"


class BrokenBatch(PermanentError):
    """A batch that is not whole: nothing of it is taken."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages, and the heads that they came with as they were sent."""

    messages: tuple[bytes, ...]
    heads: tuple[bytes, ...]

    def answered(self, acknowledgements: Sequence[bytes], now: datetime) -> bytes:
        """The batch that answers: a head for the first of each kind that there was."""
        heads = {head[:3]: head for head in reversed(self.heads)}
        separator = self.heads[0][3:4] or _USUAL[:1]
        lines = [_head(heads[name], now) for name in _HEADS if name in heads]
        ends = [
            separator.join((name, str(count).encode()))
            for head, name, count in (
                (b"BHS", b"BTS", len(acknowledgements)), (b"FHS", b"FTS", 1),
            )
            if head in heads
        ]  # fmt: skip
        return b"".join(
            [*(line + b"\r" for line in lines), *acknowledgements, *(end + b"\r" for end in ends)]
        )


def read_batch(raw: bytes) -> Batch | None:
    """None where it is no batch, but a message. Raises `BrokenBatch`."""
    if raw.lstrip(_BLANKS)[:3] not in _HEADS:
        return None
    heads: list[bytes] = []
    messages: list[list[bytes]] = []
    counted = 0
    open_batch = False
    for line in _BREAK.split(raw.strip(_BLANKS)):
        name = line[:3]
        if name in _HEADS:
            heads.append(line)
            open_batch = True
        elif name in _ENDS:
            if name == b"BTS":
                _check_count(line, heads[0], len(messages) - counted)
                counted = len(messages)
            open_batch = False
        elif name == b"MSH":
            messages.append([line])
        elif messages and line.strip():
            messages[-1].append(line)
        elif line.strip():
            raise BrokenBatch("the batch has segments before its first message")
    if open_batch:
        raise BrokenBatch("the batch has no end (BTS, FTS)")
    return Batch(tuple(b"\r".join(lines) + b"\r" for lines in messages), tuple(heads))


def _check_count(line: bytes, head: bytes, messages: int) -> None:
    """BTS-1 is how many messages there are, where it says so."""
    told = line.split(head[3:4] or _USUAL[:1])[1:2]
    if told and told[0].strip().isdigit() and int(told[0]) != messages:
        raise BrokenBatch("the batch has another number of messages than BTS-1 says")


def _head(head: bytes, now: datetime) -> bytes:
    """FHS or BHS of ours: back to where it came from, with a reference to theirs (field 12)."""
    separator = head[3:4] or _USUAL[:1]
    # Counted from 1: the separator itself is field 1.
    fields = [head[:3], separator, *head[4:].split(separator), *[b""] * 13][:13]
    answer = [
        head[:3] + separator + (fields[2] or _USUAL[1:]),
        fields[5],
        fields[6],
        fields[3],
        fields[4],
        now.strftime("%Y%m%d%H%M%S%z").encode(),
        b"",
        b"",
        b"",
        uuid4().hex[:20].encode(),
        fields[11],
    ]
    return separator.join(answer)

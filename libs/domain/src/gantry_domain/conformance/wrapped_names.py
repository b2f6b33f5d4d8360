"""Names of classes that were broken into two lines, as in the narrow columns of a PDF.

CT Defined Procedure    1.2.840.10008.5.1.4.1.1.200.1    Yes
Protocol Storage

They are put together only where that makes the name of just that UID.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from gantry_domain.conformance.names import Agreement, agreement, is_class
from gantry_domain.conformance.rows import Row

_UID = re.compile(r"[12](?:\.(?:0|[1-9]\d*)){4,}")
_MOST_LINES = 3


def unwrapped(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with whole names, without the lines that held their rest."""
    waiting = list(rows)
    place = 0
    while place < len(waiting):
        row, taken = _whole(waiting[place : place + _MOST_LINES])
        yield row
        place += taken


def _whole(rows: list[Row]) -> tuple[Row, int]:
    """The first row with its name, and how many rows that took."""
    first, *others = rows
    uid = next((cell for cell in first.cells[1:] if _UID.fullmatch(cell)), None)
    if uid is None or not is_class(uid) or _same(first.cells[0], uid):
        return first, 1
    name = first.cells[0]
    for number, other in enumerate(others, start=2):
        if any(map(_UID.search, other.cells)):
            break
        name = f"{name} {other.cells[0]}"
        if _same(name, uid):
            return replace(first, cells=(name, *first.cells[1:])), number
    return first, 1


def _same(name: str, uid: str) -> bool:
    return agreement(name, uid)[0] is Agreement.SAME

"""Bulk data of a store request until its data sets are composed: one file, without a name.

Their lengths stand before them in a data set, and are known only when they have come.
"""

import errno
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from gantry_domain.errors import PermanentError
from gantry_stores.objects import StoreFull

_CHUNK = 2**20


class SpoolTooLarge(PermanentError):
    """The bulk data of a request are larger than they may be."""

    def __init__(self) -> None:
        super().__init__("the bulk data of the request are too large")


@dataclass(slots=True)
class SpooledPart:
    """A part: its Content-Type, where it begins, its size in bytes."""

    content_type: str
    offset: int
    size: int = 0


@dataclass(slots=True)
class BulkSpool:
    """The parts of a request by their Content-Location, those of one location in their order.

    `folder`: where the file lies; None: where the system has temporary files.
    """

    limit: int
    folder: Path | None = None
    parts: dict[str, list[SpooledPart]] = field(default_factory=dict)
    _file: IO[bytes] | None = None
    _size: int = 0
    _current: SpooledPart | None = None

    def begin(self, location: str, content_type: str) -> None:
        """The next part."""
        self._current = SpooledPart(content_type, self._size)
        self.parts.setdefault(location, []).append(self._current)

    def write(self, piece: memoryview) -> None:
        """More of it. Raises `SpoolTooLarge`, `StoreFull`."""
        assert self._current is not None
        if self._size + len(piece) > self.limit:
            raise SpoolTooLarge
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(  # noqa: SIM115 - `close`
                    prefix="gantry-bulk-", dir=self.folder
                )
            self._file.write(piece)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull("there is no room for bulk data") from error
            raise
        self._current.size += len(piece)
        self._size += len(piece)

    def read(self, part: SpooledPart) -> Iterator[bytes]:
        """A part in pieces."""
        if self._file is None:
            return
        self._file.seek(part.offset)
        left = part.size
        while left:
            piece = self._file.read(min(left, _CHUNK))
            left -= len(piece)
            yield piece

    def close(self) -> None:
        """Nothing stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

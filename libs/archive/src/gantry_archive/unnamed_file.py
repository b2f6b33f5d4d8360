"""A DICOM file that is made for one reading, in a temporary file without a name."""

import os
import tempfile
import weakref
from collections.abc import Iterator

from gantry_domain.little_endian import CHUNK


class UnnamedFile:
    """An `Outgoing` that is written first; its space is given back with the last reference."""

    def __init__(self, *, dataset_offset: int) -> None:
        """`dataset_offset`: bytes of preamble and file meta information."""
        self.dataset_offset = dataset_offset
        self.size = 0
        with tempfile.TemporaryFile(prefix="gantry-outgoing-") as file:
            self._file = os.dup(file.fileno())
        # Readers pass it on and none of them ends it.
        weakref.finalize(self, os.close, self._file)

    def write(self, content: bytes) -> None:
        """Add to its end."""
        while content:
            written = os.write(self._file, content)
            self.size += written
            content = content[written:]

    def read(self, offset: int, length: int) -> bytes:
        """See `Outgoing`."""
        return os.pread(self._file, length, offset)

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """See `Outgoing`."""
        while chunk := self.read(offset, CHUNK):
            yield chunk
            offset += len(chunk)

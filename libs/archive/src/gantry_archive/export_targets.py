"""Where an export is written to: a folder, or a ZIP file that grows as it is written.

Both are whole when `close` returns, and durable. What was begun and not closed is no export: of a
ZIP file nothing is left, and in a folder there is no DICOMDIR.
"""

import os
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from gantry_domain.errors import ConfigurationError, TransientError
from gantry_stores.objects import TEMPORARY, DirectoryStore
from gantry_stores.objects.folder_sync import sync_folder

# Packed harder, pixels take several times as long for a few per cent.
_LEVEL = 1
# The same instances make the same file.
_MOMENT = (1980, 1, 1, 0, 0, 0)


class CannotWrite(TransientError):
    """What is exported to cannot be written to; the text says why."""


class ExportTarget(Protocol):
    """Takes files one after the other; ended by `close` or `abort`."""

    def write(self, name: str, chunks: Iterable[bytes]) -> int:
        """One file, whole or not at all; its size. Raises `CannotWrite`, or what the chunks do."""

    def close(self) -> None:
        """All is there. Raises `CannotWrite`."""

    def abort(self) -> None:
        """Leave nothing unfinished behind; without effect after `close`."""


def open_target(path: Path, *, fresh: bool) -> ExportTarget:
    """A ZIP file where the name ends with `.zip`, else a folder, which is made if it is absent.

    `fresh`: the folder has to be absent or empty. Raises `ConfigurationError`, `CannotWrite`.
    """
    path = path.absolute()
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {path.parent}")
    if path.suffix.lower() == ".zip":
        if path.is_dir():
            raise ConfigurationError(f"{path} is a folder")
        return ZipTarget(path)
    if path.exists() and not path.is_dir():
        raise ConfigurationError(f"{path} is a file: name a folder, or a file that ends with .zip")
    if fresh and path.is_dir() and any(path.iterdir()):
        raise ConfigurationError(f"{path} is not empty, and a DICOMDIR is about all that is in it")
    return FolderTarget(path)


class FolderTarget:
    """Files in a folder, each durable by itself; one of the same name is replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._writing():
            self._store = DirectoryStore(folder, create=True, replaces=True)

    def write(self, name: str, chunks: Iterable[bytes]) -> int:
        """See `ExportTarget`."""
        size = 0
        with self._writing():
            writer = self._store.create(name)
        try:
            for chunk in chunks:
                size += len(chunk)
                with self._writing():
                    writer.write([chunk])
            with self._writing():
                writer.commit()
        finally:
            writer.abort()
        return size

    def close(self) -> None:
        """See `ExportTarget`."""
        self.abort()

    def abort(self) -> None:
        """See `ExportTarget`."""
        # Another export may write here too.
        with suppress(OSError):
            (self._folder / TEMPORARY).rmdir()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except TransientError as error:
            raise CannotWrite(f"{self._folder}: {error}") from error


class ZipTarget:
    """One ZIP file (with its 64-bit extensions), under another name until it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        with self._writing():
            self._file = self._unfinished.open("xb")
        self._zip = zipfile.ZipFile(
            self._file, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=_LEVEL
        )
        self._open = True

    def write(self, name: str, chunks: Iterable[bytes]) -> int:
        """See `ExportTarget`."""
        size = 0
        info = zipfile.ZipInfo(name, _MOMENT)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o640 << 16
        try:
            with self._writing():
                entry = self._zip.open(info, "w", force_zip64=True)
            try:
                for chunk in chunks:
                    size += len(chunk)
                    with self._writing():
                        entry.write(chunk)
            finally:
                with self._writing():
                    entry.close()
        except BaseException:
            with suppress(OSError):  # the next entry, or `close`, fails then
                self._forget(info)
            raise
        return size

    def close(self) -> None:
        """See `ExportTarget`."""
        with self._writing():
            self._zip.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._unfinished, self._path)
            sync_folder(str(self._path.parent))
        self._open = False

    def abort(self) -> None:
        """See `ExportTarget`."""
        if not self._open:
            return
        self._open = False
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._unfinished.unlink()
        # Without its file there is nothing that it could write when it is collected.
        self._zip.fp = None

    def _forget(self, info: zipfile.ZipInfo) -> None:
        """Go back to where an entry began that did not become whole."""
        if info in self._zip.filelist:
            self._zip.filelist.remove(info)
            self._zip.NameToInfo.pop(info.filename, None)
        self._file.seek(info.header_offset)
        self._file.truncate()
        self._zip.start_dir = info.header_offset

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CannotWrite(f"{self._path}: {error.strerror or error}") from error

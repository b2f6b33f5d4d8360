"""The files that an import finds: in folders, in ZIP files, and those that a DICOMDIR names.

Each is opened when it is its turn, and once more if it is needed again; nothing is unpacked.
"""

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from gantry_domain.data_set_json import UnreadableDataSet, read_data_set
from gantry_domain.dicomdir import DICOMDIR, MEDIA_STORAGE_DIRECTORY
from gantry_domain.errors import ConfigurationError, PermanentError, UnreadableObject
from gantry_domain.file_meta import parse_file_meta

_HEAD = 64 * 1024
_LARGEST_DIRECTORY = 256 * 2**20
_RECORDS, _FILE_ID = "00041220", "00041500"
# A wrong checksum, a password that is asked for, a way of packing that is not known.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError)


class CannotRead(PermanentError):
    """A file that cannot be read; the text says why."""


class OpenFile:
    """A file that is read from its beginning."""

    def __init__(self, opening: Callable[[ExitStack], IO[bytes]]) -> None:
        self._opening = opening
        self._stack = ExitStack()
        self._file: IO[bytes] | None = None

    def read(self, size: int) -> bytes:
        """The next bytes, none at the end. Raises `CannotRead`."""
        try:
            if self._file is None:
                self._file = self._opening(self._stack)
            return self._file.read(size)
        except (OSError, *_ZIP_ERRORS) as error:
            raise CannotRead(_why(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._stack.close()


@dataclass(frozen=True, slots=True)
class Found:
    """A file: how it is called, its size in bytes, and how it is opened."""

    name: str
    size: int
    open: Callable[[], OpenFile]


def find_files(path: Path) -> Iterator[Found]:
    """The files of a folder and of all below, of a ZIP file, of a DICOMDIR; or the file itself.

    Raises `ConfigurationError` for what cannot be looked into at all.
    """
    try:
        if path.is_dir():
            yield from _in_folder(path)
        elif not path.exists():
            raise ConfigurationError(f"there is no {path}")
        elif zipfile.is_zipfile(path):
            yield from _in_zip(path)
        elif (names := _file_ids(path)) is not None:
            yield from _of_directory(path.absolute().parent, names)
        else:
            yield _file(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {_why(error)}") from error


def _in_folder(folder: Path) -> Iterator[Found]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        yield _unreadable(str(folder), _why(error))
        return
    for found in inside:
        try:
            mode = found.lstat().st_mode
        except FileNotFoundError:
            continue
        # Links are not followed: they may lead anywhere, and round in circles.
        if stat.S_ISDIR(mode):
            yield from _in_folder(found)
        elif stat.S_ISREG(mode) and found.name.upper() != DICOMDIR:
            if found.suffix.lower() == ".zip" and zipfile.is_zipfile(found):
                yield from _in_zip(found)
            else:
                yield _file(found)


def _file(path: Path) -> Found:
    return Found(
        str(path),
        path.lstat().st_size,
        lambda: OpenFile(lambda stack: stack.enter_context(path.open("rb"))),
    )


def _in_zip(path: Path) -> Iterator[Found]:
    try:
        # Not closed here: its files are read later, by several threads. It ends with the last.
        archive = zipfile.ZipFile(path)
    except (OSError, *_ZIP_ERRORS) as error:
        yield _unreadable(str(path), _why(error))
        return
    for entry in archive.infolist():
        if not entry.is_dir() and PurePosixPath(entry.filename).name.upper() != DICOMDIR:
            yield _zipped(path, archive, entry)


def _zipped(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Found:
    return Found(
        f"{path}:{entry.filename}",
        entry.file_size,
        lambda: OpenFile(lambda stack: stack.enter_context(archive.open(entry))),
    )


def _unreadable(name: str, why: str) -> Found:
    def opening(_stack: ExitStack) -> IO[bytes]:
        raise CannotRead(why)

    return Found(name, 0, lambda: OpenFile(opening))


def _file_ids(path: Path) -> list[tuple[str, ...]] | None:
    """The File IDs in a DICOMDIR; None where it is none, or one that cannot be read."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        try:
            parsed = parse_file_meta(head)
        except UnreadableObject:
            return None
        if parsed.meta.MediaStorageSOPClassUID != MEDIA_STORAGE_DIRECTORY:
            return None
        file.seek(parsed.dataset_offset)
        encoded = file.read(_LARGEST_DIRECTORY)
    try:
        ds = read_data_set(encoded, transfer_syntax=parsed.meta.TransferSyntaxUID)
    except UnreadableDataSet as error:
        raise ConfigurationError(
            f"{path} is a DICOMDIR that cannot be read; name its folder instead"
        ) from error
    records = ds.get(_RECORDS, {}).get("Value", [])
    ids = (record.get(_FILE_ID, {}).get("Value", []) for record in records)
    return [tuple(map(str, parts)) for parts in ids if parts]


def _of_directory(folder: Path, file_ids: list[tuple[str, ...]]) -> Iterator[Found]:
    for parts in dict.fromkeys(file_ids):
        path = _on_medium(folder, parts)
        if path is None:
            yield _unreadable("/".join(parts), "the DICOMDIR names it, and it is not there")
        else:
            yield _file(path)


def _on_medium(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """The file with this ID, whatever case the file system shows names in (PS3.12 F.1.2)."""
    for part in parts:
        if part in ("", ".", "..") or "/" in part or not folder.is_dir():
            return None
        exact = folder / part
        if not exact.exists():
            wanted = (part.lower(), f"{part.lower()};1", f"{part.lower()}.")
            near = (each for each in folder.iterdir() if each.name.lower() in wanted)
            found = next(near, None)
            if found is None:
                return None
            exact = found
        folder = exact
    return folder if folder.is_file() else None


def _why(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) or type(error).__name__

"""Objects as files in a folder: temporary file, fsync, link under the key, fsync of the folder.

    <folder>/.tmp/<uuid>                          what is being written
    <folder>/objects/2024/05/01/12/<uuid>.dcm     what is committed

The temporary file becomes visible by `link`, which, unlike a rename, refuses to overwrite; in a
folder whose files may be replaced, by a rename. The
folder and its `.tmp` are made by whoever says `create`, once, and by nobody else: when they vanish
later (an unmounted volume), the store is away, and nothing is written to the place below.
"""

import errno
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from heapq import nsmallest
from pathlib import Path

from gantry_stores.objects.folder_sync import FolderSync, sync_folder
from gantry_stores.objects.probing import try_store
from gantry_stores.objects.protocol import (
    CHUNK,
    ObjectExists,
    ObjectLost,
    ObjectNotFound,
    ObjectStat,
    StoreFull,
    StoreUnavailable,
    check_key,
    check_prefix,
    check_range,
)

TEMPORARY = ".tmp"
_LEFTOVER_SECONDS = 24 * 3600
_NAMES_AT_ONCE = 50_000
_BUFFERS_AT_ONCE = min(1024, os.sysconf("SC_IOV_MAX"))
_KNOWN_FOLDERS = 64


def _translate(error: OSError, doing: str) -> StoreFull | StoreUnavailable:
    """The named failure; the text says the operating system's reason and no path."""
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"the object folder is full ({reason}, {doing})")
    return StoreUnavailable(f"the object folder cannot be used ({reason}, {doing})")


class DirectoryWriter:
    """An object that is being written to a temporary file."""

    def __init__(self, store: "DirectoryStore", key: str, descriptor: int, temporary: str) -> None:
        self._store = store
        self._key = key
        self._descriptor = descriptor
        self._temporary = temporary
        self._size = 0
        self._synced = False
        self._ended = False

    def write(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """See `ObjectWriter.write`."""
        # The offset moves only when all is written: a call made again overwrites what a failed
        # one left.
        offset = self._size
        rest = [view for buffer in buffers if (view := memoryview(buffer).cast("B")).nbytes]
        try:
            while rest:
                written = os.pwritev(self._descriptor, rest[:_BUFFERS_AT_ONCE], offset)
                offset += written
                while rest and written >= rest[0].nbytes:
                    written -= rest.pop(0).nbytes
                if written:
                    rest[0] = rest[0][written:]
        except OSError as error:
            raise _translate(error, "writing an object") from error
        self._size = offset

    def commit(self, *, sha256: bytes | None = None) -> None:
        """See `ObjectWriter.commit`."""
        if self._ended:
            raise ObjectLost("the object was ended already")
        if not self._synced:
            try:
                os.ftruncate(self._descriptor, self._size)
                os.fsync(self._descriptor)
            except OSError as error:
                # After a failed fsync the kernel may have dropped the pages and call them clean,
                # so a second fsync that succeeds would prove nothing.
                self.abort()
                raise ObjectLost(
                    f"the object could not be made durable ({error.strerror})"
                ) from error
            self._synced = True
        self._store.publish(self._temporary, self._key)
        self._end()

    def abort(self) -> None:
        """See `ObjectWriter.abort`."""
        if self._ended:
            return
        # A commit may have failed after the link.
        self._store.withdraw(self._temporary, self._key)
        self._end()

    def _end(self) -> None:
        self._ended = True
        with suppress(OSError):
            os.close(self._descriptor)
        # What cannot be removed now is a leftover that the next start removes.
        with suppress(OSError):
            os.unlink(self._temporary)


class DirectoryStore:
    """An `ObjectStore` in a folder of a POSIX file system."""

    def __init__(self, folder: Path, *, create: bool = True, replaces: bool = False) -> None:
        """Open the folder and remove what writers left behind a day ago.

        `create`: make it if it is absent, which must not be said by a process that may be started
        again at any time. `replaces`: see `open_replacing`. Raises `StoreFull`, `StoreUnavailable`.
        """
        self._replaces = replaces
        self._root = str(folder.absolute())
        self._temporary = f"{self._root}/{TEMPORARY}"
        self._folders = FolderSync()
        self._known: dict[str, None] = {}
        try:
            if create:
                os.makedirs(self._temporary, mode=0o750, exist_ok=True)
                sync_folder(self._root)
            self._remove_leftovers()
        except OSError as error:
            raise _translate(error, "opening it") from error

    def create(self, key: str) -> DirectoryWriter:
        """See `ObjectStore.create`."""
        check_key(key)
        temporary = f"{self._temporary}/{uuid.uuid4().hex}"
        try:
            descriptor = os.open(
                temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640
            )
        except OSError as error:
            raise _translate(error, "beginning an object") from error
        return DirectoryWriter(self, key, descriptor, temporary)

    def publish(self, temporary: str, key: str) -> None:
        """Show a synced temporary file under `key`, durably. For `DirectoryWriter`.

        Raises `ObjectExists`, `StoreFull`, `StoreUnavailable`.
        """
        path = f"{self._root}/{key}"
        parent = path.rpartition("/")[0]
        try:
            # An hour's folder is made once; meanwhile somebody may have removed it.
            if parent not in self._known:
                self._make(parent)
            try:
                self._show(temporary, path)
            except FileNotFoundError:
                self._make(parent)
                self._show(temporary, path)
            self._folders.sync(parent)
        except FileExistsError as error:
            raise ObjectExists(key) from error
        except OSError as error:
            raise _translate(error, "committing an object") from error

    def _show(self, temporary: str, path: str) -> None:
        if not self._replaces:
            _link(temporary, path)
        # Gone from there it was renamed already, by a call that then failed.
        elif os.path.exists(temporary):
            os.replace(temporary, path)

    def withdraw(self, temporary: str, key: str) -> None:
        """Undo a `publish` that failed half way. For `DirectoryWriter`."""
        path = f"{self._root}/{key}"
        with suppress(OSError):
            if os.path.samefile(temporary, path):
                os.unlink(path)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `ObjectStore.read`."""
        return b"".join(self.chunks(key, offset, length))

    def chunks(
        self, key: str, offset: int = 0, length: int | None = None, chunk_size: int = CHUNK
    ) -> Iterator[bytes]:
        """See `ObjectStore.chunks`."""
        check_range(offset, length)
        pieces = _pieces(f"{self._root}/{check_key(key)}", offset, length, chunk_size)
        try:
            next(pieces)
        except OSError as error:
            raise self._absent_or_away(error, key) from error
        return pieces

    def stat(self, key: str) -> ObjectStat:
        """See `ObjectStore.stat`."""
        try:
            return _object_stat(key, os.stat(f"{self._root}/{check_key(key)}"))
        except OSError as error:
            raise self._absent_or_away(error, key) from error

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectStat]:
        """See `ObjectStore.list`."""
        check_prefix(prefix)
        try:
            # An absent root is a store that is away, not an empty one.
            os.stat(self._temporary)
        except OSError as error:
            raise _translate(error, "listing it") from error
        return self._walk(prefix.rpartition("/")[0], prefix, after or "")

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        path = f"{self._root}/{check_key(key)}"
        try:
            os.unlink(path)
            self._folders.sync(path.rpartition("/")[0])
        except OSError as error:
            if not isinstance(self._absent_or_away(error, key), ObjectNotFound):
                raise _translate(error, "deleting an object") from error

    def probe(self) -> None:
        """See `ObjectStore.probe`."""
        try_store(self, "the object folder")

    def _make(self, folder: str) -> None:
        """Make a folder below the root and each missing one above it, durably."""
        if folder == self._root:
            return
        parent = folder.rpartition("/")[0]
        try:
            os.mkdir(folder, mode=0o750)
        except FileNotFoundError:
            if parent == self._root:
                raise
            self._make(parent)
            with suppress(FileExistsError):
                os.mkdir(folder, mode=0o750)
        except FileExistsError:
            pass
        # Also when another made it: it may not be durable yet.
        self._folders.sync(parent)
        if len(self._known) >= _KNOWN_FOLDERS:
            self._known.clear()
        self._known[folder] = None

    def _absent_or_away(
        self, error: OSError, key: str
    ) -> ObjectNotFound | StoreFull | StoreUnavailable:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and os.path.isdir(self._temporary):
            return ObjectNotFound(key)
        return _translate(error, "reading an object")

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[ObjectStat]:
        """The files below `folder` (a key without its last slash, or empty), in key order."""
        start = f"{folder}/" if folder else ""
        path = f"{self._root}/{folder}"
        # A folder sorts as its keys do, with the slash: "a-b" comes before "a/b".
        last = ""
        while True:
            try:
                with os.scandir(path) as entries:
                    names = nsmallest(
                        _NAMES_AT_ONCE,
                        (
                            name
                            for entry in entries
                            if entry.name[0] != "."
                            and (name := entry.name + "/" * entry.is_dir()) > last
                            and _may_hold(start + name, prefix, after)
                        ),
                    )
            except OSError as error:
                if isinstance(self._absent_or_away(error, prefix), ObjectNotFound):
                    return
                raise _translate(error, "listing it") from error
            for name in names:
                if name.endswith("/"):
                    yield from self._walk(start + name[:-1], prefix, after)
                    continue
                try:
                    yield _object_stat(start + name, os.stat(f"{path}/{name}"))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise _translate(error, "listing it") from error
            if len(names) < _NAMES_AT_ONCE:
                return
            last = names[-1]

    def _remove_leftovers(self) -> None:
        before = time.time() - _LEFTOVER_SECONDS
        with os.scandir(self._temporary) as entries:
            for entry in entries:
                # Another process may remove the same one.
                with suppress(FileNotFoundError):
                    if entry.stat().st_mtime < before:
                        os.unlink(entry.path)


def _link(temporary: str, path: str) -> None:
    """Give a file a second name. Made again after a success that was not synced, it is content."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        if not os.path.samefile(temporary, path):
            raise


def _may_hold(name: str, prefix: str, after: str) -> bool:
    """Whether the key `name`, or one below it if it ends with a slash, has `prefix`, > `after`."""
    if name.endswith("/"):
        return (name.startswith(prefix) or prefix.startswith(name)) and (
            name > after or after.startswith(name)
        )
    return name.startswith(prefix) and name > after


def _object_stat(key: str, status: os.stat_result) -> ObjectStat:
    return ObjectStat(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _pieces(path: str, offset: int, length: int | None, chunk_size: int) -> Iterator[bytes]:
    """Yield an empty piece once the file is open, so that it is closed with the generator."""
    with open(path, "rb", buffering=0) as file:
        yield b""
        rest = length
        while rest is None or rest > 0:
            size = chunk_size if rest is None else min(chunk_size, rest)
            try:
                piece = os.pread(file.fileno(), size, offset)
            except OSError as error:
                raise _translate(error, "reading an object") from error
            if not piece:
                return
            offset += len(piece)
            rest = None if rest is None else rest - len(piece)
            yield piece

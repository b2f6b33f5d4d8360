"""Makes new names in a folder durable: one fsync of the folder serves all who wait for it."""

import os
import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Folder:
    """The rounds of one folder: `started` and `finished` are numbers of rounds."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    started: int = 0
    finished: int = 0
    failures: dict[int, tuple[int, str]] = field(default_factory=dict)
    waiting: int = 0


class FolderSync:
    """Group commit of folders.

    A name that was made before a round starts is durable when that round ends. So whoever comes
    while a round runs waits for the next one, which one of them runs for all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[str, _Folder] = {}

    def sync(self, path: str) -> None:
        """Return when every name made in the folder `path` before this call is durable.

        Raises `OSError`.
        """
        with self._lock:
            folder = self._folders.get(path)
            if folder is None:
                folder = self._folders[path] = _Folder()
            folder.waiting += 1
        try:
            self._wait(path, folder)
        finally:
            with self._lock:
                folder.waiting -= 1
                if folder.waiting == 0:
                    del self._folders[path]

    def _wait(self, path: str, folder: _Folder) -> None:
        with folder.changed:
            mine = folder.started + 1
            while folder.finished < mine:
                if folder.started == folder.finished:
                    folder.started = mine
                    break
                folder.changed.wait()
            else:
                if (failure := folder.failures.get(mine)) is not None:
                    raise OSError(*failure)
                return
        try:
            sync_folder(path)
        except OSError as error:
            folder.failures[mine] = (error.errno or 0, error.strerror or "")
            raise
        finally:
            with folder.changed:
                folder.finished = mine
                folder.changed.notify_all()


def sync_folder(path: str) -> None:
    """Flush a folder's entries to the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

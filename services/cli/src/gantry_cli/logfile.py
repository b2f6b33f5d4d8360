"""One bounded log file per process that `up` keeps: what it writes to its stderr, line by line."""

import os
import sys
import threading
from collections import deque
from pathlib import Path

_LARGEST = 10 * 2**20
_KEPT = 3
_REMEMBERED = 50
_LAST_LINES = 1.0


class LogFile:
    """Reads the pipe that a process writes to. FILE is the newest, then FILE.1, FILE.2.

    A process whose log cannot be written (a full disk) goes on: its lines are read and counted.
    """

    def __init__(self, file: Path, *, echo: bool) -> None:
        self.file = file
        self.unwritten = 0
        self._echo = echo
        self._recent: deque[str] = deque(maxlen=_REMEMBERED)
        self._readers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._descriptor = self._open()

    def pipe(self) -> int:
        """A descriptor for a process to write to; the caller closes it after the start."""
        reader, writer = os.pipe()
        thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        thread.start()
        self._readers = [t for t in self._readers if t.is_alive()] + [thread]
        return writer

    def complaint(self) -> str:
        """The last line that was written for people (``gantry: ...``), without that prefix."""
        with self._lock:
            for line in reversed(self._recent):
                if line.startswith("gantry: "):
                    return line.removeprefix("gantry: ")
        return ""

    def settle(self) -> None:
        """Wait a moment for the last lines of a process that has ended."""
        for thread in self._readers:
            thread.join(timeout=_LAST_LINES)

    def forget(self) -> None:
        """Complaints of an earlier start are no longer of interest."""
        with self._lock:
            self._recent.clear()

    def close(self) -> None:
        """Wait for the last lines of processes that have ended."""
        for thread in self._readers:
            thread.join(timeout=2)
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        return os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _read(self, reader: int) -> None:
        rest = b""
        with os.fdopen(reader, "rb", buffering=0) as stream:
            while chunk := stream.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LARGEST:
                    lines, rest = [*lines, rest], b""
                self._write(lines)
        if rest:
            self._write([rest])

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        with self._lock:
            self._recent.extend(line.decode("utf-8", "replace") for line in lines)
            if self._descriptor < 0:
                return
            content = b"\n".join(lines) + b"\n"
            try:
                os.write(self._descriptor, content)
                if os.fstat(self._descriptor).st_size > _LARGEST:
                    self._rotate()
            except OSError:
                self.unwritten += len(lines)
        if self._echo:
            sys.stderr.buffer.write(content)
            sys.stderr.buffer.flush()

    def _rotate(self) -> None:
        for number in range(_KEPT - 1, 0, -1):
            older = self.file.with_name(f"{self.file.name}.{number}")
            newer = (
                self.file.with_name(f"{self.file.name}.{number - 1}") if number > 1 else self.file
            )
            if newer.exists():
                newer.replace(older)
        fresh = self._open()
        os.close(self._descriptor)
        self._descriptor = fresh

"""Decompresses stored instances in child processes: decoders of pixels crash and hang on odd data.

A child (``python -m gantry_query.decoding``) takes one job a line, ``["source", "target"]`` as
JSON, and answers each by a line, ``"decoded"`` or ``"refused"``. It has limits on its memory and on
the size of what it writes, ends when its standard input does, and is replaced when it dies or takes
too long.
"""

import contextlib
import json
import os
import queue
import resource
import selectors
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

LARGEST_OBJECT = 512 * 2**20
_MEMORY = 3 * 2**30
_CHUNK = 1 << 20
_DECODED, _REFUSED = "decoded", "refused"


class Decoder:
    """Decompresses to Explicit VR Little Endian, at most `processes` instances at a time.

    Used by threads. Children are started when first needed.
    """

    def __init__(self, *, processes: int = 2, time_limit: float = 60.0) -> None:
        self._time_limit = time_limit
        self._folder = tempfile.TemporaryDirectory(prefix="gantry-decoding-")
        self._children: queue.Queue[_Child] = queue.Queue()
        for _ in range(processes):
            self._children.put(_Child())
        self._processes = processes

    def decode(self, chunks: Iterator[bytes], *, size: int) -> Iterator[bytes] | None:
        """The decompressed file of `chunks`, a file of `size` bytes; None if it cannot be decoded.

        The result must be read to its end or closed: it lies in a temporary file until then.
        """
        if size > LARGEST_OBJECT:
            return None
        descriptor, source = tempfile.mkstemp(dir=self._folder.name)
        target = f"{source}.decoded"
        try:
            with open(descriptor, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
            decoded = self._work(source, target)
        finally:
            Path(source).unlink()
        if not decoded:
            Path(target).unlink(missing_ok=True)
            return None
        return _read(Path(target))

    def _work(self, source: str, target: str) -> bool:
        try:
            child = self._children.get(timeout=self._time_limit)
        except queue.Empty:
            return False
        try:
            return child.work(source, target, time_limit=self._time_limit)
        finally:
            self._children.put(child)

    def close(self) -> None:
        """Ends the children. Nobody may be decoding any more."""
        for _ in range(self._processes):
            self._children.get(timeout=self._time_limit).end()
        self._folder.cleanup()


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    finally:
        path.unlink()


class _Child:
    """One child process, started anew when there is none."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def work(self, source: str, target: str, *, time_limit: float) -> bool:
        """Whether it decoded the file; a child that does not answer in time is ended."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([source, target]).encode() + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if selector.select(time_limit):
                    line = process.stdout.readline()
                    if line:
                        return bool(json.loads(line) == _DECODED)
        except BrokenPipeError:
            pass  # it died since its last job
        self.end()
        return False

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gantry_query.decoding"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders quote what they choke on
            env={
                "PATH": os.environ.get("PATH", ""),
                # Every thread of the numeric libraries reserves address space.
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )
        return self._process

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


def _decode(source: str, target: str) -> None:
    # Here, for the parent needs nothing of it: it brings every decoder that is installed.
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRLittleEndian

    ds = dcmread(source)
    ds.decompress()
    if ds.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        raise ValueError("not decoded")
    ds.save_as(target)


def main() -> None:
    """The child: jobs from standard input until it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    # What a decoder prints must not be taken for an answer.
    os.dup2(2, 1)
    for line in sys.stdin:
        source, target = json.loads(line)
        try:
            _decode(source, target)
            answer = _DECODED
        except Exception:  # noqa: BLE001 - a door: decoders raise anything; the parent counts it
            answer = _REFUSED
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

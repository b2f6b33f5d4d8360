"""Decompresses and draws stored instances in child processes: decoders crash and hang on odd data.

A child (``gantry_query.decoder_child``) takes one job a line and answers each by a line. It has
limits on its memory and on the size of what it writes, ends when its standard input does, and is
replaced when it dies or takes too long.
"""

import contextlib
import json
import os
import queue
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gantry_domain.errors import TransientError
from gantry_query.rendering_request import Rendering

LARGEST_OBJECT = 512 * 2**20
_CHUNK = 1 << 20

DONE = "done"
FAILED = "cannot_be_decoded"
_TOO_LARGE = "too_large"


class DecodersBusy(TransientError):
    """Every child had work for too long."""

    def __init__(self) -> None:
        super().__init__("all decoders are busy")


class NotDecoded(Exception):
    """It cannot be done. `reason` is a slug, as of `gantry_query.decoder_child`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
        try:
            return _read(self._work(chunks, size=size, job={"job": "decompress"}))
        except (NotDecoded, DecodersBusy):
            return None

    def encode(self, chunks: Iterator[bytes], *, size: int, syntax: str) -> Iterator[bytes] | None:
        """The file in another transfer syntax without loss; None if that cannot be done."""
        try:
            return _read(self._work(chunks, size=size, job={"job": "encode", "syntax": syntax}))
        except (NotDecoded, DecodersBusy):
            return None

    def render(
        self, chunks: Iterator[bytes], *, size: int, frame: int, rendering: Rendering
    ) -> bytes:
        """The picture of a frame (from 1) of the file. Raises `NotDecoded`, `DecodersBusy`."""
        job = {"job": "render", "frame": frame, "rendering": asdict(rendering)}
        return b"".join(_read(self._work(chunks, size=size, job=job)))

    def frames(
        self, chunks: Iterator[bytes], *, size: int, frames: Sequence[int]
    ) -> Iterator[bytes]:
        """Each of the frames decompressed, little endian. Raises `NotDecoded`, `DecodersBusy`."""
        job = {"job": "frames", "frames": list(frames)}
        target = self._work(chunks, size=size, job=job)
        length = target.stat().st_size // len(frames)
        return _read(target, length)

    def _work(self, chunks: Iterator[bytes], *, size: int, job: dict[str, Any]) -> Path:
        """The file that the job made of the file of `chunks`; whoever gets it removes it."""
        if size > LARGEST_OBJECT:
            raise NotDecoded(_TOO_LARGE)
        descriptor, source = tempfile.mkstemp(dir=self._folder.name)
        target = f"{source}.made"
        try:
            with open(descriptor, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
            answer = self._ask({**job, "source": source, "target": target})
        finally:
            Path(source).unlink()
        if answer != DONE:
            Path(target).unlink(missing_ok=True)
            raise NotDecoded(answer)
        return Path(target)

    def _ask(self, job: dict[str, Any]) -> str:
        try:
            child = self._children.get(timeout=self._time_limit)
        except queue.Empty:
            raise DecodersBusy from None
        try:
            return child.work(job, time_limit=self._time_limit)
        finally:
            self._children.put(child)

    def close(self) -> None:
        """Ends the children. Nobody may be decoding any more."""
        for _ in range(self._processes):
            self._children.get(timeout=self._time_limit).end()
        self._folder.cleanup()


def _read(path: Path, piece: int = _CHUNK) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(piece):
                yield chunk
    finally:
        path.unlink()


class _Child:
    """One child process, started anew when there is none."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def work(self, job: dict[str, Any], *, time_limit: float) -> str:
        """`DONE`, or why not; a child that does not answer in time is ended."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if selector.select(time_limit):
                    line = process.stdout.readline()
                    if line:
                        return str(json.loads(line))
        except BrokenPipeError:
            pass  # it died since its last job
        self.end()
        return FAILED

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gantry_query.decoder_child"],
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

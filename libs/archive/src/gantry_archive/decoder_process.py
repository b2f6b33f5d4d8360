"""Runs a decoder in a process of its own.

Decoders are native code that meets data from anywhere: what crashes, hangs or grows there takes
nothing with it.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from gantry_domain.errors import TransientError
from gantry_stores.objects import ObjectStore

LARGEST_OBJECT = 512 * 2**20
"""Bytes of the largest object that is decoded: it is in memory as a whole."""


class ProcessesExhausted(TransientError):
    """No process could be started."""

    def __init__(self) -> None:
        super().__init__("no process could be started to decode pixels")


class DecoderHangs(Exception):
    """It did not end in time, and was killed."""


def run_decoder(module: str, *files: Path, seconds: float) -> int:
    """The exit status of `python -m module FILES`. Raises `DecoderHangs`, `ProcessesExhausted`."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, files)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it may quote what it choked on
            env={
                "PATH": os.environ.get("PATH", ""),
                # Every thread of the numeric libraries reserves address space.
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DecoderHangs from error
    except OSError as error:
        raise ProcessesExhausted from error
    return done.returncode


def copy_object(store: ObjectStore, key: str, file: Path) -> Path:
    """Copy an object into a new file, which is returned. Raises the errors of the store."""
    return copy_chunks(store.chunks(key), file)


def copy_chunks(chunks: Iterable[bytes], file: Path) -> Path:
    """Write chunks into a new file, which is returned."""
    with file.open("wb") as copy:
        for chunk in chunks:
            copy.write(chunk)
    return file

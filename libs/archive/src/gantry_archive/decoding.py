"""Compares the decoded pixels of two stored objects, in a process of its own.

Decoders are native code that meets data from anywhere: what crashes, hangs or grows there takes
nothing with it, and the answer is then that the pixels are not known to be the same.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from gantry_domain.errors import TransientError
from gantry_runtime.logs import get_logger
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

LARGEST_OBJECT = 512 * 2**20
_SECONDS = 15.0


def same_pixels(store: ObjectStore, one: str, other: str) -> bool:
    """Whether the objects at two keys are known to have the same pixels.

    Raises the errors of the store.
    """
    keys = (one, other)
    if any(store.stat(key).size > LARGEST_OBJECT for key in keys):
        return False
    with tempfile.TemporaryDirectory(prefix="gantry-pixels-") as folder:
        files = [_copy(store, key, Path(folder) / f"{place}.dcm") for place, key in enumerate(keys)]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "gantry_archive.pixels", *map(str, files)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # it may quote what it choked on
                env={
                    "PATH": os.environ.get("PATH", ""),
                    # Every thread of the numeric libraries reserves address space.
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                },
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            log.warning("pixels_not_compared", reason="timeout", keys=keys)
            return False
        except OSError as error:
            raise ProcessesExhausted from error
    if done.returncode not in (0, 1):
        log.warning("pixels_not_compared", reason="failed", status=done.returncode, keys=keys)
    return done.returncode == 0


class ProcessesExhausted(TransientError):
    """No process could be started."""

    def __init__(self) -> None:
        super().__init__("no process could be started to compare pixels")


def _copy(store: ObjectStore, key: str, file: Path) -> Path:
    with file.open("wb") as copy:
        for chunk in store.chunks(key):
            copy.write(chunk)
    return file

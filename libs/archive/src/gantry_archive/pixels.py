"""The process that decodes two files and compares their pixels: `python -m gantry_archive.pixels`.

Exit status 0: the same number of frames, and each the same; 1: they differ; any other, or death by
a signal: not known.
"""

import resource
import sys
from itertools import zip_longest

import numpy as np
from pydicom.pixels.utils import iter_pixels

_MEMORY = 3 * 2**30
_CPU_SECONDS = 60


def main(one: str, other: str) -> int:
    """Compare the files frame by frame; two frames are in memory at a time."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for first, second in zip_longest(iter_pixels(one), iter_pixels(other)):
        if first is None or second is None or not np.array_equal(first, second):
            return 1
    return 0


if __name__ == "__main__":
    try:
        status = main(*sys.argv[1:])
    except Exception:  # noqa: BLE001 - whatever a decoder raises, the answer is "not known"
        status = 2
    sys.exit(status)

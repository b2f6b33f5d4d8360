"""The process that decodes a file's pixels: `python -m gantry_archive.decompressor IN OUT`.

OUT becomes the same data set in Explicit VR Little Endian with native pixel data. Exit status 0
only then; any other, or death by a signal: it cannot be done.
"""

import resource
import sys

from pydicom import dcmread

_MEMORY = 4 * 2**30
_CPU_SECONDS = 300
_LARGEST_RESULT = 4 * 2**30


def main(source: str, target: str) -> int:
    """Decode all frames; the whole object is in memory."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_RESULT, _LARGEST_RESULT))
    ds = dcmread(source)
    # The same instance as before: nothing has been lost that was not lost already.
    ds.decompress(generate_instance_uid=False)
    ds.save_as(target, enforce_file_format=False)
    return 0


if __name__ == "__main__":
    try:
        status = main(*sys.argv[1:])
    except Exception:  # noqa: BLE001 - whatever a decoder raises, the answer is "it cannot be done"
        status = 2
    sys.exit(status)

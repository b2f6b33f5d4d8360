"""Compares the decoded pixels of two stored objects, in a process of its own.

Where that fails the answer is that the pixels are not known to be the same.
"""

import tempfile
from pathlib import Path

from gantry_archive.decoder_process import (
    LARGEST_OBJECT,
    DecoderHangs,
    copy_object,
    run_decoder,
)
from gantry_runtime.logs import get_logger
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

_SECONDS = 15.0


def same_pixels(store: ObjectStore, one: str, other: str) -> bool:
    """Whether the objects at two keys are known to have the same pixels.

    Raises `ProcessesExhausted` and the errors of the store.
    """
    keys = (one, other)
    if any(store.stat(key).size > LARGEST_OBJECT for key in keys):
        return False
    with tempfile.TemporaryDirectory(prefix="gantry-pixels-") as folder:
        files = [
            copy_object(store, key, Path(folder) / f"{place}.dcm") for place, key in enumerate(keys)
        ]
        try:
            status = run_decoder("gantry_archive.pixels", *files, seconds=_SECONDS)
        except DecoderHangs:
            log.warning("pixels_not_compared", reason="timeout", keys=keys)
            return False
    if status not in (0, 1):
        log.warning("pixels_not_compared", reason="failed", status=status, keys=keys)
    return status == 0

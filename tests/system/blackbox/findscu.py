"""Queries with dcmtk's findscu, and reads what it was answered."""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread


@dataclass(frozen=True, slots=True)
class Found:
    """The answers to one request, and what findscu calls its final status."""

    matches: list[Dataset]
    status: str


def findscu(
    port: int, level: str, *keys: str, calling_ae: str = "CT01", options: tuple[str, ...] = ()
) -> Found:
    """One C-FIND of the study root; `keys` are keywords, with `=` and a value to be matched."""
    return _asked(port, "-S", (f"QueryRetrieveLevel={level}", *keys), calling_ae, options)


def worklist(port: int, *keys: str, calling_ae: str = "CT01") -> Found:
    """One C-FIND of the modality worklist."""
    return _asked(port, "-W", keys, calling_ae, ())


def _asked(
    port: int, model: str, keys: tuple[str, ...], calling_ae: str, options: tuple[str, ...]
) -> Found:
    wanted = [part for key in keys for part in ("-k", key)]
    with tempfile.TemporaryDirectory() as folder:
        command = ["findscu", "-v", model, "-X", "-od", folder, *options]
        titles = ["-aet", calling_ae, "-aec", "GANTRY"]
        done = subprocess.run(
            [*command, *titles, *wanted, "127.0.0.1", str(port)],
            env=os.environ | {"TCP_NODELAY": "1"},
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
        output = done.stdout + done.stderr
        final = re.search(r"Received Final Find Response \((.*?)\)", output)
        assert final is not None, output[-2000:]
        return Found([dcmread(file) for file in sorted(Path(folder).iterdir())], final[1])

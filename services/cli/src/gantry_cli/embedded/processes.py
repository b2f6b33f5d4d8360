"""Finds and ends the processes that a killed run left behind."""

import os
import signal
import threading
import time
from pathlib import Path

from gantry_domain.errors import ConfigurationError

_LOOK_AGAIN = 0.1


def processes_in(folder: Path) -> list[int]:
    """The processes whose working folder is `folder`: engines stay in their data folder."""
    wanted = str(folder)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == wanted:
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended, or is another user's
    return found


def end_orphans(folder: Path, gentle: int, patience: float) -> None:
    """End what a killed run left behind in `folder`, which the caller has for itself alone.

    Gently for `patience` seconds, then with SIGKILL.

    :raises ConfigurationError: something cannot be ended.
    """
    began = time.monotonic()
    never = threading.Event()
    asked: set[int] = set()
    while orphans := processes_in(folder):
        waited = time.monotonic() - began
        if waited > 2 * patience:
            raise ConfigurationError(f"process {orphans[0]} of an earlier run does not end")
        for process in orphans:
            if waited > patience:
                _send(process, signal.SIGKILL, folder)
            elif process not in asked and not _is_helper(process):
                asked.add(process)
                _send(process, gentle, folder)
        never.wait(_LOOK_AGAIN)


def _is_helper(process: int) -> bool:
    """PostgreSQL's own children end by themselves, and signals mean other things to them."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"postgres: ")
    except OSError:
        return True


def _send(process: int, number: int, folder: Path) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise ConfigurationError(
            f"process {process} of another user still works in {folder}"
        ) from None

"""Ties a process's life to its parent's, so that a parent killed with -9 leaves no orphans."""

import ctypes
import os
import signal
from collections.abc import Mapping

from gantry_domain.errors import GantryError

PARENT = "_GANTRY_PARENT"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(
    signal_number: int = signal.SIGKILL, environ: Mapping[str, str] = os.environ
) -> None:
    """Have the kernel send `signal_number` to this process when its parent ends.

    The kernel means the parent's *thread* that started us: start children from main threads. Where
    `environ` names the expected parent and it has gone already, this process ends at once.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0):
        raise GantryError(f"prctl: {os.strerror(ctypes.get_errno())}")
    parent = environ.get(PARENT)
    if parent is not None and os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)

"""The worker's pool with a store of which some objects are deadly.

The folder named by POISON holds, for keys as hexadecimal names: `kill/KEY`, whoever reads it dies;
`hold/KEY`, whoever reads it writes its process id there and waits until the file is gone.
"""

import os
import signal
import time
from functools import cached_property
from pathlib import Path

from gantry_worker import pool
from gantry_worker.workshop import Workshop

POISON = Path(os.environ["POISON"])


class PoisonedStore:
    """A store whose objects may kill or hold their reader."""

    def __init__(self, store) -> None:
        self._store = store

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def read(self, key: str, *range_: int) -> bytes:
        name = key.encode().hex()
        if (POISON / "kill" / name).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        hold = POISON / "hold" / name
        while hold.exists():
            (POISON / "held").write_text(str(os.getpid()))
            time.sleep(0.02)
        return self._store.read(key, *range_)


class PoisonedWorkshop(Workshop):
    """Works with a poisoned store."""

    @cached_property
    def store(self):
        return PoisonedStore(super().store)


def main() -> int:
    """Runs the pool with it."""
    pool.Workshop = PoisonedWorkshop
    return pool.main()

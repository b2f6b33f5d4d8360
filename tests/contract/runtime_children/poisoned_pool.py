"""`python -m poisoned_pool ...`: the worker's pool with a store of which some objects are deadly.

The folder named by POISON holds, for keys as hexadecimal names: `kill/KEY`, whoever reads it dies;
`hold/KEY`, whoever reads it writes its process id there and waits until the file is gone.
"""

import os
import signal
import sys
import time
from pathlib import Path

from gantry_stores.objects import DirectoryStore
from gantry_worker import pool, workshop

POISON = Path(os.environ["POISON"])


class PoisonedStore(DirectoryStore):
    """A store in a folder whose objects may kill or hold their reader."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        name = key.encode().hex()
        if (POISON / "kill" / name).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        hold = POISON / "hold" / name
        while hold.exists():
            (POISON / "held").write_text(str(os.getpid()))
            time.sleep(0.02)
        return super().read(key, offset, length)


if __name__ == "__main__":
    workshop.DirectoryStore = PoisonedStore
    sys.exit(pool.main())

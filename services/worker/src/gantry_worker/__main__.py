"""`python -m gantry_worker`: the supervisor of the worker."""

import sys

from gantry_runtime.entry import run
from gantry_worker.app import main

if __name__ == "__main__":
    sys.exit(run(main))

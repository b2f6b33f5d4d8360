"""`python -m gantry_worklist`: the supervisor of the worklist service."""

import sys

from gantry_runtime.entry import run
from gantry_worklist.app import main

if __name__ == "__main__":
    sys.exit(run(main))

"""`python -m gantry_query`: the supervisor of the query service."""

import sys

from gantry_query.app import main
from gantry_runtime.entry import run

if __name__ == "__main__":
    sys.exit(run(main))

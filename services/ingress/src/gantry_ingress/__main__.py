"""`python -m gantry_ingress`: the supervisor of the ingress."""

import sys

from gantry_ingress.app import main
from gantry_runtime.entry import run

if __name__ == "__main__":
    sys.exit(run(main))

"""The door of a program: a user's mistake is one line on stderr and exit status 2."""

import sys
from collections.abc import Callable

from gantry_domain.errors import GantryError
from gantry_runtime.logs import get_logger

log = get_logger(__name__)


def run(main: Callable[[], int]) -> int:
    """The exit status of `main`; 2 with one line for a failure that Gantry names.

    Used as ``sys.exit(run(main))`` at the end of each ``__main__``.
    """
    try:
        return main()
    except GantryError as error:
        sys.stderr.write(f"gantry: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception:  # the door of the process: whatever it is, it is logged and its status tells
        log.exception("program_failed")
        return 1

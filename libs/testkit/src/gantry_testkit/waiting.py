"""Waiting for what a service does in its own time."""

import time
from collections.abc import Callable


def until(
    condition: Callable[[], object], what: str = "it comes true", *, seconds: float = 60
) -> None:
    """Wait for it; AssertionError if it does not come true. `seconds` is patience, no promise."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.02)

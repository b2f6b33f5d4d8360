"""Waits for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(
    condition: Callable[[], Value], what: str, *, seconds: float = 30.0, every: float = 0.05
) -> Value:
    """The first truthy value of `condition`; AssertionError with `what` and the last value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s still not: {what} (last: {value!r})")
        time.sleep(every)

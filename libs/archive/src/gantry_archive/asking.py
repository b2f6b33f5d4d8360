"""Asks the index from within an association: in threads of their own, so that the peer is heard."""

from collections.abc import Generator
from concurrent.futures import Future, wait
from typing import TypeVar

Result = TypeVar("Result")

# How long an answer is waited for before the peer is listened to again, in seconds.
_PATIENCE = 0.05


def awaited(future: Future[Result]) -> Generator[None, None, Result]:
    """Steps of an operation until there is a result, which it returns or raises."""
    try:
        while not wait((future,), _PATIENCE).done:
            yield None
    finally:
        future.cancel()
    return future.result()

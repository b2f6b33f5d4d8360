"""Suggests the name that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """``", did you mean x?"``, or, where nothing is near, what is known."""
    names = sorted(known)
    near = get_close_matches(wrong, names, n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else f"; known are {', '.join(names)}"

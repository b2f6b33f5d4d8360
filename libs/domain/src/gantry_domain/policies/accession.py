"""The accession number of the Hospital Authority: 16 characters, with a pluggable check character.

    XXX   XR          07    00000101        H
    3     2           2     8               1
    hospital code     year  running number  check character
          department

How the check character is computed is published nowhere. So the check is a plug-in chosen by
name: `none` says so in the finding, `modulus11` is the way of the identity card number, others
come from the entry point group `gantry.accession_checks` as functions from the first 15
characters to the check character.
"""

import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import NamedTuple

from gantry_domain.errors import ConfigurationError

CheckCharacter = Callable[[str], str]

ENTRY_POINTS = "gantry.accession_checks"

_FORMAT = re.compile(r"[A-Z0-9]{3}[A-Z0-9]{2}[0-9]{2}[0-9]{8}[A-Z0-9]")


def modulus11(body: str) -> str:
    """Weights 16 to 2 over the 15 characters of `body`; 10 is written A."""
    weights = range(len(body) + 1, 1, -1)
    total = sum(weight * int(char, 36) for weight, char in zip(weights, body, strict=True))
    check = -total % 11
    return "A" if check == 10 else str(check)


BUILT_IN: Mapping[str, CheckCharacter] = {"modulus11": modulus11}


def load_check(name: str) -> CheckCharacter | None:
    """The check called `name`; None for `none`. Raises `ConfigurationError`."""
    if name == "none":
        return None
    if name in BUILT_IN:
        return BUILT_IN[name]
    found = entry_points(group=ENTRY_POINTS, name=name)
    if not found:
        known = ["none", *BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))]
        raise ConfigurationError(
            f"there is no accession number check {name!r}; known are {', '.join(known)}"
        )
    check: CheckCharacter = next(iter(found)).load()
    return check


def well_formed(AccessionNumber: str) -> bool:
    """Whether the number has the format; the check character is looked at elsewhere."""
    return _FORMAT.fullmatch(AccessionNumber) is not None


class Parts(NamedTuple):
    """What a well-formed number consists of."""

    hospital: str
    department: str
    year: str
    running: str
    check: str


def parts(AccessionNumber: str) -> Parts:
    """The parts of a number that has the format."""
    number = AccessionNumber
    return Parts(number[:3], number[3:5], number[5:7], number[7:15], number[15])

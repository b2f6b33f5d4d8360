"""What people decided of a study and nobody took back: it goes before what the rules say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What stands of a study.

    `linked` is the Study Instance UID of the order that a person gave it, or empty. `accepted` has
    the faults, by rule and code, that a person took as they are; others hold as before.
    """

    linked: str = ""
    accepted: frozenset[tuple[str, str]] = frozenset()
    released: bool = False
    """In an emergency: accepted and shown, whatever the rules say."""
    refused: bool = False
    """Kept, hidden and not forwarded."""


UNDECIDED = Standing()

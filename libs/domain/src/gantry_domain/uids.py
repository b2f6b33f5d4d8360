"""UIDs that Gantry makes: a UUID below 2.25 (PS3.5 B.2), which needs no root of one's own."""

from uuid import UUID, uuid4


def uid_of(number: UUID) -> str:
    """The UID of a UUID."""
    return f"2.25.{number.int}"


def new_uid() -> str:
    """A UID that nobody has had before."""
    return uid_of(uuid4())

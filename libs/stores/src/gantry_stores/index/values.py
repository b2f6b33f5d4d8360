"""The values of a statement that is put together as text: none ever becomes part of the text.

condition = f"study.patient_id = {values.text(PatientID)}"    study.patient_id = $1::text
ask(engine, f"SELECT ... WHERE {condition}", values)          the first value travels beside it
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from gantry_stores.index.database import IndexRefused

_NOT_IN_TEXT = "22021"  # PostgreSQL's own word for it: libpq would end the text there


class Values:
    """Values in their order, as PostgreSQL reads them; each method gives the place of one."""

    __slots__ = ("encoded",)

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        """Each as text, in UTF-8."""

    def copy(self) -> Self:
        """The same values, to which others may be added."""
        other = type(self)()
        other.encoded = [*self.encoded]
        return other

    def text(self, value: str) -> str:
        """The place of a text. Raises `IndexRefused` where no text has such characters."""
        return self._placed(value, "text")

    def number(self, value: int) -> str:
        """The place of an integer."""
        return self._placed(str(value), "bigint")

    def of(self, value: str | int) -> str:
        """The place of a text or of an integer."""
        return self.number(value) if isinstance(value, int) else self.text(value)

    def texts(self, values: Iterable[str]) -> str:
        """The place of an array of texts. Raises as `text` does."""
        return self._placed(_array(values), "text[]")

    def numbers(self, values: Iterable[int]) -> str:
        """The place of an array of integers."""
        return self._placed(_array(map(str, values)), "bigint[]")

    def uuids(self, values: Iterable[UUID]) -> str:
        """The place of an array of UUIDs."""
        return self._placed(_array(map(str, values)), "uuid[]")

    def path(self, value: str) -> str:
        """The place of a path into JSON."""
        return self._placed(value, "jsonpath")

    def moment(self, value: datetime) -> str:
        """The place of a moment without a time zone."""
        return self._placed(value.isoformat(sep=" "), "timestamp")

    def span(self, value: timedelta) -> str:
        """The place of a span of time."""
        seconds = f"{value.days} days {value.seconds} s {value.microseconds} us"
        return self._placed(seconds, "interval")

    def _placed(self, value: str, kind: str) -> str:
        if "\0" in value:
            raise IndexRefused(_NOT_IN_TEXT)
        self.encoded.append(value.encode())
        # With its type: by itself PostgreSQL takes a value for what stands beside it.
        return f"${len(self.encoded)}::{kind}"


def _array(values: Iterable[str]) -> str:
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"

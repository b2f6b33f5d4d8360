"""The values of a statement that is put together as text: none ever becomes part of the text.

condition = f"study.patient_id = {values.text(PatientID)}"    study.patient_id = %(v0)s::text
ask(engine, f"SELECT ... WHERE {condition}", values)          v0 travels beside it
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID


class Values(dict[str, object]):
    """Values by the names that stand for them in the text. Each method gives such a place."""

    __slots__ = ()

    def text(self, value: str) -> str:
        """The place of a text."""
        return self._placed(value, "text")

    def of(self, value: str | int) -> str:
        """The place of a text or of an integer."""
        return self.number(value) if isinstance(value, int) else self.text(value)

    def texts(self, values: Iterable[str]) -> str:
        """The place of an array of texts."""
        return self._placed(list(values), "text[]")

    def number(self, value: int) -> str:
        """The place of an integer."""
        return self._placed(value, "bigint")

    def numbers(self, values: Iterable[int]) -> str:
        """The place of an array of integers."""
        return self._placed(list(values), "bigint[]")

    def uuids(self, values: Iterable[UUID]) -> str:
        """The place of an array of UUIDs."""
        return self._placed(list(values), "uuid[]")

    def path(self, value: str) -> str:
        """The place of a path into JSON."""
        return self._placed(value, "jsonpath")

    def moment(self, value: datetime) -> str:
        """The place of a moment without a time zone."""
        return self._placed(value, "timestamp")

    def span(self, value: timedelta) -> str:
        """The place of a span of time."""
        return self._placed(value, "interval")

    def _placed(self, value: object, kind: str) -> str:
        name = f"v{len(self)}"
        self[name] = value
        # With its type: by itself PostgreSQL takes a value for what stands beside it.
        return f"%({name})s::{kind}"

"""What a person deletes, and how it ends.

marked ──time is over──▶ purging ──▶ purged
   └────taken back────▶ restoring ──▶ restored
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class DeletionState(StrEnum):
    """How far a deletion is."""

    MARKED = "marked"
    """Hidden from everybody, and nothing of it is lost."""
    RESTORING = "restoring"
    PURGING = "purging"
    """Some of its objects may be gone: nobody takes it back any more."""
    RESTORED = "restored"
    PURGED = "purged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A study, series or instance that somebody deleted, at an aware moment.

    `id` is a UUID of version 7 like those of objects: it comes after all that was received before.
    """

    id: UUID
    partition: str
    StudyInstanceUID: str
    SeriesInstanceUID: str | None = None
    SOPInstanceUID: str | None = None
    deleted_at: datetime
    deleted_by: str

    @property
    def level(self) -> str:
        """What kind of thing was deleted."""
        if self.SOPInstanceUID is not None:
            return "instance"
        return "series" if self.SeriesInstanceUID is not None else "study"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """Somebody took a deletion back."""

    id: UUID
    deletion_id: UUID
    restored_by: str

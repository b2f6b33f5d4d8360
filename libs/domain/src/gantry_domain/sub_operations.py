"""What a C-MOVE or C-GET has come to: the counts of its sub-operations, and its final status."""

from dataclasses import dataclass

from gantry_domain.statuses import (
    OUT_OF_RESOURCES_TO_SEND,
    SOME_SUB_OPERATIONS_FAILED,
    SUB_OPERATIONS_CANCELLED,
    SUCCESS,
    Status,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubOperations:
    """How many sub-operations remain, arrived, failed, and arrived with a warning (PS3.7 9.1.4.1).

    They add up to the number of instances that were found.
    """

    remaining: int = 0
    completed: int = 0
    failed: int = 0
    warning: int = 0

    def final_status(self, *, cancelled: bool = False) -> Status:
        """The status at the end (PS3.4 C.4.2.3, C.4.3.3): a failure only where nothing arrived."""
        if cancelled:
            return SUB_OPERATIONS_CANCELLED
        if not self.failed and not self.warning:
            return SUCCESS
        if self.completed or self.warning:
            return SOME_SUB_OPERATIONS_FAILED
        return OUT_OF_RESOURCES_TO_SEND

"""What the receive path needs of whoever keeps the objects: its values and its two interfaces."""

from dataclasses import dataclass
from typing import Protocol

from gantry_domain.statuses import SUCCESS, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """A C-STORE request (PS3.7 9.3.1.1) and whom it came from; UIDs and titles unpadded.

    The SOP UIDs are those of the command set, empty where it lacks them.
    """

    SOPClassUID: str
    SOPInstanceUID: str
    transfer_syntax: str
    calling_ae: str
    called_ae: str
    peer_host: str
    message_id: int


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """The answer to a C-STORE; of `error_comment` (0000,0902) at most 64 characters are sent."""

    status: Status = SUCCESS
    error_comment: str = ""


class Reception(Protocol):
    """One object that is being received; used by one thread, ended by `finish` or `abort`."""

    def write(self, fragment: memoryview) -> None:
        """Take the next bytes of the data set; the view is void after the call.

        May block, which holds the sender back. Does not raise: what failed is said by `finish`.
        """

    def finish(self) -> StoreOutcome:
        """The data set is complete: answer for it. Success means that it is durable."""

    def abort(self) -> None:
        """The association died in the middle of the data set: leave nothing behind."""


class StorageHandler(Protocol):
    """Keeps the objects. Called by many threads."""

    def begin(self, request: StoreRequest) -> Reception:
        """A data set is about to come."""

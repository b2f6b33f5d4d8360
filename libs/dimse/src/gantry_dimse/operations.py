"""Operations: C-FIND, C-MOVE, C-GET and N-services as whoever answers them sees them.

A request has an identifier, a small data set; its answers come one after the other until the final
one (PS3.7 9.1.2 to 9.1.4; N-services have that alone, PS3.7 10.1). They are made in the
association's thread, which between two listens to the peer: it may cancel, abort or be gone.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from gantry_dimse.observer import Peer
from gantry_dimse.reverse_events import ReverseEvents
from gantry_dimse.reverse_storage import Awaiting, Outgoing, ReverseStorage
from gantry_domain.statuses import PENDING, PENDING_WARNING, Status
from gantry_domain.sub_operations import SubOperations

LARGEST_IDENTIFIER = 1 << 20
"""Bytes; a list of 2000 UIDs has an eighth of it."""

PENDING_CODES = frozenset({PENDING.code, PENDING_WARNING.code})


@dataclass(slots=True)
class Cancellation:
    """Whether the peer has asked to stop (C-CANCEL, PS3.7 9.3.2.3)."""

    requested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRequest:
    """A request, whom it came from, and its identifier as it was encoded.

    `SOPClassUID` is that of the presentation context. `cancellation` changes while answers are
    being made: the operation then ends with the status Cancel. `move_destination` is (0000,0600)
    without its padding. `reverse` sends instances to the peer itself. `options` are what extended
    negotiation granted for the SOP class, a byte each (PS3.4 C.5.1.1, C.5.2.1, C.5.3.1).
    `SOPInstanceUID` is that of the instance which an N-service is about, empty if none is named.
    `type_id` says which action or event it is. `events` tells the peer later what became of it.
    """

    peer: Peer
    SOPClassUID: str
    transfer_syntax: str
    identifier: bytes
    cancellation: Cancellation
    message_id: int
    move_destination: str
    reverse: ReverseStorage
    options: bytes = b""
    SOPInstanceUID: str = ""
    type_id: int = 0
    events: ReverseEvents | None = None

    @property
    def relational(self) -> bool:
        """Whether keys of higher levels may be left out: the first option."""
        return self.options[:1] == b"\1"

    @property
    def moments(self) -> bool:
        """Whether dates and times are matched together: the second option of a query."""
        return self.options[1:2] == b"\1"

    @property
    def zone(self) -> bool:
        """Whether a time zone that the query names counts: the fourth option."""
        return self.options[3:4] == b"\1"

    @property
    def loose_names(self) -> bool:
        """Whether names are matched by what they mean: the third option (PS3.4 C.5.1.1)."""
        return self.options[2:3] == b"\1"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response; the first whose status is not Pending is the final one.

    `identifier` is a data set in the transfer syntax of the request; empty: there is none. Of
    `error_comment` (0000,0902) at most 64 characters are sent; `offending` (0000,0901) are tags.
    `sub_operations`: the counts of a retrieval; those that remain are told only while there may be
    more to come (PS3.4 C.4.2.1.6). `error_id` is (0000,0903); `SOPInstanceUID` that of an instance
    for which the request named none.
    """

    status: Status
    identifier: bytes = b""
    error_comment: str = ""
    offending: tuple[int, ...] = ()
    sub_operations: SubOperations | None = None
    error_id: int | None = None
    SOPInstanceUID: str = ""


class OperationBroken(Exception):
    """An operation that stopped in the middle of a message: the association is aborted.

    The text, one line, is for the log.
    """


Answers = Generator[Answer | Outgoing | Awaiting | None, None, None]
"""The steps of answering one request: its answers, what is sent in between, and pauses; None: there
is nothing yet, see how the peer is. It is closed in the end, wherever it is.

Must not wait long for one step, and must raise nothing but `OperationBroken`.
"""

Operation = Callable[[OperationRequest], Answers]

OperationKey = tuple[int, str]
"""Command field of the request and SOP class."""

"""The limits of a server, and the moment from which it wants to be alone."""

import time
from dataclasses import dataclass

DEFAULT_MAX_PDU = 131072


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """The limits of a server; times in seconds, sizes in bytes.

    `max_pdu` is what we announce: 0 is unlimited. `acse_timeout`: from the connection to the
    complete request. `dimse_timeout`: between two pieces of one message. `network_timeout`:
    between two messages. `longest_reception`: from the command of a message to the end of its data
    set. `max_connections`: of this process, with those that are no association (yet).
    """

    max_pdu: int = DEFAULT_MAX_PDU
    acse_timeout: float = 30.0
    dimse_timeout: float = 300.0
    network_timeout: float = 300.0
    longest_reception: float = float("inf")
    max_connections: int = 256


class Departure:
    """Whether the server drains, and until when associations may go on."""

    __slots__ = ("begun", "deadline")

    def __init__(self) -> None:
        self.begun = False
        self.deadline = float("inf")

    def begin(self, grace: float) -> None:
        """From now on no association begins, and those that run have `grace` seconds."""
        self.deadline = time.monotonic() + grace
        self.begun = True

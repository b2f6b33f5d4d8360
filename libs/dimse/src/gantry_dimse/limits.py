"""The limits of a server, and the moment from which it wants to be alone."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

DEFAULT_MAX_PDU = 131072


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """The limits of a server; times in seconds, sizes in bytes.

    `max_pdu` is what we announce: 0 is unlimited. `max_pdu_sent`: we send no longer ones, whatever
    the peer announces. `acse_timeout`: from the connection to the complete request.
    `dimse_timeout`: between two pieces of one message. `network_timeout`: between two messages.
    `longest_reception`: from the command of a message to the end of its data set. `minimum_rate`:
    bytes of a data set a second, over `rate_window`; 0: any. `send_timeout`: how long a peer may
    take nothing of what we send. `max_connections`: of this process, with those that are no
    association (yet). `max_pending_per_host`: of one host, that brought no request yet.
    """

    max_pdu: int = DEFAULT_MAX_PDU
    max_pdu_sent: int = DEFAULT_MAX_PDU
    acse_timeout: float = 30.0
    dimse_timeout: float = 300.0
    network_timeout: float = 300.0
    longest_reception: float = float("inf")
    minimum_rate: int = 0
    rate_window: float = 60.0
    send_timeout: float = 30.0
    max_connections: int = 256
    max_pending_per_host: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is granted to one caller.

    `max_associations`: at a time, over all processes; None: no limit of its own.
    `max_associations_per_host`: of the host it calls from, under whatever titles; None: no limit.
    `transfer_syntaxes`: those that are accepted in storage contexts, in this order; None: ours.
    `storage_classes`: of those that are taken at all, those that are taken of it; None: all.
    """

    max_associations: int | None = None
    max_associations_per_host: int | None = None
    transfer_syntaxes: Sequence[str] | None = None
    storage_classes: Collection[str] | None = None


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

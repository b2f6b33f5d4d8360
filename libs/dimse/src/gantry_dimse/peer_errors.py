"""What can go wrong with a peer that we call: each failure by name, permanent or transient.

None of the texts holds what the peer sent, but for its status and its coded reasons.
"""

from gantry_domain.errors import GantryError, PermanentError, TransientError


class Unreachable(TransientError):
    """Nobody answers at the peer's address."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"cannot connect to {address}: {why}")
        self.why = why


# PS3.8 Table 9-21: (source, reason) to what it says.
_REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given by its ACSE layer",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


class AssociationRejected(GantryError):
    """The peer answered with an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        self.why = _REJECTIONS.get((source, reason), "unknown reason")
        super().__init__(f"association rejected {result}/{source}/{reason}: {self.why}")
        self.result = result
        self.source = source
        self.reason = reason


class RejectedPermanently(AssociationRejected, PermanentError):
    """An A-ASSOCIATE-RJ with result 1: the same request will be rejected again."""


class RejectedForNow(AssociationRejected, TransientError):
    """An A-ASSOCIATE-RJ with result 2: the peer asks to try later."""


def association_rejected(result: int, source: int, reason: int) -> AssociationRejected:
    """The rejection by kind; a result that the standard does not know counts as permanent."""
    kind = RejectedForNow if result == 2 else RejectedPermanently
    return kind(result, source, reason)


class NoAcceptedContext(PermanentError):
    """The peer accepted the association but none of its presentation contexts."""

    def __init__(self) -> None:
        super().__init__("the peer accepted no presentation context")


class AssociationLost(TransientError):
    """An open association is of no more use; what was not answered may not have arrived."""


class PeerAborted(AssociationLost):
    """The peer sent an A-ABORT (PS3.8 9.3.8)."""

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(f"the peer aborted the association ({source}/{reason})")
        self.source = source
        self.reason = reason


class PeerClosed(AssociationLost):
    """The connection ended in the middle of an exchange."""


class PeerTimedOut(AssociationLost):
    """The peer neither answers nor takes more data."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"the peer did not {what} within {seconds:g} s")


class PeerBrokeProtocol(AssociationLost):
    """The peer sent what DICOM does not allow here."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the peer broke the protocol: {what}")


class Interrupted(AssociationLost):
    """We ended the association ourselves while it was in use."""

    def __init__(self) -> None:
        super().__init__("the association was interrupted by us")

"""What a server tells of its associations, for metrics and logs."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from gantry_domain.statuses import Rejection


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A caller's certificate that was verified: its SHA-256 as small hexadecimal digits, and its
    common name and alternative names (DNS, URI), casefolded."""

    fingerprint: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls, under which of our names, and from which address; titles unpadded.

    `certificate`: what it showed over TLS, if it did.
    """

    calling_ae: str
    called_ae: str
    host: str
    certificate: PeerCertificate | None = None


class Fault(Enum):
    """Why a connection never became a request for an association."""

    SILENT = "silent"
    NOT_DICOM = "not_dicom"
    LOST = "lost"
    TOO_MANY = "too_many"
    TLS = "tls"


class Ending(Enum):
    """How an established association ended."""

    RELEASED = "released"
    PEER_ABORTED = "peer_aborted"
    LOST = "lost"
    IDLE = "idle"
    TOO_SLOW = "too_slow"
    PROTOCOL_ERROR = "protocol_error"
    DRAINED = "drained"
    FAILED = "failed"


class Observer(Protocol):
    """Called in the thread of the connection; must be quick and must not raise."""

    def faulted(self, host: str, fault: Fault, detail: str = "") -> None:
        """A connection ended before it asked for an association; `detail` is one short line."""

    def rejected(self, peer: Peer, rejection: Rejection) -> None:
        """A request was rejected."""

    def established(self, peer: Peer) -> None:
        """A request was accepted."""

    def ended(self, peer: Peer, ending: Ending, detail: str) -> None:
        """An established association has ended; `detail` is one line without patient data."""

    def failed(self, error: Exception) -> None:
        """Something of our own went wrong in a connection, which was then aborted."""

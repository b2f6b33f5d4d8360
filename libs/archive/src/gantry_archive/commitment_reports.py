"""Tells a partner over a new association what became of its request of storage commitment."""

from dataclasses import dataclass

from gantry_archive.destinations import Destination
from gantry_dimse.event_reports import EventAssociation, event_contexts
from gantry_dimse.requesting import Timeouts
from gantry_domain.commitment import (
    COMMITMENT_INSTANCE,
    STORAGE_COMMITMENT_PUSH,
    encode_report,
    report_of,
)
from gantry_domain.statuses import PROCESSING_FAILURE, RESOURCE_LIMITATION, SUCCESS
from gantry_stores.index.commitments import Commitment

# The peer is in trouble, and may be out of it later; any other status is an answer for good.
_FOR_NOW = frozenset({PROCESSING_FAILURE.code, RESOURCE_LIMITATION.code})


@dataclass(frozen=True, slots=True)
class Heard:
    """How a partner answered a report."""

    status: int

    @property
    def heard(self) -> bool:
        """Whether it has taken it."""
        return self.status == SUCCESS.code

    @property
    def worth_repeating(self) -> bool:
        """Whether it may take it later."""
        return self.status in _FOR_NOW


def tell_over_new_association(
    commitment: Commitment, destination: Destination, timeouts: Timeouts
) -> Heard:
    """Send the report, from the AE title that was asked (PS3.4 J.3.3).

    Raises `Unreachable`, `AssociationRejected`, `NoAcceptedContext` or `AssociationLost`.
    """
    report = report_of(commitment.TransactionUID, commitment.references, commitment.failed)
    with EventAssociation.open(
        host=destination.host,
        port=destination.port,
        calling_ae=commitment.called_ae,
        called_ae=destination.ae_title,
        contexts=event_contexts(STORAGE_COMMITMENT_PUSH),
        timeouts=timeouts,
        tls=destination.tls,
    ) as assoc:
        status = assoc.report(
            SOPInstanceUID=COMMITMENT_INSTANCE,
            event_type=report.event_type,
            encoded=encode_report(
                report,
                retrieve_ae=commitment.called_ae,
                transfer_syntax=assoc.transfer_syntax,
            ),
        )
    return Heard(status)

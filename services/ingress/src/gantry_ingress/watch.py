"""Counts and logs what the associations do."""

from gantry_dimse.observer import Ending, Fault, Peer
from gantry_dimse.partners import Partners
from gantry_domain.statuses import Rejection
from gantry_ingress import metrics
from gantry_runtime.logs import get_logger

log = get_logger(__name__)

# What a probe or a port scan does all day long is counted and not logged.
_NOT_LOGGED = (Fault.LOST, Fault.SILENT)


class Watch:
    """An `Observer` of the ingress."""

    def __init__(self, partners: Partners) -> None:
        self._partners = partners

    def faulted(self, host: str, fault: Fault) -> None:
        """See `Observer.faulted`."""
        metrics.CONNECTIONS_FAULTED.labels(fault.value).inc()
        if fault not in _NOT_LOGGED:
            log.warning("connection_refused", host=host, reason=fault.value)

    def rejected(self, peer: Peer, rejection: Rejection) -> None:
        """See `Observer.rejected`."""
        partner = self._partners.label(peer.calling_ae)
        metrics.ASSOCIATIONS_REJECTED.labels(partner, rejection.label).inc()
        log.warning(
            "association_rejected",
            calling_ae=peer.calling_ae,
            called_ae=peer.called_ae,
            host=peer.host,
            reason=rejection.label,
        )

    def established(self, peer: Peer) -> None:
        """See `Observer.established`."""
        metrics.ASSOCIATIONS_OPENED.labels(self._partners.label(peer.calling_ae)).inc()
        metrics.ASSOCIATIONS_ACTIVE.inc()

    def ended(self, peer: Peer, ending: Ending, detail: str) -> None:
        """See `Observer.ended`."""
        metrics.ASSOCIATIONS_ACTIVE.dec()
        partner = self._partners.label(peer.calling_ae)
        metrics.ASSOCIATIONS_ENDED.labels(partner, ending.value).inc()
        if ending is not Ending.RELEASED:
            log.warning(
                "association_broken",
                calling_ae=peer.calling_ae,
                host=peer.host,
                ending=ending.value,
                detail=detail,
            )

    def failed(self, error: Exception) -> None:
        """See `Observer.failed`."""
        metrics.FAILURES.inc()
        log.error("association_failed", exc_info=error)

"""Counts and logs what the associations of a service do, alike for each DIMSE port."""

from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from gantry_dimse.observer import Ending, Fault, Peer
from gantry_dimse.partners import Partners
from gantry_domain.statuses import Rejection
from gantry_runtime.logs import get_logger
from gantry_runtime.metrics import counter, gauge
from gantry_runtime.rarely import Rarely

log = get_logger(__name__)

# What a probe or a port scan does all day long is counted and not logged.
_NOT_LOGGED = (Fault.LOST, Fault.SILENT)


@dataclass(frozen=True, slots=True)
class AssociationMetrics:
    """The metrics of one service. A partner is a configured AE title, or `other`."""

    opened: Counter
    rejected: Counter
    ended: Counter
    active: Gauge
    faulted: Counter
    failures: Counter
    cluster_limits_away: Gauge


def association_metrics(service: str) -> AssociationMetrics:
    """Declares the metrics; called once, by the service's own `metrics` module."""
    prefix = f"gantry_{service}"
    return AssociationMetrics(
        opened=counter(
            f"{prefix}_associations_opened_total", "Associations that were accepted", ["partner"]
        ),
        rejected=counter(
            f"{prefix}_associations_rejected_total",
            "Association requests that were rejected, by reason (PS3.8 Table 9-21)",
            ["partner", "reason"],
        ),
        ended=counter(
            f"{prefix}_associations_ended_total",
            "Associations that have ended, by how: released, peer_aborted, lost, too_slow, ...",
            ["partner", "ending"],
        ),
        active=gauge(f"{prefix}_associations_active", "Associations that are open now"),
        faulted=counter(
            f"{prefix}_connections_faulted_total",
            "Connections that never became a request: silent, not_dicom, lost, too_many, tls",
            ["fault"],
        ),
        failures=counter(
            f"{prefix}_failures_total", "Associations that ended by an error of our own"
        ),
        cluster_limits_away=gauge(
            f"{prefix}_cluster_limits_away",
            "Processes in which the limits of callers hold on this machine alone, for the broker is"
            " away",
        ),
    )


class AssociationWatch:
    """An `Observer`."""

    def __init__(self, partners: Partners, metrics: AssociationMetrics) -> None:
        self._partners = partners
        self._metrics = metrics
        self._rarely = Rarely()

    def faulted(self, host: str, fault: Fault, detail: str = "") -> None:
        """See `Observer.faulted`."""
        self._metrics.faulted.labels(fault.value).inc()
        if fault in _NOT_LOGGED:
            return
        left_out = self._rarely.due(host, fault.value, detail)
        if left_out is not None:
            log.warning(
                "connection_refused",
                host=host,
                reason=fault.value,
                detail=detail,
                left_out=left_out,
            )

    def rejected(self, peer: Peer, rejection: Rejection) -> None:
        """See `Observer.rejected`."""
        partner = self._partners.label(peer.calling_ae)
        self._metrics.rejected.labels(partner, rejection.label).inc()
        left_out = self._rarely.due(peer.host, peer.calling_ae, rejection.label)
        if left_out is not None:
            log.warning(
                "association_rejected",
                calling_ae=peer.calling_ae,
                called_ae=peer.called_ae,
                host=peer.host,
                reason=rejection.label,
                left_out=left_out,
            )

    def established(self, peer: Peer) -> None:
        """See `Observer.established`."""
        self._metrics.opened.labels(self._partners.label(peer.calling_ae)).inc()
        self._metrics.active.inc()

    def ended(self, peer: Peer, ending: Ending, detail: str) -> None:
        """See `Observer.ended`."""
        self._metrics.active.dec()
        partner = self._partners.label(peer.calling_ae)
        self._metrics.ended.labels(partner, ending.value).inc()
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
        self._metrics.failures.inc()
        log.error("association_failed", exc_info=error)

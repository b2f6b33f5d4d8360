"""Counts the associations of a service: on this machine, and where that is wanted on all of them.

The limit of a whole service is one of its machine, which it protects. Those of a caller hold
wherever the balancer sends it; while the broker is away they hold on each machine alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Gauge

from gantry_dimse.slots import AssociationSlots, Claim, Slot
from gantry_runtime.logs import get_logger
from gantry_runtime.services import DimseDoor
from gantry_runtime.settings import Settings
from gantry_stores.queue.leases import Lease, LeasedPlaces

log = get_logger(__name__)


class ClusterSlots:
    """A place on this machine first, then one of those that all machines share; `Slots`."""

    def __init__(self, local: AssociationSlots, shared: LeasedPlaces | None) -> None:
        """Take both over. `shared`: None where this machine is the only one."""
        self._local = local
        self._shared = shared

    def take(self, claims: Sequence[Claim] = ()) -> Slot | None:
        """See `Slots.take`."""
        slot = self._local.take(claims)
        if slot is None or self._shared is None or not claims:
            return slot
        lease = self._shared.take([(claim.whose, claim.most) for claim in claims])
        if lease is None:
            slot.release()
            return None
        return _Both(slot, lease)

    def close(self) -> None:
        """Give all slots back."""
        if self._shared is not None:
            self._shared.close()
        self._local.close()


@dataclass(frozen=True, slots=True)
class _Both:
    slot: Slot
    lease: Lease

    def release(self) -> None:
        self.lease.release()
        self.slot.release()


def slots_of(
    settings: Settings, door: DimseDoor, file: Path, *, service: str, away: Gauge
) -> ClusterSlots:
    """The slots of one process of a port; `file` is shared by those of its machine.

    `away` is 1 while the limits of callers hold on this machine alone.
    """
    local = AssociationSlots(file, count=door.max_associations)
    if not settings.limits_in_cluster(door):
        return ClusterSlots(local, None)

    def tell_away(error: Exception) -> None:
        away.set(1)
        log.warning("cluster_limits_away", error=type(error).__name__)

    def tell_back() -> None:
        away.set(0)
        log.info("cluster_limits_back")

    shared = LeasedPlaces(
        settings.broker_url, service=service, on_away=tell_away, on_back=tell_back
    )
    return ClusterSlots(local, shared)

"""C-STORE requests become staged objects, and what became of them a DIMSE status."""

import time

from gantry_archive.refusal_statuses import STATUSES
from gantry_archive.staging import Provenance, Staged, Stager, Staging
from gantry_dimse.partners import Partners
from gantry_dimse.storage import Reception, StoreOutcome, StoreRequest
from gantry_domain.statuses import NOT_AUTHORIZED, SUCCESS
from gantry_ingress import metrics
from gantry_runtime.logs import get_logger

log = get_logger(__name__)


class StoreReception:
    """One object that a partner sends; a `Reception`."""

    def __init__(self, staging: Staging, *, partner: str) -> None:
        self._staging = staging
        self._partner = partner
        self._begun = time.monotonic()

    def write(self, fragment: memoryview) -> None:
        """See `Reception.write`."""
        self._staging.write(fragment)

    def finish(self) -> StoreOutcome:
        """See `Reception.finish`."""
        received = time.monotonic()
        result = self._staging.finish()
        committed = time.monotonic()
        if isinstance(result, Staged):
            outcome = StoreOutcome(SUCCESS)
            metrics.STAGE_SECONDS.labels("receive").observe(received - self._begun)
            metrics.STAGE_SECONDS.labels("commit").observe(committed - received)
        else:
            outcome = StoreOutcome(STATUSES[result.refusal], result.detail)
            metrics.REFUSALS.labels(self._partner, result.refusal.value).inc()
            log.warning(
                "object_refused",
                partner=self._partner,
                reason=result.refusal.value,
                status=f"{outcome.status.code:04X}",
            )
        status = f"{outcome.status.code:04X}"
        metrics.INSTANCES.labels(self._partner, status).inc()
        metrics.BYTES.labels(self._partner, status).inc(self._staging.received)
        return outcome

    def abort(self) -> None:
        """See `Reception.abort`."""
        self._staging.abort()


class _Unauthorized:
    """What a partner sends that may not store; a `Reception`."""

    def __init__(self, *, partner: str) -> None:
        self._partner = partner
        self._received = 0

    def write(self, fragment: memoryview) -> None:
        """See `Reception.write`."""
        self._received += len(fragment)

    def finish(self) -> StoreOutcome:
        """See `Reception.finish`."""
        status = f"{NOT_AUTHORIZED.code:04X}"
        metrics.REFUSALS.labels(self._partner, "not_authorized").inc()
        metrics.INSTANCES.labels(self._partner, status).inc()
        metrics.BYTES.labels(self._partner, status).inc(self._received)
        return StoreOutcome(NOT_AUTHORIZED, "this AE title may not store")

    def abort(self) -> None:
        """See `Reception.abort`."""


class StoreService:
    """Stages what partners send; a `StorageHandler`."""

    def __init__(self, stager: Stager, *, partners: Partners) -> None:
        self._stager = stager
        self._partners = partners

    def begin(self, request: StoreRequest) -> Reception:
        """See `StorageHandler.begin`."""
        partner = self._partners.label(request.calling_ae)
        if not self._partners.may(request.calling_ae, "store"):
            return _Unauthorized(partner=partner)
        staging = self._stager.begin(
            Provenance(
                calling_ae=request.calling_ae,
                receiving_ae=request.called_ae,
                partition=self._partners.partition(request.calling_ae),
                transfer_syntax=request.transfer_syntax,
                SOPClassUID=request.SOPClassUID,
                SOPInstanceUID=request.SOPInstanceUID,
            )
        )
        return StoreReception(staging, partner=partner)

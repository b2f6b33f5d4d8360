"""Answers requests of storage commitment: one thread looks at instances, a few tell requesters.

    waiting ──▶ look: index, then store ──▶ checked ──▶ tell over a new association ──▶ reported

Who has no address, or wants it so, is told by the ingress over the association of the request; it
holds the row as long as that lasts.
"""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Engine

from gantry_archive.commitment_reports import tell_over_new_association
from gantry_archive.committing import check_commitment
from gantry_archive.destinations import destination_timeouts, destinations
from gantry_archive.storable_classes import known_classes
from gantry_dimse.peer_errors import (
    AssociationLost,
    AssociationRejected,
    NoAcceptedContext,
    Unreachable,
)
from gantry_runtime.logs import get_logger
from gantry_runtime.settings import Settings
from gantry_stores.index import commitments as rows
from gantry_stores.index.asked_to_keep import note_asked
from gantry_stores.index.commitments import Commitment
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.objects import ObjectStore
from gantry_worker import commitment_metrics as metrics
from gantry_worker.due_threads import DueThreads

log = get_logger(__name__)

_LEASE = timedelta(seconds=30)
_RENEW_SECONDS = 5.0
_PURGE_SECONDS = 600.0
_MEASURE_SECONDS = 5.0
_TELLERS = 3
_READERS = 4
# What is not indexed is looked for again, ever more seldom: the sweep says when all of it is.
_SOONEST, _LATEST = timedelta(seconds=1), timedelta(seconds=60)
_SELDOM = 4


class Commitments:
    """The threads that do so in one process."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Callable[[], ObjectStore],
        stopping: threading.Event,
    ) -> None:
        """`store` raises a `TransientError` while there is none."""
        self._settings = settings.commitment
        self._policy = settings.commitment.retry_policy()
        self._timeouts = destination_timeouts(settings)
        self._destinations = {
            title.casefold(): each for title, each in destinations(settings).items()
        }
        self._classes = frozenset(known_classes(settings))
        self._when_through = {title.casefold() for title in settings.complete_after.committed}
        self._store = store
        self._engine: Engine = make_engine(
            settings.database_url, pool_size=2 + _TELLERS, application_name="gantry-commitments"
        )
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="commitment-reader")
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._purged = self._measured = float("-inf")
        self._threads = DueThreads(
            {"committing": self._check_one}
            | {f"telling-{n}": self._tell_one for n in range(_TELLERS)},
            stopping=stopping,
            failed=metrics.FAILURES.inc,
        )

    def start(self) -> None:
        """Begin."""
        self._threads.start()

    def join(self, seconds: float) -> bool:
        """Wait for the threads, which end when `stopping` is set; whether they have."""
        joined = self._threads.join(seconds)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()
        return joined

    def _check_one(self) -> bool:
        self._tidy()
        with transaction(self._engine) as connection:
            found = rows.claim_waiting(connection, lease=_LEASE)
        if found is None:
            return False
        checked = check_commitment(
            found,
            engine=self._engine,
            store=self._store(),
            storage_classes=self._classes,
            read_bytes=self._settings.check == "bytes",
            readers=self._readers,
            progress=self._renewing(found),
        )
        with transaction(self._engine) as connection:
            if checked.pending:
                after = min(max(found.age / _SELDOM, _SOONEST), _LATEST)
                rows.look_again(connection, found.pk, after=after)
                return True
            rows.write_checked(connection, found.pk, checked.failed)
            # Where something is missing its sender is not through: it will send that again.
            if not checked.failed and found.calling_ae.casefold() in self._when_through:
                note_asked(
                    connection,
                    [each.SOPInstanceUID for each in found.references],
                    partition=found.partition,
                    calling_ae=found.calling_ae,
                )
        kept = len(found.references) - len(checked.failed)
        metrics.INSTANCES.labels("committed").inc(kept)
        for reason in checked.failed.values():
            metrics.INSTANCES.labels(f"{reason:04X}").inc()
        log.info("commitment_checked", commitment=found.pk, kept=kept, failed=len(checked.failed))
        return True

    def _renewing(self, found: Commitment) -> Callable[[], None]:
        renewed = time.monotonic()

        def progress() -> None:
            nonlocal renewed
            if time.monotonic() - renewed > _RENEW_SECONDS:
                renewed = time.monotonic()
                with transaction(self._engine) as connection:
                    rows.renew(connection, found.pk, lease=_LEASE)

        return progress

    def _tell_one(self) -> bool:
        with self._lock:
            with transaction(self._engine) as connection:
                found = rows.claim_report(connection, lease=_LEASE, busy=sorted(self._busy))
            if found is None:
                return False
            self._busy.add(found.calling_ae)
        try:
            self._tell(found)
        finally:
            with self._lock:
                self._busy.discard(found.calling_ae)
        return True

    def _tell(self, found: Commitment) -> None:
        destination = self._destinations.get(found.calling_ae.casefold())
        label = "other" if destination is None else destination.ae_title
        failure: str
        if destination is None:
            failure = "the requester is no partner with an address"
        else:
            try:
                heard = tell_over_new_association(found, destination, self._timeouts)
            except (
                Unreachable,
                AssociationRejected,
                AssociationLost,
                NoAcceptedContext,
            ) as error:
                failure = str(error)
            else:
                failure = f"the requester answered {heard.status:04X}"
                if heard.heard or not heard.worth_repeating:
                    self._settle(found, label, failure=None if heard.heard else failure)
                    return
        with transaction(self._engine) as connection:
            dead = rows.write_unheard(
                connection,
                found.pk,
                reason=failure,
                policy=self._policy,
                fraction=random.random(),  # noqa: S311 - no secret
            )
        metrics.REPORTS.labels(label, "dead" if dead else "failed").inc()
        log.warning("commitment_not_told", commitment=found.pk, requester=label, reason=failure)

    def _settle(self, found: Commitment, label: str, *, failure: str | None) -> None:
        with transaction(self._engine) as connection:
            if failure is None:
                rows.write_reported(connection, found.pk)
            else:
                rows.write_dead(connection, found.pk, reason=failure)
        metrics.REPORTS.labels(label, "told" if failure is None else "dead").inc()
        log.info("commitment_settled", commitment=found.pk, requester=label, reason=failure)

    def _tidy(self) -> None:
        now = time.monotonic()
        if now >= self._measured + _MEASURE_SECONDS:
            self._measured = now
            with transaction(self._engine) as connection:
                found = rows.open_commitments(connection)
            for state in ("waiting", "checked"):
                number, oldest = found.get(state, (0, timedelta()))
                metrics.OPEN.labels(state).set(number)
                metrics.OLDEST_SECONDS.labels(state).set(oldest.total_seconds())
        if now >= self._purged + _PURGE_SECONDS:
            self._purged = now
            with transaction(self._engine) as connection:
                rows.purge_commitments(connection, datetime.now(UTC) - self._settings.keep)

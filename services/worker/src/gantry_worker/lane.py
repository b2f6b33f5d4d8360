"""One lane per destination: threads that claim what is due for it and send it.

A destination that hangs holds up its own lane and no other. Leases are kept alive apart from the
lanes, so that a long instance does not cost its lease.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.engine import Engine

from gantry_archive.destinations import Destination
from gantry_archive.forwarding import Sending
from gantry_dimse.requesting import Timeouts
from gantry_domain.deliveries import DeliveryState, RetryPolicy
from gantry_domain.errors import TransientError
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.index.delivery_leases import Claim, ItemOutcome, LeaseLost, claim, renew
from gantry_stores.objects import ObjectStore
from gantry_worker import forward_metrics as metrics

log = get_logger(__name__)

_RENEW_SECONDS = 1.0
_AFTER_A_FAILURE_SECONDS = 1.0


class Leases:
    """What this process is sending, under one owner; renews the leases, ends what was taken away.

    A cancelled delivery is noticed within a second.
    """

    def __init__(self, engine: Engine, *, owner: str, lease: timedelta) -> None:
        self.owner = owner
        self.lease = lease
        self._engine = engine
        self._lock = threading.Lock()
        self._active: dict[int, Sending] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def close(self) -> None:
        """Renew no more; for when nothing is sent any more."""
        self._ended.set()
        self._thread.join()

    def add(self, sending: Sending) -> None:
        """A round begins."""
        with self._lock:
            self._active[sending.claim.pk] = sending

    def remove(self, sending: Sending) -> None:
        """A round has ended."""
        with self._lock:
            self._active.pop(sending.claim.pk, None)

    def stop_all(self, *, at_once: bool) -> None:
        """End all rounds, after their present instance or in the middle of it."""
        with self._lock:
            active = list(self._active.values())
        for sending in active:
            sending.stop(at_once=at_once)

    def _keep(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            with self._lock:
                active = list(self._active.values())
            if not active:
                continue
            try:
                with transaction(self._engine) as connection:
                    held = renew(connection, owner=self.owner, lease=self.lease)
            except TransientError as error:
                # Nobody else can claim either; the lanes notice by themselves.
                log.warning("leases_not_renewed", error=type(error).__name__)
                continue
            except Exception:  # the thread's door: without it every lease would run out
                log.exception("leases_not_renewed")
                continue
            for sending in active:
                if held.get(sending.claim.pk) != sending.claim.fence:
                    sending.stop(at_once=True)


class Lane:
    """The threads of one destination, at most `concurrency` of them."""

    def __init__(
        self,
        destination: Destination,
        *,
        engine: Engine,
        store: Callable[[], ObjectStore],
        leases: Leases,
        policy: RetryPolicy,
        timeouts: Timeouts,
        concurrency: int,
        stopping: threading.Event,
    ) -> None:
        """`store` raises a `TransientError` while there is none."""
        self.destination = destination
        self._engine = engine
        self._store = store
        self._leases = leases
        self._policy = policy
        self._timeouts = timeouts
        self._concurrency = concurrency
        self._stopping = stopping
        self._wake = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"lane-{destination.ae_title}", daemon=True)
            for _ in range(concurrency)
        ]

    def start(self) -> None:
        """Begin to claim."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Something is due."""
        self._wake.set()

    def join(self, deadline: float) -> bool:
        """Wait for the threads until `deadline` of `time.monotonic()`: whether all have ended."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def settled(self, outcome: ItemOutcome, *, size: int, seconds: float) -> None:
        """Count an item."""
        title = self.destination.ae_title
        metrics.ITEMS.labels(title, outcome.state.value).inc()
        metrics.BYTES.labels(title).inc(size)
        if seconds:
            metrics.SEND_SECONDS.labels(title).observe(seconds)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if self._stopping.is_set():
                return
            self._wake.clear()
            title = self.destination.ae_title
            try:
                while not self._stopping.is_set() and (claimed := self._claim()) is not None:
                    self._wake.set()  # there may be more, for a thread that is free
                    self._send(claimed)
            except LeaseLost:
                log.info("delivery_taken_away", destination=title)
            except TransientError as error:
                metrics.FAILURES.labels(title, "transient").inc()
                log.warning("lane_waits", destination=title, error=type(error).__name__)
                self._stopping.wait(_AFTER_A_FAILURE_SECONDS)
            except Exception:  # the lane's door: its lease runs out, and the next claim tries again
                metrics.FAILURES.labels(title, "unexpected").inc()
                log.exception("lane_failed", destination=title)
                self._stopping.wait(_AFTER_A_FAILURE_SECONDS)

    def _claim(self) -> Claim | None:
        with transaction(self._engine) as connection:
            return claim(
                connection,
                destination=self.destination.ae_title,
                owner=self._leases.owner,
                lease=self._leases.lease,
                concurrency=self._concurrency,
            )

    def _send(self, claimed: Claim) -> None:
        title = self.destination.ae_title
        sending = Sending(
            claim=claimed,
            destination=self.destination,
            engine=self._engine,
            store=self._store(),
            timeouts=self._timeouts,
            policy=self._policy,
            observer=self,
        )
        self._leases.add(sending)
        try:
            if self._stopping.is_set():  # it was set before this round could be stopped
                sending.stop(at_once=False)
            finished = sending.run()
        finally:
            self._leases.remove(sending)
        state = finished.settlement.state
        metrics.ROUNDS.labels(title, state.value).inc()
        if finished.lag is not None:
            metrics.LAG_SECONDS.labels(title).observe(max(0.0, finished.lag.total_seconds()))
        level = log.info if state is DeliveryState.DELIVERED else log.warning
        level(
            "delivery_round_ended",
            delivery=claimed.pk,
            destination=title,
            state=state.value,
            reason=finished.settlement.reason,
        )

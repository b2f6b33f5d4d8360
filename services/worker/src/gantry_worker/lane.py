"""One lane per destination: threads that claim what is due for it and send it.

A destination that hangs holds up its own lane and no other. Leases are kept alive apart from the
lanes, so that a long instance does not cost its lease.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from gantry_archive.forwarding import Sending
from gantry_archive.place_destinations import PlaceAway, PlaceDestination
from gantry_archive.web_destinations import AnyDestination
from gantry_dimse.peer_errors import (
    AssociationLost,
    AssociationRejected,
    Unreachable,
)
from gantry_dimse.requesting import Timeouts
from gantry_domain.deliveries import DeliveryState, RetryPolicy
from gantry_domain.errors import TransientError
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.index.delivery_leases import Claim, ItemOutcome, LeaseLost, claim, renew
from gantry_stores.index.lanes import (
    claim_probe,
    lane_failed,
    lane_works,
    leave_alone,
    nothing_delivered,
    stopped_lanes,
)
from gantry_stores.objects import ObjectStore
from gantry_worker import forward_metrics as metrics

log = get_logger(__name__)

_RENEW_SECONDS = 1.0
_AFTER_A_FAILURE_SECONDS = 1.0
# The outcome of an instance that is refused for its class, and no image.
_NOT_TAKEN = "not_taken"


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
                    stopped = stopped_lanes(connection)
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
                elif sending.claim.destination in stopped:
                    sending.stop(at_once=False)


class Lane:
    """The threads of one destination, at most `concurrency` of them."""

    def __init__(
        self,
        destination: AnyDestination,
        *,
        engine: Engine,
        store: Callable[[], ObjectStore],
        leases: Leases,
        policy: RetryPolicy,
        timeouts: Timeouts,
        concurrency: int,
        open_after: int,
        zone: ZoneInfo,
        stopping: threading.Event,
    ) -> None:
        """`store` raises a `TransientError` while there is none. After `open_after` rounds in a row
        that found nobody nothing is tried but whether somebody is there. `zone`: of the
        destination's times of the day."""
        self.destination = destination
        self._engine = engine
        self._store = store
        self._leases = leases
        self._policy = policy
        self._timeouts = timeouts
        self._concurrency = concurrency
        self._open_after = open_after
        self._zone = zone
        self._stopping = stopping
        self._probe_due = threading.Event()
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

    def probe(self) -> None:
        """Nobody answered for a while: it is time to see whether somebody does now."""
        self._probe_due.set()
        self._wake.set()

    @property
    def only_pushed(self) -> bool:
        """Whether it is no time for routes to send there."""
        return not self.destination.takes_routed(datetime.now(self._zone).time())

    def join(self, deadline: float) -> bool:
        """Wait for the threads until `deadline` of `time.monotonic()`: whether all have ended."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def settled(self, outcome: ItemOutcome, *, not_taken: bool, size: int, seconds: float) -> None:
        """Count an item."""
        title = self.destination.ae_title
        metrics.ITEMS.labels(title, _NOT_TAKEN if not_taken else outcome.state.value).inc()
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
                if self._probe_due.is_set():
                    self._probe_due.clear()
                    self._probe()
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
                only_pushed=self.only_pushed,
            )

    def _probe(self) -> None:
        title = self.destination.ae_title
        with transaction(self._engine) as connection:
            if not claim_probe(connection, title, policy=self._policy):
                return
        self._prepare()
        try:
            self.destination.probe(self._timeouts)
        except (Unreachable, AssociationRejected, AssociationLost) as error:
            metrics.PROBES.labels(title, "nobody").inc()
            log.info("destination_still_away", destination=title, reason=str(error))
            return
        metrics.PROBES.labels(title, "answered").inc()
        self._note_works()

    def _prepare(self) -> None:
        """A folder that nothing was delivered to yet need not look as if something had been."""
        destination = self.destination
        if not isinstance(destination, PlaceDestination) or destination.place.prepared:
            return
        with transaction(self._engine) as connection:
            first = nothing_delivered(connection, destination.ae_title)
        if first:
            with suppress(PlaceAway):  # the round or the probe says so
                destination.place.prepare()

    def _note(self, sending: Sending) -> None:
        """Whether anybody was there counts for the lane as a whole."""
        if sending.wait:
            title, reason = self.destination.ae_title, str(sending.nobody_there)
            with transaction(self._engine) as connection:
                leave_alone(connection, title, reason=reason, wait=sending.wait)
            log.info("destination_asks_to_wait", destination=title)
        elif sending.associated:
            self._note_works()
        elif sending.nobody_there is not None:
            title = self.destination.ae_title
            with transaction(self._engine) as connection:
                opened = lane_failed(
                    connection,
                    title,
                    reason=sending.nobody_there,
                    most=self._open_after,
                    policy=self._policy,
                )
            if opened:
                log.warning("destination_left_alone", destination=title)

    def _note_works(self) -> None:
        with transaction(self._engine) as connection:
            news = lane_works(connection, self.destination.ae_title)
        if news:
            log.info("destination_answers_again", destination=self.destination.ae_title)
            self._wake.set()

    def _send(self, claimed: Claim) -> None:
        title = self.destination.ae_title
        self._prepare()
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
        self._note(sending)
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

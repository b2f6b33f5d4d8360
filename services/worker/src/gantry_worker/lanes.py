"""`python -m gantry_worker.lanes`: the process that forwards.

    routes ──▶ plan ──▶ delivery rows ──▶ look for what is due ──▶ wake the lane ──▶ claim, send

Due work waits in the database. This process looks for it, twice a second; nothing has to tell it,
but what a person pushed says so, and is looked for at once.
"""

import os
import socket
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Engine

from gantry_archive.delivery import plan_early, plan_routes
from gantry_archive.destinations import destination_timeouts
from gantry_archive.web_destinations import sendable
from gantry_domain.deliveries import DeliveryState
from gantry_domain.errors import TransientError
from gantry_runtime.entry import run
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process, attach
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.delivery_leases import due_destinations, postpone_unknown
from gantry_stores.index.delivery_lists import backlog
from gantry_stores.index.due_hints import DueHints
from gantry_stores.index.lanes import give_up_old, lanes_to_probe, list_lanes
from gantry_stores.index.proofs import unproved_deliveries
from gantry_stores.objects import ObjectStore, open_store
from gantry_worker import forward_metrics as metrics
from gantry_worker.commitments import Commitments
from gantry_worker.lane import Lane, Leases
from gantry_worker.proofs import Proofs
from gantry_worker.subscribers import Subscribers

log = get_logger(__name__)

# From SIGTERM; together less than the grace that the supervisor gives.
_FINISH_SECONDS = 18.0
_ABORT_SECONDS = 6.0

_COMMITMENT_SECONDS = 1.0

_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_MEASURE_SECONDS = 5.0
_UNKNOWN_SECONDS = 30.0
_MOST_CONNECTIONS = 12

_UNPROVED_STATES = ("due", "asked", "resending", "failed")
_OPEN_STATES = [state for state in DeliveryState if state is not DeliveryState.DELIVERED]


def main() -> int:
    """Forward until SIGTERM, then give back what is not sent."""
    process = attach("worker")
    settings = load_settings()
    forwarding = Forwarding(settings, process)
    forwarding.start()
    while not process.stopping.is_set():
        forwarding.wait(forwarding.look())
    forwarding.stop()
    return 0


class Forwarding:
    """The lanes of this process and what keeps them busy."""

    def __init__(self, settings: Settings, process: Process) -> None:
        self._settings = settings
        self._process = process
        forward = settings.forward
        known = sendable(settings)
        threads = len(known) * forward.concurrency
        self._engine: Engine = make_engine(
            settings.database_url,
            pool_size=min(threads + 1, _MOST_CONNECTIONS),
            application_name="gantry-lanes",
        )
        # Apart, so that leases are renewed also while every other connection is in use.
        self._leases_engine = make_engine(
            settings.database_url, pool_size=1, application_name="gantry-leases"
        )
        self._hints_engine = make_engine(
            settings.database_url, pool_size=1, application_name="gantry-hints"
        )
        self._hints = DueHints(self._hints_engine)
        self._leases = Leases(
            self._leases_engine,
            owner=f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
            lease=forward.lease,
        )
        self._store: ObjectStore | None = None
        self._policy = forward.retry_policy()
        self._lanes = {
            title: Lane(
                destination,
                engine=self._engine,
                store=self._open_store,
                leases=self._leases,
                policy=self._policy,
                timeouts=destination_timeouts(settings),
                concurrency=forward.concurrency,
                open_after=forward.open_after,
                zone=settings.zone,
                stopping=process.stopping,
            )
            for title, destination in known.items()
        }
        self._commitments = Commitments(settings, store=self._open_store, stopping=process.stopping)
        self._proofs = Proofs(settings, stopping=process.stopping)
        self._subscribers = Subscribers(settings, stopping=process.stopping)
        self._measured = self._postponed = float("-inf")

    def start(self) -> None:
        """Start all threads."""
        self._commitments.start()
        self._proofs.start()
        self._subscribers.start()
        self._leases.start()
        for lane in self._lanes.values():
            lane.start()
        log.info("lanes_started", destinations=len(self._lanes))

    def look(self) -> float:
        """Plan, and wake the lanes that have something due; seconds until the next look."""
        try:
            self._plan()
            with transaction(self._engine) as connection:
                due = due_destinations(
                    connection,
                    self._lanes,
                    only_pushed=[title for title, lane in self._lanes.items() if lane.only_pushed],
                )
                to_probe = lanes_to_probe(connection, self._lanes)
            for title in to_probe:
                self._lanes[title].probe()
            for title in due:
                self._lanes[title].wake()
            now = time.monotonic()
            if now >= self._measured + _MEASURE_SECONDS:
                self._give_up()
                self._measure()
                self._subscribers.measure()
                self._measured = now
            if now >= self._postponed + _UNKNOWN_SECONDS:
                self._postpone()
                self._postponed = now
            self._open_store()
        except TransientError as error:
            self._process.not_ready(str(error))
            return _RETRY_SECONDS
        self._process.ready()
        return _LOOK_SECONDS

    def wait(self, seconds: float) -> None:
        """Until the next look: so long, or until something is pushed."""
        self._hints.wait(seconds, stopped=self._process.stopping.is_set)

    def _plan(self) -> None:
        routes, zone = self._settings.route_table, self._settings.zone
        series_quiet = self._settings.complete_after.series
        early = plan_early(self._engine, routes, series_quiet=series_quiet, zone=zone)
        planned = plan_routes(self._engine, routes, zone=zone)
        metrics.PLANNED.inc(early.deliveries + planned.deliveries)

    def stop(self) -> None:
        """Let the present instances end, then stop the rest; what is left is given back."""
        self._leases.stop_all(at_once=False)
        for lane in self._lanes.values():
            lane.wake()
        drained = self._join(_FINISH_SECONDS)
        if not drained:
            self._leases.stop_all(at_once=True)
            drained = self._join(_ABORT_SECONDS)
        self._leases.close()
        self._commitments.join(_COMMITMENT_SECONDS)
        self._proofs.join(_COMMITMENT_SECONDS)
        self._subscribers.join(_COMMITMENT_SECONDS)
        self._hints.close()
        for engine in (self._engine, self._leases_engine, self._hints_engine):
            engine.dispose()
        log.info("lanes_stopped", drained=drained)

    def _join(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        joined = [lane.join(deadline) for lane in self._lanes.values()]
        return all(joined)

    def _open_store(self) -> ObjectStore:
        if self._store is None:
            self._store = open_store(self._settings.objects_place)
        return self._store

    def _measure(self) -> None:
        with transaction(self._engine) as connection:
            lines = backlog(connection, late_after=self._settings.forward.late_after)
            without_proof = unproved_deliveries(connection)
            stopped = {line.destination: line for line in list_lanes(connection)}
        now = datetime.now(UTC)
        numbers: dict[tuple[str, DeliveryState], int] = {}
        oldest: dict[str, datetime] = {}
        late: dict[str, int] = {}
        for line in lines:
            title = self._label(line.destination)
            numbers[title, line.state] = numbers.get((title, line.state), 0) + line.number
            late[title] = late.get(title, 0) + line.late
            if line.state.open:
                oldest[title] = min(oldest.get(title, line.oldest), line.oldest)
        for title, lane in self._lanes.items():
            found = stopped.get(title)
            paused_at = None if found is None else found.paused_at
            paused = now - paused_at if paused_at is not None else timedelta()
            metrics.LANE_PAUSED_SECONDS.labels(title).set(paused.total_seconds())
            metrics.LANE_OPEN.labels(title).set(found is not None and found.opened_at is not None)
            if lane.destination.prove is not None:
                for state in _UNPROVED_STATES:
                    number = without_proof.get((title, state), 0)
                    metrics.UNPROVED.labels(title, state).set(number)
        for title in {*self._lanes, *(title for title, _ in numbers)}:
            for each in _OPEN_STATES:
                metrics.DELIVERIES.labels(title, each.value).set(numbers.get((title, each), 0))
            metrics.LATE.labels(title).set(late.get(title, 0))
            waited = (now - oldest.get(title, now)).total_seconds()
            metrics.OLDEST_UNSENT_SECONDS.labels(title).set(max(0.0, waited))

    def _label(self, destination: str) -> str:
        return destination if destination in self._lanes else "other"

    def _give_up(self) -> None:
        """What waits for destinations that are not even tried has no round that would end it."""
        with transaction(self._engine) as connection:
            given_up = give_up_old(connection, after=self._policy.give_up_after)
        if given_up:
            log.warning("deliveries_given_up", deliveries=given_up)

    def _postpone(self) -> None:
        with transaction(self._engine) as connection:
            number = postpone_unknown(
                connection,
                known=self._lanes,
                policy=self._policy,
                reason="the destination is no partner with an address",
            )
        if number:
            log.warning("destinations_unknown", deliveries=number)


if __name__ == "__main__":
    sys.exit(run(main))

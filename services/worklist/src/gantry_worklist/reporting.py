"""Passes performed steps on to other systems: a thread for each destination, in each process.

What a modality told is in the index before it is answered, so nothing is lost when a destination is
away, or a process dies. A report whose answer got lost is sent again; that its destination has it
already is then no failure.
"""

import random
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Engine

from gantry_archive.destinations import Destination, destination_timeouts, destinations
from gantry_dimse import command_sets as cs
from gantry_dimse.reporting import ReportingAssociation
from gantry_dimse.requesting import Timeouts
from gantry_dimse.requestor import Response
from gantry_domain.deliveries import RetryPolicy
from gantry_domain.errors import GantryError, TransientError
from gantry_domain.statuses import (
    DUPLICATE_SOP_INSTANCE,
    PERFORMED_STEP_OVER,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SUCCESS,
)
from gantry_runtime.logs import get_logger
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.reports import (
    ClaimedReport,
    claim_report,
    give_up_report,
    put_off_report,
    report_taken,
)
from gantry_worklist import metrics

log = get_logger(__name__)

_LOOK_SECONDS = 1.0
_AFTER_A_FAILURE_SECONDS = 2.0
# PS3.7 Annex C.4.2 and C.5: they say that something was left out, and that the rest was taken.
_WARNINGS = frozenset((0x0001, 0x0107, 0x0116))
_LATER = frozenset((PROCESSING_FAILURE.code, RESOURCE_LIMITATION.code))


class ReportLane:
    """Sends one destination what is due for it."""

    def __init__(
        self,
        destination: Destination,
        *,
        engine: Engine,
        timeouts: Timeouts,
        policy: RetryPolicy,
        stopping: threading.Event,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._destination = destination
        self._engine = engine
        self._timeouts = timeouts
        self._policy = policy
        self._stopping = stopping
        self._look_seconds = look_seconds
        # Longer than one report can take: connecting, association, message, release.
        self._lease = timedelta(
            seconds=timeouts.connect + 2 * timeouts.acse + timeouts.dimse + 2 * timeouts.network
        )
        self._lock = threading.Lock()
        self._assoc: ReportingAssociation | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"reports {destination.ae_title}", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, in the middle of a report if need be; for when `stopping` is set."""
        with self._lock:
            if self._assoc is not None:
                self._assoc.interrupt()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                pause = 0.0 if self._send_next() else self._look_seconds
            except TransientError as error:
                log.warning("reports_wait", error=type(error).__name__)
                pause = _AFTER_A_FAILURE_SECONDS
            # The thread's door: without it nothing more would be passed on.
            except Exception:
                log.exception("reports_failed")
                pause = _AFTER_A_FAILURE_SECONDS

    def _send_next(self) -> bool:
        """Whether there was something to send. Raises `IndexUnavailable`."""
        title = self._destination.ae_title
        with transaction(self._engine) as connection:
            claimed = claim_report(connection, title, now=datetime.now(UTC), lease=self._lease)
        if claimed is None:
            return False
        refused = False
        try:
            response = self._answer(claimed)
            failure = _failure(claimed, response)
            refused = failure is not None and response.status not in _LATER
        except GantryError as error:
            failure = str(error)
        self._settle(claimed, failure, refused=refused)
        return True

    def _answer(self, claimed: ClaimedReport) -> Response:
        to, report = self._destination, claimed.report
        with ReportingAssociation.open_for(
            report.transfer_syntax,
            host=to.host,
            port=to.port,
            calling_ae=to.calling_ae,
            called_ae=to.ae_title,
            timeouts=self._timeouts,
            tls=to.tls,
        ) as assoc:
            with self._lock:
                self._assoc = assoc
            try:
                if self._stopping.is_set():
                    assoc.interrupt()
                send = assoc.create if report.operation == "create" else assoc.set
                return send(report.SOPInstanceUID, report.content)
            finally:
                with self._lock:
                    self._assoc = None

    def _settle(self, claimed: ClaimedReport, failure: str | None, *, refused: bool) -> None:
        now = datetime.now(UTC)
        with transaction(self._engine) as connection:
            if failure is None:
                outcome = "taken"
                report_taken(connection, claimed)
            elif refused or now - claimed.created_at >= self._policy.give_up_after:
                outcome = "given_up"
                give_up_report(connection, claimed, failure, now=now)
            else:
                outcome = "put_off"
                delay = self._policy.delay(claimed.attempts + 1, random.random())  # noqa: S311 - no secret
                put_off_report(connection, claimed, failure, due_at=now + delay)
        metrics.REPORTS.labels(self._destination.ae_title, outcome).inc()
        if outcome != "taken":
            log.warning(
                "report_" + outcome,
                destination=self._destination.ae_title,
                operation=claimed.report.operation,
                reason=failure,
            )


def _failure(claimed: ClaimedReport, response: Response) -> str | None:
    """None where the destination has it."""
    status = response.status
    if status == SUCCESS.code or status in _WARNINGS:
        return None
    if claimed.report.operation == "create" and status == DUPLICATE_SOP_INSTANCE.code:
        return None
    if claimed.report.operation == "set" and claimed.attempts and _is_over(response):
        return None
    return f"status {status:04X}"


def _is_over(response: Response) -> bool:
    error_id = None
    with suppress(ValueError):
        error_id = cs.number(response.elements, cs.ERROR_ID)
    return response.status == PROCESSING_FAILURE.code and error_id == PERFORMED_STEP_OVER


def report_lanes(
    settings: Settings, *, engine: Engine, stopping: threading.Event
) -> list[ReportLane]:
    """A lane for each destination of the settings."""
    known = destinations(settings)
    return [
        ReportLane(
            known[title],
            engine=engine,
            timeouts=destination_timeouts(settings),
            policy=settings.forward.retry_policy(),
            stopping=stopping,
        )
        for title in settings.worklist.performed_to
    ]

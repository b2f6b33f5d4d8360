"""`python -m gantry_worklist.serving FILE`: one process for worklist, MPPS and messages of HL7.

FILE is where the processes count their associations together. The process is ready while the index
answers. It listens when it does not, too: over DIMSE the status then says to try again, and a
message of HL7 waits for a while before its connection is closed without an answer.
"""

import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.engine import Engine

from gantry_archive.cluster_slots import slots_of
from gantry_archive.dimse_door import server_tls
from gantry_archive.readiness import tell_readiness
from gantry_dimse.handover import Handover
from gantry_dimse.tls import ServerTLS
from gantry_domain.errors import TransientError
from gantry_runtime.entry import run
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process, attach
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.orders.messages import purge_messages
from gantry_stores.index.orders.polls import last_heard_at
from gantry_stores.index.orders.reports import WaitingReports, count_reports
from gantry_worklist import metrics
from gantry_worklist.app import DIMSE_LISTENER, HL7_LISTENER, HL7_TLS_LISTENER, STOP_GRACE
from gantry_worklist.dimse import make_server
from gantry_worklist.hl7 import make_listener
from gantry_worklist.polling import pollers
from gantry_worklist.reporting import report_lanes

log = get_logger(__name__)

# Questions of associations, and messages, at a time, of one process; more take turns.
_QUESTIONS = 8
_MESSAGES = 8
_STATEMENT_LIMIT = timedelta(seconds=10)
_CHECK_SECONDS = 5.0
_PURGE_SECONDS = 600.0
_DRAIN_SECONDS = STOP_GRACE - 12.0


def main() -> int:
    """Serve until SIGTERM; then what has come is answered, and associations come to their end."""
    process = attach("worklist")
    settings = load_settings()
    engine = make_engine(
        settings.database_url,
        # One more, for readiness is also to be known when all wait.
        pool_size=_QUESTIONS + _MESSAGES + _callers(settings) + 1,
        statement_timeout=_STATEMENT_LIMIT,
        application_name="gantry-worklist",
    )
    threads = ThreadPoolExecutor(_QUESTIONS, thread_name_prefix="worklist")
    slots = slots_of(
        settings,
        settings.worklist,
        Path(sys.argv[1]),
        service="worklist",
        away=metrics.ASSOCIATIONS.cluster_limits_away,
    )
    messages = [
        make_listener(settings, listener, engine=engine, stopping=process.stopping, tls=tls)
        for listener, tls in _hl7_listeners(settings, process.sockets)
    ]
    server = make_server(
        settings,
        process.sockets[DIMSE_LISTENER],
        engine=engine,
        threads=threads,
        slots=slots,
        handover=Handover(settings.front_door_key),
    )
    lanes = report_lanes(settings, engine=engine, stopping=process.stopping)
    polling = pollers(settings, engine=engine, stopping=process.stopping)
    for each in messages:
        each.start()
    server.start()
    for lane in lanes:
        lane.start()
    for poller in polling:
        poller.start()
    log.info("worklist_started")
    _watch(process, engine, settings)
    deadline = time.monotonic() + _DRAIN_SECONDS
    answered = [each.drain(max(0.0, deadline - time.monotonic())) for each in messages]
    drained = server.drain(max(0.0, deadline - time.monotonic()))
    for each in messages:
        each.close()
    server.close()
    for lane in lanes:
        lane.close()
    for poller in polling:
        poller.close(max(0.0, deadline - time.monotonic()))
    threads.shutdown(wait=False, cancel_futures=True)
    engine.dispose()
    slots.close()
    log.info("worklist_stopped", drained=all(answered) and drained)
    return 0


def _hl7_listeners(
    settings: Settings, sockets: Mapping[str, socket.socket]
) -> Iterator[tuple[socket.socket, ServerTLS | None]]:
    yield sockets[HL7_LISTENER], None
    if HL7_TLS_LISTENER in sockets:
        yield sockets[HL7_TLS_LISTENER], server_tls(settings)


def _callers(settings: Settings) -> int:
    """Threads that call others."""
    return len(settings.worklist.performed_to) + len(settings.worklist.polls)


def _watch(process: Process, engine: Engine, settings: Settings) -> None:
    """Tell the supervisor whether the index can be asked, and purge, until it is time to stop."""
    purged_at = float("-inf")

    def look() -> None:
        nonlocal purged_at
        _look_at_feed(engine, settings.hl7.alive_for)
        _count_reports(engine, settings.worklist.performed_to)
        if time.monotonic() - purged_at > _PURGE_SECONDS:
            purged_at = time.monotonic()
            _purge(process, engine, settings.hl7.keep_messages)

    tell_readiness(process, database_url=settings.database_url, look=look, every=_CHECK_SECONDS)


def _look_at_feed(engine: Engine, alive_for: timedelta) -> None:
    """Raises `IndexUnavailable`."""
    with transaction(engine) as connection:
        last = last_heard_at(connection)
    age = timedelta() if last is None else datetime.now(UTC) - last
    metrics.FEED_ALIVE.set(last is not None and age < alive_for)
    metrics.FEED_AGE_SECONDS.set(max(0.0, age.total_seconds()))


def _count_reports(engine: Engine, destinations: Sequence[str]) -> None:
    """Raises `IndexUnavailable`."""
    if not destinations:
        return
    with transaction(engine) as connection:
        counts = count_reports(connection)
    for title in destinations:
        count = counts.get(title, WaitingReports())
        metrics.REPORTS_WAITING.labels(title).set(count.waiting)
        metrics.REPORTS_GIVEN_UP.labels(title).set(count.given_up)


def _purge(process: Process, engine: Engine, keep: timedelta) -> None:
    try:
        while not process.stopping.is_set():
            with transaction(engine) as connection:
                if not purge_messages(connection, datetime.now(UTC) - keep):
                    return
    except TransientError as error:
        log.warning("hl7_purge_put_off", error=type(error).__name__)


if __name__ == "__main__":
    sys.exit(run(main))

"""Polls other systems' worklists: a thread for each; of several processes one polls at a time."""

import threading
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from gantry_archive.destinations import destination_timeouts, destinations
from gantry_archive.polling import PollSource, ask_worklist, take_over
from gantry_domain.errors import GantryError, TransientError
from gantry_runtime.logs import get_logger
from gantry_runtime.settings import Settings
from gantry_stores.index.database import IndexUnavailable, transaction
from gantry_stores.index.orders.polls import claim_poll, poll_ended
from gantry_worklist import metrics

log = get_logger(__name__)

_LOOK_SECONDS = 1.0
# Longer than a poll takes; after it another process polls in place of one that died.
_LEASE = timedelta(minutes=5)


class Poller:
    """Takes over the worklist of one source, again and again."""

    def __init__(
        self,
        source: PollSource,
        *,
        engine: Engine,
        zone: ZoneInfo,
        every: timedelta,
        stopping: threading.Event,
    ) -> None:
        self._source = source
        self._engine = engine
        self._zone = zone
        self._every = every
        self._stopping = stopping
        self._title = source.destination.ae_title
        self._thread = threading.Thread(target=self._run, name=f"poll {self._title}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, patience: float) -> None:
        """End, for when `stopping` is set; a poll that takes longer is left to itself, for each
        order is taken whole or not at all."""
        self._thread.join(patience)

    def _run(self) -> None:
        while not self._stopping.wait(min(_LOOK_SECONDS, self._every.total_seconds())):
            try:
                self._poll_if_due()
            except TransientError as error:
                log.warning("poll_waits", error=type(error).__name__)
            # The thread's door: without it nobody would poll any more.
            except Exception:
                log.exception("poll_failed")

    def _poll_if_due(self) -> None:
        """Raises `IndexUnavailable`."""
        with transaction(self._engine) as connection:
            if not claim_poll(connection, self._title, now=datetime.now(UTC), lease=_LEASE):
                return
        failure: str | None = None
        try:
            now = datetime.now(self._zone)
            polled = ask_worklist(self._source, now=now)
            outcomes = take_over(self._engine, self._source, polled, now=now)
        except IndexUnavailable:
            raise
        except GantryError as error:
            failure = str(error)
            log.warning("poll_refused", source=self._title, reason=failure)
        else:
            for outcome, number in outcomes.items():
                metrics.POLLED.labels(self._title, outcome.value).inc(number)
        metrics.POLLS.labels(self._title, "done" if failure is None else "failed").inc()
        now = datetime.now(UTC)
        with transaction(self._engine) as connection:
            poll_ended(connection, self._title, now=now, due_at=now + self._every, failure=failure)


def pollers(settings: Settings, *, engine: Engine, stopping: threading.Event) -> list[Poller]:
    """A poller for each source of the settings."""
    known = destinations(settings)
    charsets = {partner.ae_title: partner.charset for partner in settings.partners}
    return [
        Poller(
            PollSource(
                destination=known[poll.ae_title],
                timeouts=destination_timeouts(settings),
                partition=settings.hl7.partition,
                charset=charsets[poll.ae_title],
                ahead=poll.days,
                cancels=poll.gone == "cancel",
            ),
            engine=engine,
            zone=settings.zone,
            every=poll.every,
            stopping=stopping,
        )
        for poll in settings.worklist.polls
    ]

"""Tells others of events: a thread for each of them, so that one that is dead delays nobody else.

    claim a turn ──▶ what stands aside and is due ──▶ the feed from its place on ──▶ end the turn

What is not taken stands aside, with what else happens to its study; a system that takes nothing is
left alone for a while.
"""

import random
import threading
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.engine import Connection, Engine

from gantry_dimse.peer_errors import Interrupted
from gantry_domain.deliveries import RetryPolicy
from gantry_domain.events import Event
from gantry_domain.telling import Answer, Outcome
from gantry_runtime.logs import get_logger
from gantry_runtime.settings import Settings
from gantry_stores.index import subscribers as rows
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.events import events_after, publish
from gantry_stores.index.subscribers import Turn, TurnLost
from gantry_worker import subscriber_metrics as metrics
from gantry_worker.availability_teller import availability_subscriptions
from gantry_worker.due_threads import DueThreads
from gantry_worker.status_teller import status_subscriptions
from gantry_worker.subscription import Subscription, Teller
from gantry_worker.webhook_teller import webhook_subscriptions

log = get_logger(__name__)

_PAGE = 100
_LEASE_TO_SPARE = timedelta(seconds=10)
# So many events in a row that are not taken: then it is not about the events.
_MOST_IN_A_ROW = 3
# What stands aside is looked through for each event.
_MOST_ASIDE = 1000
_MOST_CONNECTIONS = 8
_NEVER = timedelta()


class Subscribers:
    """The threads that do so in one process."""

    def __init__(self, settings: Settings, *, stopping: threading.Event) -> None:
        """Raises `ConfigurationError` where a secret is missing."""
        self._subscriptions = [
            *webhook_subscriptions(settings),
            *availability_subscriptions(settings),
            *status_subscriptions(settings),
        ]
        self._stopping = stopping
        self._policy = settings.forward.retry_policy()
        self._engine: Engine = make_engine(
            settings.database_url,
            pool_size=min(1 + len(self._subscriptions), _MOST_CONNECTIONS),
            application_name="gantry-subscribers",
        )
        self._tellers = {each.name: each.teller(self._engine) for each in self._subscriptions}
        self._added = False
        works = {each.name: partial(self._take_turn, each) for each in self._subscriptions}
        self._threads = DueThreads(
            {"numbering": self._number, **works} if works else {},
            stopping=stopping,
            failed=metrics.FAILURES.inc,
        )

    def start(self) -> None:
        """Begin."""
        self._threads.start()

    def join(self, seconds: float) -> bool:
        """Wait for the threads, which end once they shall stop; whether all have."""
        joined = self._threads.join(seconds)
        if not joined:
            for teller in self._tellers.values():
                teller.interrupt()
            joined = self._threads.join(seconds)
        self._engine.dispose()
        return joined

    def measure(self) -> None:
        """Say how far each of them is. Raises `IndexUnavailable`."""
        if not self._subscriptions:
            return
        with transaction(self._engine) as connection:
            lines = rows.list_subscribers(connection, self._tellers)
        now = datetime.now(UTC)
        for line in lines:
            behind = now - line.behind if line.behind else timedelta()
            metrics.BEHIND_SECONDS.labels(line.name).set(max(0.0, behind.total_seconds()))
            metrics.PAUSED.labels(line.name).set(line.paused_at is not None)
            metrics.ASIDE.labels(line.name, "aside").set(line.aside)
            metrics.ASIDE.labels(line.name, "refused").set(line.refused)

    def _number(self) -> bool:
        """Give what has happened its numbers; others do so too, but not as often."""
        if not self._added:
            with transaction(self._engine) as connection:
                rows.add_subscribers(connection, self._tellers)
            self._added = True
        publish(self._engine)
        return False

    def _take_turn(self, subscription: Subscription) -> bool:
        lease = subscription.longest + _LEASE_TO_SPARE
        with transaction(self._engine) as connection:
            turn = rows.claim_turn(connection, subscription.name, lease=lease)
        if turn is None:
            return False
        telling = _Telling(
            subscription,
            turn,
            engine=self._engine,
            teller=self._tellers[subscription.name],
            policy=self._policy,
            stopping=self._stopping,
        )
        try:
            telling.run()
        except TurnLost:
            log.info("turn_lost", subscriber=subscription.name)
        except Interrupted:
            telling.end()
        return True


class _Away(Exception):
    """It takes nothing now."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


class _Telling:
    """One turn: a page of events."""

    def __init__(
        self,
        subscription: Subscription,
        turn: Turn,
        *,
        engine: Engine,
        teller: Teller,
        policy: RetryPolicy,
        stopping: threading.Event,
    ) -> None:
        self._subscription = subscription
        self._turn = turn
        self._engine = engine
        self._teller = teller
        self._policy = policy
        self._stopping = stopping
        self._in_a_row = 0
        self._taken = False

    def run(self) -> None:
        """Tell what there is. Raises `TurnLost` and `Interrupted`."""
        try:
            self._tell_aside()
            self._tell_feed()
        except _Away as away:
            self._leave_alone(away.answer)
            return
        finally:
            self._teller.close()
        self.end()

    def end(self) -> None:
        """Leave the rest to whoever comes next."""
        with transaction(self._engine) as connection:
            rows.end_turn(connection, self._turn)

    def _tell_aside(self) -> None:
        with transaction(self._engine) as connection:
            lost = rows.forget_gone(connection, self._turn)
            due = rows.due_aside(connection, self._turn, limit=_PAGE)
        self._count_lost(lost)
        for each in due:
            if self._stopping.is_set():
                return
            answer = self._tell(each.event)
            with transaction(self._engine) as connection:
                if answer is None or answer.outcome is Outcome.TAKEN:
                    rows.aside_taken(connection, self._turn, each.event)
                else:
                    self._set_aside(connection, each.event, answer, each.attempts + 1, each.age)
            if self._too_many_in_a_row(answer):
                return  # what is new may be taken all the same

    def _tell_feed(self) -> None:
        turn = self._turn
        self._in_a_row = 0
        if turn.position < turn.removed_until:
            self._count_lost(1)
        position = max(turn.position, turn.removed_until)
        events = events_after(
            self._engine, position, until=turn.last, sight=self._subscription.sight, limit=_PAGE
        )
        with transaction(self._engine) as connection:
            aside = rows.studies_aside(connection, turn, events)
        for event in events:
            if self._stopping.is_set():
                return
            if event.happening.kind not in self._subscription.kinds:
                continue
            if event.happening.StudyInstanceUID in aside:
                # It waits for what happened before; so it has not failed, and is due after that.
                with transaction(self._engine) as connection:
                    rows.set_aside(
                        connection, turn, event, attempts=0, reason=None, delay=timedelta()
                    )
                continue
            answer = self._tell(event)
            later = answer is not None and answer.outcome is Outcome.LATER
            if answer is not None and later and turn.aside >= _MOST_ASIDE:
                raise _Away(answer)
            with transaction(self._engine) as connection:
                if answer is None or answer.outcome is Outcome.TAKEN:
                    rows.move_on(connection, turn, event.id, told=answer is not None)
                else:
                    self._set_aside(connection, event, answer, 1, _NEVER)
            if later:
                aside.add(event.happening.StudyInstanceUID)
            if answer is not None and self._too_many_in_a_row(answer):
                raise _Away(answer)
        last = events[-1].id if len(events) == _PAGE else turn.last
        with transaction(self._engine) as connection:
            rows.move_on(connection, turn, last, told=False)

    def _tell(self, event: Event) -> Answer | None:
        """What it says. Raises `_Away` where nothing is settled by that."""
        answer = self._teller.tell(event)
        outcome = "skipped" if answer is None else answer.outcome.value
        metrics.TOLD.labels(self._subscription.name, outcome).inc()
        if answer is not None and answer.outcome is Outcome.AWAY:
            raise _Away(answer)
        if answer is not None and answer.outcome is Outcome.TAKEN:
            self._taken = True
        return answer

    def _set_aside(
        self,
        connection: Connection,
        event: Event,
        answer: Answer,
        attempts: int,
        age: timedelta,
    ) -> None:
        reason, refused = answer.reason, answer.outcome is Outcome.REFUSED
        if not refused and age >= self._policy.give_up_after:
            reason, refused = f"gave up: {reason}", True
            metrics.TOLD.labels(self._subscription.name, "given_up").inc()
        delay = answer.wait or self._policy.delay(attempts, random.random())  # noqa: S311 - no secret
        rows.set_aside(
            connection,
            self._turn,
            event,
            attempts=attempts,
            reason=reason,
            delay=delay,
            refused=refused,
        )
        log.warning(
            "event_not_taken",
            subscriber=self._subscription.name,
            event_id=event.id,
            reason=reason,
            refused=refused,
        )

    def _too_many_in_a_row(self, answer: Answer | None) -> bool:
        if answer is not None:
            self._in_a_row = self._in_a_row + 1 if answer.outcome is Outcome.LATER else 0
        return self._in_a_row >= _MOST_IN_A_ROW

    def _leave_alone(self, answer: Answer) -> None:
        failures = 1 if self._taken else self._turn.failures + 1
        wait = answer.wait or self._policy.delay(failures, random.random())  # noqa: S311 - no secret
        with transaction(self._engine) as connection:
            rows.leave_alone(connection, self._turn, reason=answer.reason, wait=wait)
        log.warning(
            "subscriber_away",
            subscriber=self._subscription.name,
            attempts=failures,
            reason=answer.reason,
        )

    def _count_lost(self, number: int) -> None:
        if number:
            metrics.MISSED.labels(self._subscription.name).inc()
            log.error("events_missed", subscriber=self._subscription.name)

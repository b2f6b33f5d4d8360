"""What each task does. A task may run twice, die anywhere, and find any store away."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gantry_archive.completing import complete_performed, complete_studies, known_pauses
from gantry_archive.deleting import purge_deleted, restore_deleted
from gantry_archive.duplicates import purge_duplicates
from gantry_archive.frame_places import find_frames
from gantry_archive.indexing import BatchResult
from gantry_archive.judging import judge_studies
from gantry_archive.rejudging import recall_changed
from gantry_archive.sweep import sweep
from gantry_domain.completeness import QuietTimes
from gantry_domain.decisions import DecisionKind
from gantry_domain.duplicates import ObjectState
from gantry_domain.errors import TransientError
from gantry_domain.keys import received_at
from gantry_domain.policies.findings import VerdictKind
from gantry_domain.receipts import Receipt, decode_receipts
from gantry_runtime.logs import get_logger
from gantry_stores.index.census import (
    decisions_by_kind,
    held_by_rule,
    objects_by_state,
    studies_by_verdict,
)
from gantry_stores.index.commitments import note_caught_up
from gantry_stores.index.database import transaction
from gantry_stores.index.events import publish, remove_old
from gantry_stores.index.hours import open_hours
from gantry_stores.index.loose_names import fill_beginnings
from gantry_stores.index.quiet import note_all_indexed
from gantry_stores.index.suspects import acquit_indexed, count_suspects
from gantry_stores.index.verdicts import count_waiting
from gantry_stores.queue.names import INDEX_QUEUE, LONGEST_TASK_SECONDS, QUEUES
from gantry_worker import metrics
from gantry_worker.workshop import Workshop

log = get_logger(__name__)

# How long a batch waits for a store that is away before it goes back to the broker.
PATIENCE_SECONDS = LONGEST_TASK_SECONDS * 0.6
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0

# Messages that the broker keeps for us while a store is away; more are left to the sweep.
MOST_WAITING_MESSAGES = 2000
# The sweep adds to the queue only while it is shorter than this.
_SHORT_QUEUE = 50
_SWEEP_SECONDS = LONGEST_TASK_SECONDS * 0.5
_FRAMES_SECONDS = LONGEST_TASK_SECONDS * 0.5
_DELETIONS_SECONDS = LONGEST_TASK_SECONDS * 0.25
_COUNTED = 10_000
# Of studies that an older Gantry indexed, at each sweep.
_NAMES = 2000


class GiveBack(Exception):
    """The message goes back to the broker, to be delivered again."""


def index(workshop: Workshop, message: Mapping[str, Any], *, again: bool) -> None:
    """Index the objects of a message of receipts, and judge their studies.

    `again`: the broker delivered it before, perhaps to a process that died of one of the objects.

    Waits a while for a database or store that is away, then raises `GiveBack`; or drops the
    message where too many wait already, for the sweep finds its objects. Raises `UnknownMessage`.
    """
    receipts = decode_receipts(message)
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = _FIRST_PAUSE
    while True:
        try:
            index_receipts(workshop, receipts, again=again)
        except TransientError as error:
            metrics.TASKS_FAILED.labels("index", "transient").inc()
            log.warning("index_waits", receipts=len(receipts), exc_info=error)
            if _overfull(workshop):
                metrics.RECEIPTS_DROPPED.inc(len(receipts))
                return
            if time.monotonic() + pause > deadline or workshop.stopping.wait(pause):
                metrics.RECEIPTS_RETURNED.inc(len(receipts))
                raise GiveBack from error
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            return


def _overfull(workshop: Workshop) -> bool:
    try:
        return workshop.broker.length(INDEX_QUEUE) > MOST_WAITING_MESSAGES
    except TransientError:
        return False


def index_receipts(workshop: Workshop, receipts: Sequence[Receipt], *, again: bool) -> BatchResult:
    """Index objects in batches as configured and judge their studies.

    Raises the transient errors of both stores.
    """
    size = workshop.settings.worker.batch
    result = BatchResult()
    for start in range(0, len(receipts), size):
        began = time.monotonic()
        result = workshop.indexer.index(receipts[start : start + size], again=again)
        _count(result, time.monotonic() - began)
        _judge_now(workshop, result)
    return result


def _count(result: BatchResult, seconds: float) -> None:
    metrics.BATCH_SECONDS.observe(seconds)
    metrics.RETRIES.inc(result.retries)
    now = datetime.now(UTC)
    for object_id, outcome in result.outcomes.items():
        metrics.INDEXED.labels(outcome.state.value).inc()
        metrics.INDEX_LAG_SECONDS.observe(max(0.0, (now - received_at(object_id)).total_seconds()))
    for object_id, reason in result.reasons.items():
        log.warning("object_unreadable", object=str(object_id), reason=reason)


def _judge_now(workshop: Workshop, result: BatchResult) -> None:
    try:
        judge(workshop, sorted(result.study_pks))
    except TransientError as error:
        # They wait for the beat; indexing the batch again would not help.
        log.warning("verdicts_wait", studies=len(result.study_pks), exc_info=error)


def judge(workshop: Workshop, study_pks: Sequence[int] | None = None) -> None:
    """Judge these studies, or all that wait. Raises `IndexUnavailable`."""
    judged = judge_studies(workshop.engine, workshop.policies, study_pks, feed=workshop.feed)
    for verdict, number in judged.verdicts.items():
        metrics.JUDGED.labels(verdict.value).inc(number)
    for finding, number in judged.findings.items():
        metrics.FINDINGS.labels(*finding).inc(number)


def judge_waiting(workshop: Workshop) -> None:
    """Judge all that wait, and what an order or a person changed. Raises `IndexUnavailable`."""
    recall_changed(workshop.engine, feed=workshop.feed)
    judge(workshop)


def run_sweep(workshop: Workshop) -> None:
    """One run of the sweep; what it finds goes to the index queue, as long as that is short.

    What it learns of objects that wait for their row tells which studies are complete.

    Raises the transient errors of the stores and the broker.
    """
    deadline = time.monotonic() + _SWEEP_SECONDS

    def hand_over(receipts: Sequence[Receipt]) -> bool:
        while workshop.broker.length(INDEX_QUEUE) >= _SHORT_QUEUE:
            if time.monotonic() > deadline or workshop.stopping.wait(0.1):
                return False
        workshop.broker.publish(receipts)
        metrics.SWEPT.inc(len(receipts))
        return True

    settings = workshop.settings.sweep
    swept = sweep(
        workshop.store,
        workshop.engine,
        hand_over=hand_over,
        after=settings.after,
        limit=settings.limit,
        stopping=workshop.stopping,
    )
    if swept is None:
        return
    with transaction(workshop.engine) as connection:
        acquit_indexed(connection)
    filled = fill_beginnings(workshop.engine, limit=_NAMES)
    if filled:
        log.info("names_filled", studies=filled)
    if swept.all_indexed_until is not None:
        waits = (datetime.now(UTC) - swept.all_indexed_until).total_seconds()
        metrics.OLDEST_UNINDEXED_SECONDS.set(max(0.0, waits) if swept.missing else 0.0)
        completed = complete_studies(
            workshop.engine,
            _quiet_times(workshop),
            all_indexed_until=swept.all_indexed_until,
        )
        metrics.COMPLETED.inc(completed)
        with transaction(workshop.engine) as connection:
            note_caught_up(connection, swept.all_indexed_until)
            note_all_indexed(connection, swept.all_indexed_until)
    metrics.SWEEPS.inc()
    metrics.HOURS_CLOSED.inc(swept.closed)
    metrics.STRANGE_KEYS.set(swept.strange)
    if swept.found or swept.closed:
        log.info("swept", found=swept.found, closed=swept.closed, more=swept.more)


def _quiet_times(workshop: Workshop) -> QuietTimes:
    partners = [partner.ae_title for partner in workshop.settings.partners]
    return workshop.settings.complete_after.quiet_times(partners)


def purge(workshop: Workshop) -> None:
    """Purge what others hold byte for byte, and what was deleted long enough ago; bring back what
    was restored. Raises the transient errors of both stores.
    """
    purged = purge_duplicates(workshop.store, workshop.engine)
    metrics.PURGED.inc(purged.objects)
    metrics.PURGED_BYTES.inc(purged.bytes)
    restored = restore_deleted(
        workshop.store, workshop.engine, rules=workshop.rules, seconds=_DELETIONS_SECONDS
    )
    judge(workshop, sorted(restored.study_pks))
    gone = purge_deleted(
        workshop.store,
        workshop.engine,
        after=workshop.settings.delete.purge_after,
        seconds=_DELETIONS_SECONDS,
    )
    metrics.DELETED_PURGED.inc(gone.purged)
    metrics.PURGED_BYTES.inc(gone.purged_bytes)


def publish_events(workshop: Workshop) -> None:
    """Number what happened, and remove what is too old. Raises `IndexUnavailable`."""
    publish(workshop.engine)
    remove_old(workshop.engine, keep=workshop.settings.events.keep)


def complete(workshop: Workshop) -> None:
    """Complete what has all that its modality told of. Raises `IndexUnavailable`."""
    longest = workshop.settings.complete_after.longest
    performed = complete_performed(workshop.engine, longest=longest)
    metrics.COMPLETED.inc(performed.complete)
    metrics.PERFORMED_GIVEN_UP.inc(performed.given_up)


def frames(workshop: Workshop) -> None:
    """Find the frames of objects whose header does not tell where they are.

    Raises the transient errors of both stores.
    """
    deadline = time.monotonic() + _FRAMES_SECONDS

    def go_on() -> bool:
        return time.monotonic() < deadline and not workshop.stopping.is_set()

    metrics.FRAMES_FOUND.inc(find_frames(workshop.store, workshop.engine, go_on=go_on))


def measure(workshop: Workshop) -> None:
    """Set the gauges. Raises the transient errors of the index and the broker."""
    with transaction(workshop.engine) as connection:
        states = objects_by_state(connection)
        verdicts = studies_by_verdict(connection)
        waiting = count_waiting(connection, limit=_COUNTED)
        held = held_by_rule(connection)
        decided = decisions_by_kind(connection)
        hours = open_hours(connection)
        metrics.SUSPECTS.set(count_suspects(connection))
    for state in ObjectState:
        metrics.OBJECTS.labels(state.value).set(states[state])
    for verdict in VerdictKind:
        metrics.STUDIES.labels(verdict.value).set(verdicts[verdict])
    metrics.STUDIES_WAITING.set(waiting)
    metrics.OPEN_HOURS.set(len(hours))
    now = datetime.now(UTC)
    for rule in {section.rule for section in workshop.settings.policies} | held.keys():
        number, since = held.get(rule, (0, now))
        metrics.HELD.labels(rule).set(number)
        metrics.OLDEST_HELD_SECONDS.labels(rule).set(max(0.0, (now - since).total_seconds()))
    for kind in DecisionKind:
        metrics.DECISIONS.labels(kind.value).set(decided.get(kind.value, 0))
    oldest = min(hours, default=now)
    metrics.OLDEST_OPEN_HOUR_SECONDS.set(max(0.0, (now - oldest).total_seconds()))
    quiet = _quiet_times(workshop)
    for title, pauses in known_pauses(workshop.engine, quiet).items():
        learned = pauses.quiet_time(at_least=quiet.learned_at_least)
        if learned is not None:
            metrics.LEARNED_QUIET_SECONDS.labels(title).set(learned.total_seconds())
    for queue in QUEUES:
        metrics.QUEUE_LENGTH.labels(queue).set(workshop.broker.length(queue))

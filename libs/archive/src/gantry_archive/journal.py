"""What people decided, written into the object store before it takes effect, and read again."""

from collections.abc import Iterator
from dataclasses import dataclass

from gantry_domain.decisions import StudyDecision, Undoing
from gantry_domain.deletions import Deletion, Restoration
from gantry_domain.journal import (
    JOURNAL,
    Decision,
    UnknownDecision,
    decode_decision,
    encode_decision,
    journal_key,
)
from gantry_runtime.logs import get_logger
from gantry_stores.objects import ObjectExists, ObjectStore

log = get_logger(__name__)


def write_decision(store: ObjectStore, decision: Decision) -> None:
    """Write an entry; the same again changes nothing. Raises the transient errors of the store."""
    writer = store.create(journal_key(decision.id))
    try:
        writer.write([encode_decision(decision)])
        writer.commit()
    except ObjectExists:
        pass
    finally:
        writer.abort()


@dataclass(frozen=True, slots=True)
class Lasting:
    """What of the journal still stands, or is to be told: deletions that nobody took back, and all
    decisions of studies with those that were undone. Each in its order."""

    deletions: list[Deletion]
    decisions: list[StudyDecision]
    undone: list[Undoing]


def read_journal(store: ObjectStore) -> Lasting:
    """What people decided. Raises the transient errors of the store."""
    deletions: dict[object, Deletion] = {}
    decisions: list[StudyDecision] = []
    undone: list[Undoing] = []
    for decision in _decisions(store):
        match decision:
            case Deletion():
                deletions[decision.id] = decision
            case Restoration():
                deletions.pop(decision.deletion_id, None)
            case StudyDecision():
                decisions.append(decision)
            case Undoing():
                undone.append(decision)
    return Lasting(
        sorted(deletions.values(), key=lambda each: each.id),
        sorted(decisions, key=lambda each: each.id),
        sorted(undone, key=lambda each: each.id),
    )


def _decisions(store: ObjectStore) -> Iterator[Decision]:
    for stat in store.list(JOURNAL):
        try:
            yield decode_decision(stat.key, store.read(stat.key))
        except UnknownDecision:
            log.error("strange_journal_entry", key=stat.key)

"""What people decided, written into the object store before it takes effect, and read again."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from gantry_domain.decisions import DecisionKind, StudyDecision, Undoing
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
    """What of the journal still stands, or is to be told: all decisions of studies but moves, with
    those that were undone; and what has to be done in its turn among the objects: deletions that
    nobody took back, moves of series and their undoing. Each in its order."""

    decisions: list[StudyDecision]
    undone: list[Undoing]
    turns: list["Turn"]


@dataclass(frozen=True, slots=True)
class MovedBack:
    """A move that was undone, and by whom."""

    move: StudyDecision
    undoing: Undoing

    @property
    def id(self) -> UUID:
        """When it was."""
        return self.undoing.id


Turn = Deletion | StudyDecision | MovedBack


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
    moves = {each.id: each for each in decisions if each.kind is DecisionKind.MOVE}
    back = [
        MovedBack(moves[each.decision_id], each) for each in undone if each.decision_id in moves
    ]
    turns: list[Turn] = [*deletions.values(), *moves.values(), *back]
    return Lasting(
        sorted((each for each in decisions if each.id not in moves), key=lambda each: each.id),
        sorted(
            (each for each in undone if each.decision_id not in moves), key=lambda each: each.id
        ),
        sorted(turns, key=lambda each: each.id),
    )


def _decisions(store: ObjectStore) -> Iterator[Decision]:
    for stat in store.list(JOURNAL):
        try:
            yield decode_decision(stat.key, store.read(stat.key))
        except UnknownDecision:
            log.error("strange_journal_entry", key=stat.key)

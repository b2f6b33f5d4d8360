"""What a person decides of a study that the rules do not let through, and what of it stands.

Decisions add up, and only the last of those that stand can be undone: the one before it then says
again what it said.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from gantry_domain.policies.standing import Standing


class DecisionKind(StrEnum):
    """What was decided."""

    LINK = "link"
    """This is the study's order, whatever its numbers say. Its keys are compared all the same."""
    ACCEPT = "accept"
    """The faults that it has now are no reason to hold it; others are."""
    RELEASE = "release"
    """It is needed at once: forwarded and shown, whatever the rules say now or later."""
    REFUSE = "refuse"
    """It is kept, hidden and not forwarded."""
    CORRECT = "correct"
    """Values of its patient or its own are others than it was sent with."""
    MOVE = "move"
    """Series of another study are its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDecision:
    """A decision of a study, at an aware moment, by whom and why.

    `id` is a UUID of version 7. `order_uid`, of a link: the Study Instance UID of the order;
    `accepted`, of an acceptance: the faults by rule and code; `corrected`, of a correction: the new
    values by keyword, and so of a move, which is one of the study that has the `series` from then
    on; `moved_from`: the study that they were in.
    """

    id: UUID
    partition: str
    StudyInstanceUID: str
    kind: DecisionKind
    decided_at: datetime
    decided_by: str
    reason: str
    order_uid: str = ""
    accepted: frozenset[tuple[str, str]] = frozenset()
    corrected: Mapping[str, str] = field(default_factory=dict, repr=False)
    moved_from: str = ""
    series: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """Somebody took a decision back."""

    id: UUID
    decision_id: UUID
    undone_at: datetime
    undone_by: str
    reason: str


def standing_of(decisions: Iterable[StudyDecision]) -> Standing:
    """What stands of a study, from its decisions that nobody took back, whatever their order.

    Of links, and of releases and refusals, the last one counts.
    """
    linked, released, refused = "", False, False
    accepted: set[tuple[str, str]] = set()
    for decision in sorted(decisions, key=lambda each: each.id):
        match decision.kind:
            case DecisionKind.LINK:
                linked = decision.order_uid
            case DecisionKind.ACCEPT:
                accepted |= decision.accepted
            case DecisionKind.RELEASE:
                released, refused = True, False
            case DecisionKind.REFUSE:
                released, refused = False, True
            case DecisionKind.CORRECT | DecisionKind.MOVE:
                pass  # the rules are given the values themselves
    return Standing(linked=linked, accepted=frozenset(accepted), released=released, refused=refused)

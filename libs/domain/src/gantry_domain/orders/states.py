"""The states of a scheduled step, what may follow on what, and what performed steps make of it."""

from collections.abc import Iterable
from enum import StrEnum

from gantry_domain.json_model import Element


class StepState(StrEnum):
    """The states of a step."""

    SCHEDULED = "scheduled"
    ARRIVED = "arrived"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    DISCONTINUED = "discontinued"
    CANCELLED = "cancelled"


S = StepState

OPEN = frozenset((S.SCHEDULED, S.ARRIVED, S.IN_PROGRESS))
"""Those that are not over."""

TO_DO = frozenset((S.SCHEDULED, S.ARRIVED))
"""Those that a worklist shows unless it is asked for others."""

STATUSES = {S.SCHEDULED: "SCHEDULED", S.ARRIVED: "ARRIVED", S.IN_PROGRESS: "STARTED"}
"""The defined terms of (0040,0020), PS3.3 C.4.10, of states that are not over."""

_MAY_FOLLOW: dict[StepState, frozenset[StepState]] = {
    S.SCHEDULED: frozenset((S.ARRIVED, S.IN_PROGRESS, S.COMPLETED, S.DISCONTINUED, S.CANCELLED)),
    S.ARRIVED: frozenset((S.SCHEDULED, S.IN_PROGRESS, S.COMPLETED, S.DISCONTINUED, S.CANCELLED)),
    S.IN_PROGRESS: frozenset((S.COMPLETED, S.DISCONTINUED)),
    S.COMPLETED: frozenset(),
    S.DISCONTINUED: frozenset(),
    # A cancellation that came after all, or a discontinuation, is no news.
    S.CANCELLED: frozenset((S.DISCONTINUED,)),
}


def may_become(present: StepState, wanted: StepState) -> bool:
    """Whether the department's system may bring a step from one state to the other."""
    return present is wanted or wanted in _MAY_FOLLOW[present]


class Performed(StrEnum):
    """The states of a performed procedure step (PS3.4 F.7.2.1, (0040,0252))."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


_WRONG_ENTRY = ("110514", "DCM")  # Incorrect worklist entry selected, PS3.16 CID 9300


def wrong_entry(attributes: dict[str, Element]) -> bool:
    """Whether a discontinued step was begun by mistake: then it is still to be done."""
    for item in attributes.get("00400281", {}).get("Value", ()):
        code, scheme = (
            next(iter((item or {}).get(tag, {}).get("Value", ())), None)
            for tag in ("00080100", "00080102")
        )
        if (code, scheme) == _WRONG_ENTRY:
            return True
    return False


def state_after(present: StepState, performed: Iterable[tuple[Performed, bool]]) -> StepState:
    """The state of a step, given what was performed for it: its states, and whether by mistake.

    A step that the department cancelled stays so unless somebody performs it nevertheless.
    """
    states = {state for state, mistaken in performed if not mistaken}
    if Performed.IN_PROGRESS in states:
        return S.IN_PROGRESS
    if Performed.COMPLETED in states:
        return S.COMPLETED
    if Performed.DISCONTINUED in states:
        return S.DISCONTINUED
    return S.SCHEDULED if present is S.IN_PROGRESS else present

"""Judges studies: what the policies say of them, written for the revision that was looked at.

A study that nobody judged is invisible. A study that changed while it was judged keeps waiting and
is judged again, so that several workers, or one that is killed, end in the same verdict.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy.engine import Engine

from gantry_domain.policies.findings import RuleOutcome, VerdictKind, decide
from gantry_stores.index.database import transaction
from gantry_stores.index.verdicts import StudyVerdict, waiting_studies, write_verdicts

_AT_ONCE = 200


@dataclass(slots=True)
class Judged:
    """How many studies got which verdict, and how many changed meanwhile and wait again."""

    verdicts: Counter[VerdictKind] = field(default_factory=Counter)
    changed: int = 0


def judge_studies(
    engine: Engine, study_pks: Iterable[int] | None = None, *, limit: int = 10_000
) -> Judged:
    """Judge those of the studies that wait for it (all that wait if None), at most `limit`.

    Raises `IndexUnavailable`.
    """
    judged = Judged()
    pks = None if study_pks is None else sorted(set(study_pks))
    while limit > 0 and pks != []:
        with transaction(engine) as connection:
            asked = None if pks is None else pks[:_AT_ONCE]
            waiting = waiting_studies(connection, pks=asked, limit=min(limit, _AT_ONCE))
        outcomes: tuple[RuleOutcome, ...] = ()  # no rules yet
        verdicts = []
        for study in waiting:
            verdict = decide(outcomes, was_visible=study.visible)
            verdicts.append(StudyVerdict(study.pk, study.revision, verdict.kind, verdict.visible))
        with transaction(engine) as connection:
            written = write_verdicts(connection, verdicts)
        judged.verdicts.update(verdict.kind for verdict in verdicts if verdict.pk in written)
        judged.changed += len(verdicts) - len(written)
        limit -= len(waiting)
        if pks is not None:
            pks = pks[_AT_ONCE:]
        elif len(waiting) < _AT_ONCE:
            break
    return judged

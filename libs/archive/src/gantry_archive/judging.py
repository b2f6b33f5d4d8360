"""Judges studies: what the policies say of them, written for the revision that was looked at.

A study that nobody judged is invisible. A study that changed while it was judged keeps waiting and
is judged again, so that several workers, or one that is killed, end in the same verdict. So does a
study that was judged by other policies than those in force.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy.engine import Engine

from gantry_domain.policies.findings import StudyFinding, VerdictKind
from gantry_domain.policies.rules import PolicySet
from gantry_stores.index.database import one_statement, transaction
from gantry_stores.index.evidence import OrderFeed
from gantry_stores.index.verdicts import StudyVerdict, waiting_studies, write_verdicts

_AT_ONCE = 200


@dataclass(slots=True)
class Judged:
    """How many studies got which verdict and which findings (by rule, code and severity), and how
    many changed meanwhile and wait again."""

    verdicts: Counter[VerdictKind] = field(default_factory=Counter)
    findings: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    changed: int = 0


def judge_studies(
    engine: Engine,
    policies: PolicySet,
    study_pks: Iterable[int] | None = None,
    *,
    limit: int = 10_000,
    feed: OrderFeed | None = None,
) -> Judged:
    """Judge those of the studies that wait for it (all that wait if None), at most `limit`.

    `feed` is that of orders; without one no study is held for having no order.

    Raises `IndexUnavailable`.
    """
    judged = Judged()
    pks = None if study_pks is None else sorted(set(study_pks))
    while limit > 0 and pks != []:
        # Those that were just indexed are found by their keys, all others by a search with a limit.
        looking = transaction if pks is None else one_statement
        with looking(engine) as connection:
            waiting = waiting_studies(
                connection,
                policies=policies.fingerprint,
                pks=None if pks is None else pks[:_AT_ONCE],
                limit=min(limit, _AT_ONCE),
                looks=policies.looks_at,
                feed=feed,
            )
        verdicts = [
            StudyVerdict(
                study.pk,
                study.revision,
                study.evidence_revision,
                policies.judge(study.evidence, was_visible=study.visible),
            )
            for study in waiting
        ]
        with transaction(engine) as connection:
            written = write_verdicts(connection, verdicts, policies=policies.fingerprint)
        for each in verdicts:
            if each.pk in written:
                judged.verdicts[each.verdict.kind] += 1
                judged.findings.update(map(_kind, each.verdict.findings))
        judged.changed += len(verdicts) - len(written)
        limit -= len(waiting)
        if pks is not None:
            pks = pks[_AT_ONCE:]
        elif not waiting:
            break
    return judged


def _kind(finding: StudyFinding) -> tuple[str, str, str]:
    return finding.rule, finding.code, finding.severity.value

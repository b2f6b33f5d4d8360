"""What other rules would say of the studies that are here: counted, with a few examples.

Nothing is written, and nothing but a page of studies is in memory.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.engine import Engine

from gantry_domain.policies.findings import VerdictKind
from gantry_domain.policies.rules import PolicySet
from gantry_stores.index.database import transaction
from gantry_stores.index.evidence import OrderFeed
from gantry_stores.index.judged_studies import JudgedStudy, page_of_studies

_AT_ONCE = 500
_EXAMPLES = 20

Change = tuple[VerdictKind | None, VerdictKind]
"""The verdict that a study has, and the one that it would have had from the first."""


@dataclass(slots=True)
class Replay:
    """How many studies were looked at, verdicts before and after, faults by rule and code, studies
    that clinicians would not have seen and see, and some of those whose verdict would differ."""

    studies: int = 0
    verdicts: Counter[Change] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    hidden: int = 0
    examples: list[tuple[JudgedStudy, VerdictKind]] = field(default_factory=list)


def replay(
    engine: Engine,
    policies: PolicySet,
    *,
    since: datetime | None = None,
    feed: OrderFeed | None = None,
    progress: Callable[[Replay], None] = lambda _done: None,
) -> Replay:
    """Judge every study that got an image since an aware moment, as if nobody had judged it before.

    Raises `IndexUnavailable`.
    """
    done = Replay()
    after = 0
    while True:
        with transaction(engine) as connection:
            page = page_of_studies(
                connection,
                after=after,
                since=since,
                limit=_AT_ONCE,
                looks=policies.looks_at,
                feed=feed,
            )
        if not page:
            return done
        for study in page:
            _count(done, study, policies)
        after = page[-1].pk
        progress(done)


def _count(done: Replay, study: JudgedStudy, policies: PolicySet) -> None:
    verdict = policies.judge(study.evidence, was_visible=False)
    done.studies += 1
    done.verdicts[study.verdict, verdict.kind] += 1
    done.faults.update(
        (finding.rule, finding.code) for finding in verdict.findings if finding.weighs
    )
    done.hidden += study.visible and not verdict.visible
    if verdict.kind is not study.verdict and len(done.examples) < _EXAMPLES:
        done.examples.append((study, verdict.kind))

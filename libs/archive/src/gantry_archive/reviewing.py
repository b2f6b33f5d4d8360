"""A study as a person sees it who settles what does not match: its orders, and its history."""

from sqlalchemy.engine import Connection

from gantry_domain.policies.side_by_side import (
    Candidate,
    candidates,
    days_to_suggest_from,
    identifiers_to_suggest_by,
)
from gantry_stores.index.decisions import DecisionLine, history
from gantry_stores.index.judged_studies import JudgedStudy, suggested_orders


def review(
    connection: Connection, study: JudgedStudy
) -> tuple[list[Candidate], list[DecisionLine]]:
    """The orders that may be the study's, and all that was decided of it, in order."""
    days = days_to_suggest_from(study.evidence)
    identifiers = identifiers_to_suggest_by(study.evidence)
    suggested = []
    if days is not None and identifiers:
        suggested = suggested_orders(
            connection,
            partition=study.partition,
            identifiers=identifiers,
            first=days[0],
            last=days[1],
        )
    lines = history(connection, partition=study.partition, StudyInstanceUID=study.StudyInstanceUID)
    return candidates(study.evidence, suggested), lines

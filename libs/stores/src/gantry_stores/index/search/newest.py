"""Names that many have are looked for among the newest studies, before all that match are sorted.

PostgreSQL takes the grams of a name for independent of each other, so it expects few studies where
there are thousands, gathers them all, and sorts them to return the first hundred.
"""

from collections.abc import Callable

from gantry_domain.attributes import Level
from gantry_domain.query import Key, Names, Query

LOOKED_AT = 1000
"""So many of the newest cost a fifth of what it takes to sort some thousands."""

_LARGEST_PAGE = 250
_SHORT = 4
"""What has more letters is rare enough to be found by its grams."""


def may_be_frequent(query: Query) -> bool:
    """Whether the newest studies with a name are asked for, so short that many may have it."""
    if query.level is not Level.STUDY or query.order or query.page.offset:
        return False
    return query.page.limit <= _LARGEST_PAGE and len(query.keys) == 1 and _is_short(query.keys[0])


def _is_short(key: Key) -> bool:
    if key.inner is not None or key.attribute.keyword != "PatientName":
        return False
    if not isinstance(key.test, Names):
        return False
    groups = (pattern for test in key.test.tests for pattern in test.groups if pattern)
    lengths = [len(piece) for pattern in groups for piece in pattern.fragments()]
    # Of one letter the planner knows how many have it.
    return 1 < max(lengths, default=0) <= _SHORT


def newest_first(
    matches: Callable[[str, str], str], *, seen: str, order: str, limit: str
) -> tuple[str, str]:
    """What stands before the statement, and what finds the matches.

    `matches` writes the search in a table, with a condition more. If the newest studies that are
    `seen` have a whole page of matches, they are its matches; else the whole index is searched.
    """
    some = f"(SELECT * FROM study WHERE {seen} {order} LIMIT {LOOKED_AT}) AS study"
    enough = f"(SELECT count(*) FROM newest) = {limit}"
    before = f"WITH newest AS MATERIALIZED ({matches(some, 'true')}) "
    return before, (
        f"SELECT * FROM newest WHERE {enough} UNION ALL ({matches('study', f'NOT ({enough})')})"
    )

"""What a caller may see, as conditions of a statement."""

from sqlalchemy import ColumnElement, Text, literal_column, or_

from gantry_domain.sight import Sight
from gantry_stores.index.schema import study

# Written into the statement: the index of studies holds what reviewers see, and the planner has to
# know that this is what is asked for.
_HELD: ColumnElement[str] = literal_column("'held'", Text)


def seen(sight: Sight) -> tuple[ColumnElement[bool], ...]:
    """What studies satisfy that are seen."""
    return study.c.partition == sight.partition, shown(held=sight.held)


def shown(*, held: bool) -> ColumnElement[bool]:
    """What studies of any partition satisfy that are seen, with `held` by a reviewer."""
    if not held:
        return study.c.visible
    return or_(study.c.visible, study.c.verdict == _HELD)

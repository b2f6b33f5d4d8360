"""What a caller may see, as conditions of a statement."""

from gantry_domain.sight import Sight
from gantry_stores.index.values import Values


def seen(sight: Sight, values: Values) -> list[str]:
    """What studies satisfy that are seen."""
    return [f"study.partition = {values.text(sight.partition)}", shown(held=sight.held)]


def shown(*, held: bool) -> str:
    """What studies of any partition satisfy that are seen, with `held` by a reviewer.

    Written into the statement: the index of studies holds what reviewers see, and the planner has
    to know that this is what is asked for.
    """
    return "(study.visible OR study.verdict = 'held')" if held else "study.visible"

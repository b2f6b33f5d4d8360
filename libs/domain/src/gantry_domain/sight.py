"""Which studies a caller may see."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sight:
    """The visible studies of a partition; with `held`, those too that are held out of sight.

    It is made where a question comes in, and every search takes it. A study that nobody has judged
    yet, or that is refused, is seen by nobody.
    """

    partition: str
    held: bool = False

"""How long to wait before something that keeps failing is tried again."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Doubles from `first` to `ceiling` seconds; forgets once a run was `stable` seconds long."""

    first: float = 0.2
    ceiling: float = 30.0
    stable: float = 60.0
    _next: float = field(default=0.0, init=False)

    def after(self, ran_for: float) -> float:
        """The seconds to wait, given how many the last run was up."""
        if ran_for >= self.stable or not self._next:
            self._next = self.first
        delay = self._next
        self._next = min(self.ceiling, self._next * 2)
        return delay

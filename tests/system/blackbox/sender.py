"""What sends all the while a test does something else."""

import threading
from dataclasses import dataclass, field
from typing import Self


@dataclass(kw_only=True)
class Sender:
    """Works in a thread of its own until it is stopped."""

    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> Self:
        """Begins to send."""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Finishes what it is sending."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join(90)
        assert not self._thread.is_alive(), "the sender hangs"

    def _work(self) -> None:
        raise NotImplementedError

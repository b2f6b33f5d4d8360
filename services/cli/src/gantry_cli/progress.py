"""How far a command is: one line that is overwritten in a terminal, elsewhere one now and then."""

import sys
import time

_TERMINAL_SECONDS = 0.2
_OTHERWISE_SECONDS = 2.0


class Progress:
    """Writes to stderr."""

    def __init__(self) -> None:
        self._overwrites = sys.stderr.isatty()
        self._shown = float("-inf")
        self._open = False

    def show(self, text: str) -> None:
        """This is how far it is, if it is time to say so."""
        now = time.monotonic()
        if now - self._shown < (_TERMINAL_SECONDS if self._overwrites else _OTHERWISE_SECONDS):
            return
        self._shown = now
        sys.stderr.write(f"\r\x1b[Kgantry: {text}" if self._overwrites else f"gantry: {text}\n")
        sys.stderr.flush()
        self._open = self._overwrites

    def end(self) -> None:
        """No more will be said."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False

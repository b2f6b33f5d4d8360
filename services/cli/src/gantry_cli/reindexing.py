"""`gantry reindex`: replays the object store into an empty index, and shows how far it is."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gantry_archive.reading import reading_rules
from gantry_archive.reindex import Reindexed, reindex
from gantry_domain.errors import ConfigurationError
from gantry_runtime.settings import Settings
from gantry_stores.index.database import make_engine
from gantry_stores.objects import open_store

_READERS = 4
_SHOW_EVERY = 2.0


def run_reindex(settings: Settings) -> int:
    """Fill the empty index of the settings from their object store; progress goes to stderr.

    :raises GantryError: the index is not empty, there is no store, or one of them went away.
    """
    place = settings.objects_place
    if isinstance(place, Path) and not place.is_dir():
        raise ConfigurationError(f"there is no object store in {place}")
    engine = make_engine(
        settings.database_url, pool_size=_READERS + 1, application_name="gantry-reindex"
    )
    progress = _Progress()
    try:
        with ThreadPoolExecutor(max_workers=_READERS) as readers:
            done = reindex(
                open_store(place),
                engine,
                policies=settings.policy_set,
                progress=progress.show,
                rules=reading_rules(settings.partners),
                readers=readers,
            )
    finally:
        progress.end()
        engine.dispose()
    states = ", ".join(f"{count} {state}" for state, count in sorted(done.states.items()))
    sys.stdout.write(f"{done.objects} objects indexed{f': {states}' if states else ''}\n")
    if done.strange:
        sys.stdout.write(f"{done.strange} files of the store have names that are not ours\n")
    return 0


class _Progress:
    """One line that is overwritten in a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()
        self._overwrites = sys.stderr.isatty()
        self._open = False

    def show(self, done: Reindexed) -> None:
        now = time.monotonic()
        if now - self._shown < (0.2 if self._overwrites else _SHOW_EVERY):
            return
        self._shown = now
        rate = done.objects / (now - self._began)
        line = (
            f"gantry: {done.objects} objects, {done.bytes / 2**20:.0f} MiB, {rate:.0f} per second"
        )
        sys.stderr.write(f"\r\x1b[K{line}" if self._overwrites else f"{line}\n")
        sys.stderr.flush()
        self._open = self._overwrites

    def end(self) -> None:
        if self._open:
            sys.stderr.write("\n")

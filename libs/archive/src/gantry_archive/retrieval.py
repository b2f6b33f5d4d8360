"""What a retrieval is about, and how far it has come: shared by C-MOVE and C-GET."""

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Engine

from gantry_domain.query import Key
from gantry_domain.sight import Sight
from gantry_domain.store_responses import StoreResult
from gantry_domain.sub_operations import SubOperations
from gantry_stores.index.search import Holding, StoredInstance, holdings, instances_matching

# Characters of a list of UIDs whose length has 16 bits in the explicit syntaxes (PS3.5 7.1.2).
_LONGEST_LIST = 0xFFFE


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """The instances that pass all keys and may be seen."""

    engine: Engine
    keys: Sequence[Key]
    sight: Sight

    def holdings(self) -> list[Holding]:
        """What there is. Raises the errors of the index."""
        return holdings(self.engine, self.keys, sight=self.sight)

    def instances(self, classes: Collection[str] | None = None) -> Iterator[StoredInstance]:
        """The instances, of these SOP classes alone; page by page, no transaction in between."""
        return instances_matching(self.engine, self.keys, sight=self.sight, classes=classes)


class Tally:
    """Counts the sub-operations of one retrieval, and names those that failed. Safe for threads.

    What is added while the others are sent may come too, beyond what was `expected`.
    """

    def __init__(self, expected: int) -> None:
        self._lock = threading.Lock()
        self._expected = expected
        self._stored = {result: 0 for result in StoreResult if result.stored}
        self._failed = 0
        self._failed_uids: list[str] = []
        self._length = 0

    def add(self, SOPInstanceUID: str, result: StoreResult) -> None:
        """One has ended."""
        with self._lock:
            if result.stored:
                self._stored[result] += 1
                return
            self._failed += 1
            if self._length + 1 + len(SOPInstanceUID) <= _LONGEST_LIST:
                self._failed_uids.append(SOPInstanceUID)
                self._length += 1 + len(SOPInstanceUID)

    def end(self) -> None:
        """No more will be tried: what is left has failed, as what has gone meanwhile."""
        remaining = self.counts.remaining
        with self._lock:
            self._failed += remaining

    @property
    def counts(self) -> SubOperations:
        """The counts as they are now."""
        with self._lock:
            completed = self._stored[StoreResult.ACCEPTED]
            warning = self._stored[StoreResult.WARNED]
            done = completed + warning + self._failed
            return SubOperations(
                remaining=max(0, self._expected - done),
                completed=completed,
                failed=self._failed,
                warning=warning,
            )

    @property
    def failed_uids(self) -> list[str]:
        """The SOP Instance UIDs that failed: as many as fit into (0008,0058)."""
        with self._lock:
            return list(self._failed_uids)

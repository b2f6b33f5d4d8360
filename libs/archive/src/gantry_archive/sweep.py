"""The sweep: finds objects whose receipt was lost, and closes the hours in which none is.

    oldest open hour ─▶ list its keys ─▶ those without a row, old enough ─▶ hand over
                                     └─▶ none without a row, hour old enough ─▶ closed, for ever

Closed hours are never listed again. The others are listed at each run while they are young, and
ever more seldom as they grow old.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_domain.keys import (
    LONGEST_RECEPTION,
    OBJECTS,
    NotAnObjectKey,
    hour_prefix,
    parse_object_key,
    received_at,
)
from gantry_domain.receipts import Receipt
from gantry_runtime.logs import get_logger
from gantry_stores.index.database import transaction
from gantry_stores.index.hours import (
    OpenHour,
    closed_hours,
    note_look,
    oldest_open_hour,
    open_hours,
    sweep_lock,
    without_row,
)
from gantry_stores.objects import ObjectStat, ObjectStore

log = get_logger(__name__)

HandOver = Callable[[Sequence[Receipt]], bool]
"""Has objects indexed, now or soon; False where no more can be taken at present."""

_HOUR = timedelta(hours=1)
# An open hour is looked at again when this part of its age has passed since the last look.
_SELDOM = 20
_AT_ONCE = 1000
_HANDED_OVER = 100


@dataclass(slots=True)
class Swept:
    """What a run found: objects without a row, those of them that were handed over, hours looked
    at and closed, keys that no one of ours wrote. `more` says that it ended before it was through.

    Every stored object whose reception began before `all_indexed_until` has its row; None if the
    run ended before it knew.
    """

    missing: int = 0
    found: int = 0
    looked: int = 0
    closed: int = 0
    strange: int = 0
    more: bool = False
    all_indexed_until: datetime | None = None


def sweep(
    store: ObjectStore,
    engine: Engine,
    *,
    hand_over: HandOver,
    after: timedelta,
    limit: int,
    now: datetime | None = None,
    stopping: threading.Event | None = None,
) -> Swept | None:
    """One run: hand over at most `limit` objects that are older than `after` and have no row.

    None where another sweep is at work. Raises the transient errors of both stores.
    """
    with sweep_lock(engine) as taken:
        if not taken:
            return None
        run = _Run(store, engine, hand_over, after=after, limit=limit, now=now or datetime.now(UTC))
        run.sweep(stopping or threading.Event())
        return run.swept


class _Run:
    def __init__(
        self,
        store: ObjectStore,
        engine: Engine,
        hand_over: HandOver,
        *,
        after: timedelta,
        limit: int,
        now: datetime,
    ) -> None:
        self._store = store
        self._engine = engine
        self._hand_over = hand_over
        self._after = after
        self._left = limit
        self._now = now
        self.swept = Swept()

    def sweep(self, stopping: threading.Event) -> None:
        with transaction(self._engine) as connection:
            looks = open_hours(connection)
            after_closed = oldest_open_hour(connection)
        # Every hour from the first one on is closed, was looked at, or comes after all of these.
        starts = [*looks, *([after_closed] if after_closed else [])] or self._first_stored_hour()
        start = min(starts, default=None)
        if start is None:
            self.swept.all_indexed_until = self._now
            return
        with transaction(self._engine) as connection:
            closed = closed_hours(connection, start)
        for hour in _hours(start, self._now):
            if hour in closed or not self._due(hour, looks.get(hour)):
                continue
            if stopping.is_set() or self.swept.more:
                self.swept.more = True
                return
            self._look(hour)
        if not self.swept.missing and not self.swept.more:
            self.swept.all_indexed_until = self._now

    def _first_stored_hour(self) -> Iterator[datetime]:
        for stat in self._store.list(OBJECTS):
            object_id = self._object_id(stat)
            if object_id is not None:
                yield received_at(object_id).replace(minute=0, second=0, microsecond=0)
                return

    def _due(self, hour: datetime, last: OpenHour | None) -> bool:
        if last is None or last.missing:
            return True
        age = self._now - hour
        if age > _HOUR + LONGEST_RECEPTION and last.looked_at < hour + _HOUR + LONGEST_RECEPTION:
            return True  # this look may close it
        return self._now - last.looked_at >= max(age - 2 * _HOUR, timedelta()) / _SELDOM

    def _look(self, hour: datetime) -> None:
        """Lists an hour, hands over what lacks a row, and notes or closes it."""
        objects = missing = 0
        for ids in self._listed(hour):
            objects += len(ids)
            with transaction(self._engine) as connection:
                lost = without_row(connection, ids)
            if lost and not self.swept.missing:  # hours and keys come in order of reception
                self.swept.all_indexed_until = received_at(lost[0])
            missing += len(lost)
            self.swept.missing += len(lost)
            self._take([each for each in lost if self._now - received_at(each) > self._after])
            if self.swept.more:
                return  # the rest was not looked at
        close = not missing and self._now > hour + _HOUR + LONGEST_RECEPTION
        with transaction(self._engine) as connection:
            note_look(connection, OpenHour(hour, objects, missing, self._now), close=close)
        self.swept.looked += 1
        self.swept.closed += close

    def _listed(self, hour: datetime) -> Iterator[list[UUID]]:
        ids: list[UUID] = []
        for stat in self._store.list(hour_prefix(hour)):
            object_id = self._object_id(stat)
            if object_id is None:
                continue
            ids.append(object_id)
            if len(ids) == _AT_ONCE:
                yield ids
                ids = []
        if ids:
            yield ids

    def _object_id(self, stat: ObjectStat) -> UUID | None:
        try:
            return parse_object_key(stat.key)
        except NotAnObjectKey:
            self.swept.strange += 1
            if self.swept.strange == 1:  # it is met again at every run
                log.warning("strange_key_in_store", key=stat.key)
            return None

    def _take(self, lost: Sequence[UUID]) -> None:
        while lost:
            part = lost[: min(_HANDED_OVER, self._left)]
            lost = lost[len(part) :]
            if not part or not self._hand_over([Receipt(each) for each in part]):
                self.swept.more = True
                return
            self.swept.found += len(part)
            self._left -= len(part)


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    hour = start
    while hour <= end:
        yield hour
        hour += _HOUR

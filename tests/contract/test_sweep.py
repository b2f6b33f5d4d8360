"""The sweep: what it finds, what it leaves alone, and which hours it never looks at again."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from gantry_archive.indexing import index_batch
from gantry_archive.reading import ReadingRules
from gantry_archive.sweep import sweep
from gantry_domain.keys import (
    LONGEST_RECEPTION,
    first_object_id,
    hour_of,
    new_object_id,
    object_key,
)
from gantry_stores.index.database import transaction
from gantry_stores.index.hours import sweep_lock
from gantry_stores.index.loose_names import fill_beginnings
from gantry_stores.objects import DirectoryStore
from gantry_testkit.stored import image, receipts, rows, stage

HOUR = timedelta(hours=1)
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
AFTER = timedelta(seconds=60)


class Counting(DirectoryStore):
    """Notes what is listed."""

    def __init__(self, folder):
        super().__init__(folder)
        self.listed = []

    def list(self, prefix, *, after=None):
        self.listed.append(prefix)
        return super().list(prefix, after=after)


@pytest.fixture
def store(tmp_path):
    return Counting(tmp_path / "objects")


def received(store, age, now=NOW, number=0):
    """An object whose reception began so long ago."""
    first = first_object_id(now - age)
    return stage(store, image(), object_id=type(first)(int=first.int + number))


def index(sent, store, engine):
    index_batch(receipts(sent), store=store, engine=engine, rules=ReadingRules())


def run(store, engine, *, now=NOW, limit=1000, hand_over=None):
    """A sweep whose finds are indexed at once; returns it and the identifiers it found."""
    found = []

    def take(handed):
        found.extend(receipt.object_id for receipt in handed)
        index_batch(handed, store=store, engine=engine, rules=ReadingRules())
        return True

    swept = sweep(store, engine, hand_over=hand_over or take, after=AFTER, limit=limit, now=now)
    return swept, found


def closed(engine):
    return [row[0] for row in rows(engine, "SELECT hour FROM closed_hour ORDER BY hour")]


def test_nothing_stored_nothing_to_do(store, engine):
    swept, found = run(store, engine)
    assert (swept.looked, found) == (0, [])


def test_what_has_no_row_is_found_once_it_is_old_enough(store, engine):
    lost = received(store, timedelta(seconds=61))
    young = received(store, timedelta(seconds=30))
    known = received(store, timedelta(minutes=10))
    index([known], store, engine)
    assert run(store, engine)[1] == [lost.object_id]
    assert run(store, engine)[1] == []
    assert run(store, engine, now=NOW + timedelta(seconds=40))[1] == [young.object_id]


def test_an_hour_is_closed_when_it_is_old_and_every_key_has_its_row(store, engine):
    old = received(store, LONGEST_RECEPTION + 2 * HOUR)
    recent = received(store, 2 * HOUR)
    swept, found = run(store, engine)
    assert found == [old.object_id, recent.object_id]
    # What was found has its row only now: the next look closes the hour.
    assert swept.closed < 3
    run(store, engine)
    hours = closed(engine)
    assert hours[0] == hour_of(old.object_id)
    assert max(hours) + HOUR + LONGEST_RECEPTION < NOW
    assert hour_of(recent.object_id) not in hours
    assert {row[0] for row in rows(engine, "SELECT hour FROM open_hour")}.isdisjoint(hours)


def test_a_closed_hour_is_never_listed_again(store, engine):
    old = received(store, LONGEST_RECEPTION + 3 * HOUR)
    index([old], store, engine)
    run(store, engine)
    assert hour_of(old.object_id) in closed(engine)
    store.listed.clear()
    later = received(store, LONGEST_RECEPTION + 3 * HOUR - timedelta(seconds=1))
    _, found = run(store, engine)
    assert found == []
    assert not any(object_key(later.object_id).startswith(prefix) for prefix in store.listed)


def test_hours_that_grow_old_are_looked_at_ever_more_seldom(store, engine):
    index([received(store, 5 * HOUR)], store, engine)
    run(store, engine)
    store.listed.clear()
    run(store, engine, now=NOW + timedelta(seconds=15))
    assert len(store.listed) <= 3  # this hour and the two before
    store.listed.clear()
    run(store, engine, now=NOW + timedelta(minutes=20))
    assert len(store.listed) >= 5


def test_an_hour_without_all_its_rows_stays_open_and_holds_up_no_other(store, engine):
    broken = received(store, LONGEST_RECEPTION + 4 * HOUR)
    lost = received(store, HOUR * 2)
    seen = []

    def take(handed):
        seen.extend(receipt.object_id for receipt in handed)
        return True

    for _ in range(2):
        run(store, engine, hand_over=take)
    assert seen == [broken.object_id, lost.object_id] * 2
    assert hour_of(broken.object_id) not in closed(engine)
    assert closed(engine)
    assert rows(engine, "SELECT min(hour) FROM open_hour") == [(hour_of(broken.object_id),)]


def test_at_most_so_many_in_one_run(store, engine):
    lost = [received(store, timedelta(minutes=5), number=n) for n in range(25)]
    swept, found = run(store, engine, limit=10)
    assert swept.more
    assert len(found) == 10
    found += run(store, engine, limit=10)[1] + run(store, engine, limit=10)[1]
    assert found == [each.object_id for each in lost]


def test_a_full_queue_ends_the_run(store, engine):
    received(store, timedelta(minutes=5))
    swept, _ = run(store, engine, hand_over=lambda _handed: False)
    assert (swept.found, swept.more) == (0, True)
    assert len(run(store, engine)[1]) == 1


def test_one_sweep_at_a_time(store, engine):
    with sweep_lock(engine) as taken:
        assert taken
        assert run(store, engine)[0] is None
    assert run(store, engine)[0] is not None


def test_a_strange_key_is_counted_and_closes_nothing_wrongly(store, engine):
    sent = received(store, timedelta(minutes=5))
    strange = object_key(sent.object_id).replace(".dcm", ".bak")
    writer = store.create(strange)
    writer.write([b"x"])
    writer.commit()
    swept, found = run(store, engine)
    assert swept.strange
    assert found == [sent.object_id]


def test_the_sweep_of_an_index_made_anew_starts_at_the_oldest_object(store, engine):
    old = received(store, timedelta(days=20))
    _, found = run(store, engine)
    assert found == [old.object_id]
    run(store, engine)
    assert closed(engine)[0] == hour_of(old.object_id)
    assert len(closed(engine)) > 20 * 24 - 10


def test_real_time_finds_a_real_object(store, engine):
    sent = stage(store, image(), object_id=new_object_id())
    handed = []
    swept = sweep(
        store,
        engine,
        hand_over=lambda receipts: bool(handed.extend(receipts)) or True,
        after=timedelta(0),
        limit=10,
        now=datetime.now(UTC) + timedelta(seconds=1),
    )
    assert swept is not None
    assert [receipt.object_id for receipt in handed] == [sent.object_id]


def test_the_lock_outlives_no_sweep_that_fails(store, engine):
    received(store, timedelta(minutes=5))

    def fail(_handed):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is our own
        run(store, engine, hand_over=fail)
    with transaction(engine) as connection:
        assert (
            connection.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
            == 0
        )
    assert run(store, engine)[0] is not None


def test_names_that_an_older_gantry_wrote_are_filled_in(engine, store):
    sent = [stage(store, image(PatientName=f"Older^Name {number}")) for number in range(5)]
    index(sent, store, engine)
    rows(engine, "UPDATE study SET patient_name_beginnings = NULL RETURNING pk")
    assert [fill_beginnings(engine, limit=3) for _ in range(3)] == [3, 2, 0]
    filled = "SELECT count(*) FROM study WHERE patient_name_beginnings @> '{older,name4}'"
    assert rows(engine, filled) == [(1,)]

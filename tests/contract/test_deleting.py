"""Deleting in index and store: taken back, purged, sent again, killed in the middle."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine

from gantry_archive.delivery import NothingToPush, plan_push, plan_routes
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reindex import reindex
from gantry_domain.deletions import DeletionState
from gantry_domain.deliveries import DeliveryState
from gantry_domain.keys import OBJECTS, object_key
from gantry_domain.routes import Route
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.deletions import list_deletions, marked_deletions
from gantry_stores.objects import DirectoryStore, ObjectStore, StoreUnavailable
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.shelf import RULES, Shelf, a_study
from gantry_testkit.stored import (
    NO_POLICIES,
    rows,
    snapshot,
    stage,
    states,
    with_changes,
)
from gantry_testkit.waiting import until

ROUTE = Route(name="all", send_to=("PEER",))


@pytest.fixture
def shelf(engine: Engine, store: ObjectStore) -> Shelf:
    return Shelf(engine, store)


@pytest.mark.parametrize("level", ["instance", "series", "study"])
def test_the_rest_is_as_if_the_deleted_had_never_been(shelf, level, other):
    ds = a_study(PatientID="P7")
    # Its source is deleted, and says of the patient what the others do not.
    ds[0] = with_changes(ds[0], PatientID="P8", StudyDescription="of the first")
    neighbour = a_study(series=1, PatientID="P8")
    ds.append(with_changes(ds[0], PixelData=bytes(512)))
    ds.append(with_changes(ds[0], PatientName="Other^Name"))
    sent = shelf.put(*ds, *neighbour)
    assert shelf.delete(ds[0], level) == {"instance": 1, "series": 2, "study": 4}[level]
    judge_studies(shelf.engine, NO_POLICIES)
    kept = [
        each
        for each, state in zip(sent, states(shelf.engine, sent), strict=True)
        if state != ("deleted", None)
    ]
    assert len(kept) == {"instance": 5, "series": 4, "study": 2}[level]
    Shelf(other, shelf.store).index(kept)
    mine, theirs = snapshot(shelf.engine), snapshot(other)
    mine["object"] = [row for row in mine["object"] if '"deleted"' not in row]
    assert mine == theirs


@pytest.fixture
def other(postgres_server, migrated_template):
    engine = make_engine(postgres_server.create_database("beside", template=migrated_template))
    yield engine
    engine.dispose()
    postgres_server.drop_database("beside")


def test_taken_back_it_is_as_before(shelf):
    ds = a_study(images=3)
    sent = shelf.put(*ds, with_changes(ds[0], PixelData=bytes(512)), *a_study(series=1))
    before = snapshot(shelf.engine)
    assert shelf.delete(ds[0], "instance") == 1
    assert shelf.delete(ds[3], "series") == 3
    assert shelf.delete(ds[1]) == 2
    assert snapshot(shelf.engine) != before
    shelf.restore(ds[0])
    assert snapshot(shelf.engine) == before
    assert shelf.deletion_states() == ["restored"] * 3
    assert None not in states(shelf.engine, sent)
    assert shelf.purge() == 0
    assert snapshot(shelf.engine) == before


def test_what_a_device_sends_again_stays_deleted_and_what_is_corrected_is_new(shelf):
    (ds,) = a_study(series=1, images=1)
    first = shelf.put(ds)
    assert shelf.delete(ds) == 1
    again = shelf.put(ds)
    assert states(shelf.engine, again) == [("deleted", None)]
    assert shelf.visible() == set()
    assert rows(shelf.engine, "SELECT count(*) FROM study") == [(0,)]
    assert rows(shelf.engine, "SELECT count(*) FROM patient") == [(0,)]

    corrected = with_changes(ds, PatientName="Right^Name")
    new = shelf.put(corrected)
    assert states(shelf.engine, new) == [("primary", None)]
    assert shelf.visible() == {ds.SOPInstanceUID}

    # Purged are the two that were deleted. What comes then is taken for what it is.
    assert shelf.purge() == 2
    assert [stat.key for stat in shelf.store.list(OBJECTS)] == [object_key(new[0].object_id)]
    assert states(shelf.engine, [*first, *again]) == [None, None]
    late = shelf.put(ds)
    assert states(shelf.engine, late) == [("duplicate", "demographics")]


def test_taken_back_beside_a_correction_the_fold_decides(shelf):
    (ds,) = a_study(series=1, images=1)
    first = shelf.put(ds)
    shelf.delete(ds)
    new = shelf.put(with_changes(ds, PixelData=bytes(512)))
    shelf.restore(ds)
    assert states(shelf.engine, [*first, *new]) == [
        ("primary", None),
        ("conflict", "other_content"),
    ]


def test_purged_only_when_its_time_has_come_and_for_good(shelf):
    ds = a_study()
    sent = shelf.put(*ds)
    shelf.delete(ds[0])
    assert shelf.purge(after=timedelta(hours=1)) == 0
    assert shelf.deletion_states() == ["marked"]
    assert shelf.purge() == 4
    assert list(shelf.store.list(OBJECTS)) == []
    assert states(shelf.engine, sent) == [None] * 4
    with transaction(shelf.engine) as connection:
        (line,) = list_deletions(connection, limit=2)
        assert (line.state, line.instances, line.objects) == (DeletionState.PURGED, 4, 0)
        assert line.ended_at is not None
        assert marked_deletions(connection, ds[0].StudyInstanceUID) == []


def test_an_object_that_went_before_its_row_is_made_good(shelf):
    ds = a_study()
    sent = shelf.put(*ds)
    shelf.delete(ds[0])
    for each in sent[:2]:
        shelf.store.delete(object_key(each.object_id))
    assert shelf.purge() == 4
    assert states(shelf.engine, sent) == [None] * 4


_PURGE = """
import sys
from datetime import timedelta
from pathlib import Path
from gantry_archive.deleting import purge_deleted
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
purge_deleted(DirectoryStore(Path(sys.argv[1])), make_engine(sys.argv[2]),
              after=timedelta(microseconds=1), seconds=60)
"""


def test_a_process_that_is_killed_in_the_middle_leaves_what_the_next_one_finds(
    engine: Engine, postgres_url: str, tmp_path: Path
) -> None:
    shelf = Shelf(engine, DirectoryStore(tmp_path / "objects"))
    ds, kept = a_study(), a_study(series=1)
    sent = shelf.put(*ds)
    shelf.put(*kept)
    shelf.delete(ds[0])
    with engine.connect() as other:
        # It stands still with the objects out of the store, and their rows not out of the index.
        other.execute(text("SELECT 1 FROM deleted_object FOR UPDATE"))
        arguments = [sys.executable, "-c", _PURGE, str(tmp_path / "objects"), postgres_url]
        with subprocess.Popen(arguments, stderr=subprocess.PIPE) as purging:
            until(
                lambda: purging.poll() is not None or len(list(shelf.store.list(OBJECTS))) == 2,
                "the objects are gone",
            )
            assert purging.poll() is None, purging.stderr and purging.stderr.read()
            purging.kill()
    assert states(engine, sent) == [("deleted", None)] * 4
    assert shelf.purge() == 4
    assert states(engine, sent) == [None] * 4
    assert shelf.deletion_states() == ["purged"]
    assert shelf.visible() == {each.SOPInstanceUID for each in kept}


class _Failing(DirectoryStore):
    """A folder to which nothing can be written."""

    def create(self, key: str):
        raise StoreUnavailable("away")


def test_where_the_journal_cannot_be_written_nothing_is_deleted(shelf, tmp_path):
    ds = a_study()
    shelf.put(*ds)
    before = snapshot(shelf.engine)
    with pytest.raises(StoreUnavailable):
        Shelf(shelf.engine, _Failing(tmp_path / "objects")).delete(ds[0])
    assert snapshot(shelf.engine) == before
    assert shelf.deletion_states() == []


def test_a_new_index_says_what_people_decided(shelf, other):
    ds, back, purged = a_study(), a_study(), a_study()
    shelf.put(*ds, *back, *purged)
    shelf.delete(ds[0], "instance")
    shelf.delete(back[0])
    shelf.delete(purged[0])
    again = shelf.put(ds[0])  # deleted with the first
    shelf.restore(back[0])
    shelf.put(with_changes(ds[0], PatientName="Right^Name"))
    assert states(shelf.engine, again) == [("deleted", None)]
    reindex(shelf.store, other, policies=NO_POLICIES)
    assert snapshot(other) == snapshot(shelf.engine)
    with transaction(other) as connection:
        found = {
            line.deletion.StudyInstanceUID: line for line in list_deletions(connection, limit=9)
        }
    assert {uid: line.deletion.deleted_by for uid, line in found.items()} == {
        ds[0].StudyInstanceUID: "ann",
        purged[0].StudyInstanceUID: "ann",
    }
    # The days go on where they stood, and it can be taken back there too.
    assert found[ds[0].StudyInstanceUID].deletion.deleted_at < datetime.now(UTC)
    Shelf(other, shelf.store).restore(purged[0])
    assert {each.SOPInstanceUID for each in purged} <= Shelf(other, shelf.store).visible()


def test_what_was_not_sent_is_not_sent_any_more(
    engine: Engine, store: ObjectStore, start_scp: Callable[..., AnsweringScp]
) -> None:
    archive, shelf = ForwardingArchive(engine, store), Shelf(engine, store)
    peer = start_scp()
    ds = a_study(images=3)
    shelf.put(*ds)
    study = archive.push(ds[0].StudyInstanceUID)
    series = archive.push(ds[3].SeriesInstanceUID, to="OTHER")
    shelf.delete(ds[3], "series")
    assert archive.line(series).state is DeliveryState.CANCELLED
    assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
    assert sorted(peer.uids()) == sorted(each.SOPInstanceUID for each in ds[:3])
    assert archive.line(study).items == 3
    late = archive.push(ds[0].StudyInstanceUID)
    assert late != study
    shelf.delete(ds[0])
    assert archive.line(late).state is DeliveryState.CANCELLED
    assert archive.claim() is None
    assert archive.line(study).state is DeliveryState.DELIVERED  # it tells what was sent
    with pytest.raises(NothingToPush):
        plan_push(engine, ds[0].StudyInstanceUID, "PEER", partitions=["main"])


def test_taken_back_it_goes_where_the_routes_send_it(engine: Engine, store: ObjectStore) -> None:
    shelf = Shelf(engine, store)
    ds = a_study()
    shelf.put(*ds)

    def route() -> list[tuple[str, int]]:
        rows(
            engine,
            "UPDATE study SET completed_revision = revision, completed_at = now() RETURNING 1",
        )
        plan_routes(engine, [ROUTE])
        return rows(
            engine,
            "SELECT d.state, (SELECT count(*) FROM delivery_item p WHERE p.delivery_pk = d.pk)"
            " FROM delivery d",
        )

    assert route() == [("waiting", 4)]
    shelf.delete(ds[0])
    assert route() == [("cancelled", 0)]
    shelf.restore(ds[0])
    assert route() == [("waiting", 4)]


def test_beside_devices_that_send_the_counts_stay_right(shelf):
    ds = a_study(series=3, images=12)
    sent = [stage(shelf.store, each) for each in ds]

    def index(start: int) -> None:
        for position in range(start, len(sent), 4):
            index_batch(
                [sent[position].receipt], store=shelf.store, engine=shelf.engine, rules=RULES
            )
            judge_studies(shelf.engine, NO_POLICIES)

    with ThreadPoolExecutor(5) as threads:
        indexers = [threads.submit(index, start) for start in range(4)]
        deleted = 0
        while not all(each.done() for each in indexers):
            deleted += shelf.delete(ds[14], "series") or 0
        for each in indexers:
            each.result()
    assert deleted
    left = 36 - deleted
    assert len(shelf.visible()) == left
    assert rows(
        shelf.engine,
        "SELECT number_of_study_related_instances, (SELECT sum(number_of_series_related_instances)"
        " FROM series) FROM study",
    ) == [(left, left)]
    shelf.restore(ds[0])
    assert len(shelf.visible()) == 36

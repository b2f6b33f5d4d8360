"""Deleting: hidden at every door at once, purged later, taken back before; and what comes again."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset
from sqlalchemy import text
from sqlalchemy.engine import Engine

from gantry_archive.deleting import Subject, delete_subject, purge_deleted, restore_deleted
from gantry_archive.delivery import NothingToPush, plan_push, plan_routes
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.reindex import reindex
from gantry_domain.deletions import DeletionState, Restoration
from gantry_domain.deliveries import DeliveryState
from gantry_domain.keys import OBJECTS, new_object_id, object_key
from gantry_domain.routes import Route
from gantry_domain.sight import Sight
from gantry_query.access import Client, Right, TokenAccess
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.deletions import list_deletions, marked_deletions, take_back
from gantry_stores.objects import DirectoryStore, ObjectStore, StoreUnavailable
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.query_scu import answers, associated, identifier
from gantry_testkit.stored import (
    NO_POLICIES,
    Sent,
    image,
    new_uid,
    receipts,
    rows,
    snapshot,
    stage,
    states,
    with_changes,
)
from gantry_testkit.waiting import until

RULES = ReadingRules()
NOW = timedelta(microseconds=1)
ROUTE = Route(name="all", send_to=("PEER",))


class Shelf:
    """An index and a store, and what is put into them."""

    def __init__(self, engine: Engine, store: ObjectStore) -> None:
        self.engine = engine
        self.store = store

    def put(self, *datasets: Dataset, partition: str = "main") -> list[Sent]:
        sent = [stage(self.store, ds, partition=partition) for ds in datasets]
        self.index(sent)
        return sent

    def index(self, sent: Sequence[Sent]) -> None:
        index_batch(receipts(sent), store=self.store, engine=self.engine, rules=RULES)
        judge_studies(self.engine, NO_POLICIES)

    def delete(self, ds: Dataset, level: str = "study", *, held: bool = False) -> int | None:
        return delete_subject(
            self.store,
            self.engine,
            Subject(
                sight=Sight("main", held=held),
                StudyInstanceUID=ds.StudyInstanceUID,
                SeriesInstanceUID=ds.SeriesInstanceUID if level != "study" else None,
                SOPInstanceUID=ds.SOPInstanceUID if level == "instance" else None,
                by="ann",
            ),
        )

    def restore(self, ds: Dataset) -> None:
        with transaction(self.engine) as connection:
            for deletion in marked_deletions(connection, ds.StudyInstanceUID):
                restoration = Restoration(
                    id=new_object_id(), deletion_id=deletion.id, restored_by="bob"
                )
                assert take_back(connection, restoration)
        done = restore_deleted(self.store, self.engine, rules=RULES, seconds=20)
        judge_studies(self.engine, NO_POLICIES, done.study_pks)

    def purge(self, after: timedelta = NOW) -> int:
        return purge_deleted(self.store, self.engine, after=after, seconds=20).purged

    def visible(self) -> set[str]:
        found = rows(
            self.engine,
            "SELECT i.sop_instance_uid FROM instance i JOIN series s ON s.pk = i.series_pk"
            " JOIN study t ON t.pk = s.study_pk WHERE t.visible",
        )
        return {uid for (uid,) in found}

    def deletion_states(self) -> list[str]:
        with transaction(self.engine) as connection:
            return [line.state.value for line in list_deletions(connection, limit=100)]


@pytest.fixture
def shelf(engine: Engine, store: ObjectStore) -> Shelf:
    return Shelf(engine, store)


def a_study(*, series: int = 2, images: int = 2, **values: object) -> list[Dataset]:
    study = new_uid()
    return [
        image(
            StudyInstanceUID=study,
            SeriesInstanceUID=uid,
            SeriesNumber=str(number),
            Modality=["CT", "MR"][number % 2],
            InstanceNumber=str(position),
            **values,
        )
        for number, uid in enumerate(new_uid() for _ in range(series))
        for position in range(images)
    ]


def path_of(ds: Dataset, level: str) -> str:
    path = f"/studies/{ds.StudyInstanceUID}"
    if level != "study":
        path += f"/series/{ds.SeriesInstanceUID}"
    return path + (f"/instances/{ds.SOPInstanceUID}" if level == "instance" else "")


def test_each_level_disappears_from_every_door_at_once(web, serve_find):
    shelf = Shelf(web.engine, web.store)
    datasets, other = a_study(), a_study(series=1)
    shelf.put(*datasets, *other)
    study = datasets[0].StudyInstanceUID

    def told() -> tuple[list[int], list[int], list[str]]:
        found = web.get(f"/studies?StudyInstanceUID={study}").json()
        counts = [v["Value"][0] for r in found for v in (r["00201206"], r["00201208"])]
        series = web.get(f"/studies/{study}/series").json()
        modalities = found[0]["00080061"]["Value"] if found else []
        return counts, [each["00201209"]["Value"][0] for each in series], modalities

    def by_dimse(server) -> int:
        with associated(server.address) as assoc:
            asked = identifier("IMAGE", StudyInstanceUID=study, SeriesInstanceUID="")
            asked.SeriesInstanceUID = [ds.SeriesInstanceUID for ds in datasets[::2]]
            return len(answers(assoc, asked)[1])

    def gone(ds: Dataset, level: str) -> None:
        answer = web.client.delete(f"{web.base}{path_of(ds, level)}")
        assert (answer.status_code, answer.content) == (204, b"")
        for tail in ("", "/metadata", "/rendered"):
            assert web.get(path_of(ds, level) + tail).status_code == 404
        assert web.client.delete(f"{web.base}{path_of(ds, level)}").status_code == 404

    with serve_find(web.engine, store=web.store) as server:
        assert (told(), by_dimse(server)) == (([2, 4], [2, 2], ["CT", "MR"]), 4)
        gone(datasets[0], "instance")
        assert (told(), by_dimse(server)) == (([2, 3], [1, 2], ["CT", "MR"]), 3)
        gone(datasets[2], "series")
        assert (told(), by_dimse(server)) == (([1, 1], [1], ["CT"]), 1)
        assert len(web.get(f"/studies/{study}/metadata").json()) == 1
        gone(datasets[1], "study")
        assert (told(), by_dimse(server)) == (([], [], []), 0)
    assert len(web.get(f"/studies/{other[0].StudyInstanceUID}/metadata").json()) == 2
    with transaction(web.engine) as connection:
        lines = list_deletions(connection, limit=9)
    assert [(line.deletion.level, line.instances) for line in lines] == [
        ("study", 1),
        ("series", 2),
        ("instance", 1),
    ]
    assert {line.deletion.deleted_by for line in lines} == {"anyone on loopback"}


def test_what_is_not_there_is_not_deleted(web):
    shelf = Shelf(web.engine, web.store)
    (one,), (hidden,), (north,) = (a_study(series=1, images=1) for _ in range(3))
    shelf.put(one)
    shelf.put(north, partition="north")
    index_batch([stage(web.store, hidden).receipt], store=web.store, engine=web.engine, rules=RULES)
    for path in (
        f"/studies/{new_uid()}",
        f"/studies/{one.StudyInstanceUID}/series/{new_uid()}",
        f"/studies/{new_uid()}/series/{one.SeriesInstanceUID}",
        f"{path_of(one, 'series')}/instances/{new_uid()}",
        path_of(hidden, "study"),
        path_of(north, "study"),
    ):
        assert web.client.delete(f"{web.base}{path}").status_code == 404
    assert web.client.delete(f"{web.base}/studies").status_code == 405
    assert {one.SOPInstanceUID, north.SOPInstanceUID} <= shelf.visible()
    partition = web.base.replace("/dicomweb", "/p/north/dicomweb")
    assert web.client.delete(f"{partition}{path_of(north, 'study')}").status_code == 204
    assert one.SOPInstanceUID in shelf.visible()


def test_what_is_held_out_of_sight_is_deleted_by_those_who_see_it(shelf):
    (ds,) = a_study(series=1, images=1)
    shelf.put(ds)
    rows(shelf.engine, "UPDATE study SET visible = false, verdict = 'held' RETURNING 1")
    assert shelf.delete(ds) is None
    assert shelf.delete(ds, held=True) == 1


def test_it_takes_the_setting_and_the_right(serve, web):
    access = TokenAccess(
        [
            (Client("writer", frozenset({Right.READ, Right.STORE})), ["w" * 20]),
            (Client("remover", frozenset({Right.DELETE})), ["d" * 20]),
        ]
    )
    shelf = Shelf(web.engine, web.store)
    (ds,) = a_study(series=1, images=1)
    shelf.put(ds)

    def attempt(base: str, token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.delete(f"{base}{path_of(ds, 'study')}", headers=headers)

    with serve(web.engine, web.store, access=access, deletes=False) as base:
        assert attempt(base, "d" * 20).status_code == 405
    with serve(web.engine, web.store, access=access) as base:
        refused = attempt(base, "w" * 20)
        assert refused.status_code == 403
        assert 'scope="delete"' in refused.headers["www-authenticate"]
        assert ds.SOPInstanceUID in shelf.visible()
        assert attempt(base, "d" * 20).status_code == 204
    with transaction(web.engine) as connection:
        assert list_deletions(connection, limit=1)[0].deletion.deleted_by == "remover"


def test_pages_of_strangers_may_not_ask_to_delete(web):
    for origin, methods in (
        ("https://viewer.example", "GET, POST, DELETE, OPTIONS"),
        ("http://localhost:3000", "GET, POST, DELETE, OPTIONS"),
        ("https://elsewhere.example", None),
    ):
        answer = web.client.options(f"{web.base}/studies/1.2", headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-methods") == methods


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

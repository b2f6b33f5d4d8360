"""Routes become deliveries once for each destination and study; late instances are added."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.delivery import Planned, plan_routes
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.reindex import reindex
from gantry_domain.keys import OBJECTS, parse_object_key
from gantry_domain.receipts import Receipt
from gantry_domain.routes import Route
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.stored import NO_POLICIES, image, new_uid, receipts, rows, stage

ALL = Route(name="all", send_to=("READING",))
NOTHING = Planned(0, 0)


class Archive:
    """A store and an index; studies become complete when the test says so."""

    def __init__(self, engine: Engine, store: DirectoryStore) -> None:
        self.engine = engine
        self.store = store

    def receive(
        self, study: str | None = None, *, calling_ae: str = "CT01", complete: bool = True
    ) -> str:
        """One more image of a study: its UID."""
        ds = image(StudyInstanceUID=study or new_uid(), StudyDescription="Thorax")
        sent = stage(self.store, ds, calling_ae=calling_ae)
        index_batch(receipts([sent]), store=self.store, engine=self.engine, rules=ReadingRules())
        judge_studies(self.engine, NO_POLICIES)
        if complete:
            self.complete()
        return str(ds.StudyInstanceUID)

    def complete(self) -> None:
        rows(
            self.engine,
            "UPDATE study SET completed_revision = revision, completed_at = now() RETURNING pk",
        )

    def plan(self, *routes: Route) -> Planned:
        return plan_routes(self.engine, routes)

    def deliveries(self) -> list[tuple[str, str, str, int]]:
        """Destination, study, state and number of items of each delivery."""
        return sorted(
            rows(
                self.engine,
                "SELECT destination, study_instance_uid, state,"
                " (SELECT count(*) FROM delivery_item WHERE delivery_pk = pk) FROM delivery",
            )
        )

    def settle(self, state: str) -> None:
        rows(
            self.engine,
            "UPDATE delivery_item SET state = 'accepted', settled_at = now() RETURNING 1",
        )
        rows(self.engine, f"UPDATE delivery SET state = '{state}' RETURNING 1")


@pytest.fixture
def archive(postgres_url: str, tmp_path: Path) -> Iterator[Archive]:
    engine = make_engine(postgres_url, pool_size=10)
    yield Archive(engine, DirectoryStore(tmp_path / "objects"))
    engine.dispose()


def test_a_complete_study_goes_to_every_destination_once(archive: Archive) -> None:
    study = archive.receive()
    routes = [
        Route(name="a", send_to=("READING", "BACKUP")),
        Route(name="b", send_to=("READING",), when={"calling_ae": ("CT01",)}),
        Route(name="c", send_to=("ELSEWHERE",), when={"calling_ae": ("MR01",)}),
    ]
    assert archive.plan(*routes) == Planned(studies=1, deliveries=2)
    assert archive.plan(*routes) == NOTHING
    assert archive.deliveries() == [
        ("BACKUP", study, "waiting", 1),
        ("READING", study, "waiting", 1),
    ]


def test_incomplete_held_and_unjudged_studies_wait(archive: Archive) -> None:
    archive.receive(complete=False)
    assert archive.plan(ALL) == NOTHING
    archive.complete()
    rows(archive.engine, "UPDATE study SET verdict = 'held' RETURNING pk")
    assert archive.plan(ALL) == NOTHING
    rows(archive.engine, "UPDATE study SET verdict = 'accepted', judged_revision = 0 RETURNING pk")
    assert archive.plan(ALL) == NOTHING
    rows(archive.engine, "UPDATE study SET judged_revision = revision RETURNING pk")
    assert archive.plan(ALL) == Planned(1, 1)


def test_conditions_see_the_facts_of_the_study(archive: Archive) -> None:
    study = archive.receive()
    archive.receive(study, calling_ae="CT02")
    conditions = {
        "Modality": ("CT",),
        "calling_ae": ("CT02",),
        "called_ae": ("GANTRY",),
        "StudyDescription": ("thor*",),
        "partition": ("main",),
        "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.2",),
    }
    assert archive.plan(Route(name="r", send_to=("A",), when=conditions)) == Planned(1, 1)


def test_findings_are_asked_for_and_the_priority_is_the_routes(archive: Archive) -> None:
    found = archive.receive()
    archive.receive()
    rows(
        archive.engine,
        "INSERT INTO study_finding (study_pk, place, rule, code, severity)"
        " SELECT pk, 0, 'images_per_study', 'too_many', 'warning' FROM study"
        " WHERE study_instance_uid = :uid RETURNING 1",
        uid=found,
    )
    for pattern in ("images_per_*", "too_many"):
        route = Route(name="r", send_to=(pattern[:4],), when={"finding": (pattern,)}, priority=7)
        rows(archive.engine, "UPDATE study SET routed_revision = NULL RETURNING 1")
        assert archive.plan(route) == Planned(2, 1)
    assert {(study, *rest) for _, study, *rest in archive.deliveries()} == {(found, "waiting", 1)}
    assert rows(archive.engine, "SELECT DISTINCT priority FROM delivery") == [(7,)]


def test_priors_go_along_once_those_of_the_same_modality_first(archive: Archive) -> None:
    def study(date: str, modality: str = "CT", patient: str = "PRIORS") -> str:
        ds = image(StudyDate=date, Modality=modality, PatientID=patient)
        sent = stage(archive.store, ds)
        index_batch(
            receipts([sent]), store=archive.store, engine=archive.engine, rules=ReadingRules()
        )
        judge_studies(archive.engine, NO_POLICIES)
        return str(ds.StudyInstanceUID)

    oldest, other = study("20200101"), study("20230101", "MR")
    newest, held = study("20220101"), study("20240101")
    study("20240102", patient="SOMEBODY")
    rows(
        archive.engine,
        "UPDATE study SET verdict = 'held' WHERE study_instance_uid = :uid RETURNING 1",
        uid=held,
    )
    rows(archive.engine, "UPDATE study SET routed_revision = revision RETURNING 1")
    route = Route(name="r", send_to=("READING",), priors=2)
    now = study("20250101")
    archive.complete()
    assert archive.plan(route) == Planned(1, 3)
    sent = {uid for _, uid, _, _ in archive.deliveries()}
    assert sent == {now, newest, oldest}
    # What is there already is not sent again, and the one beyond comes with a wider route.
    archive.settle("delivered")
    again = study("20250102")
    archive.complete()
    assert archive.plan(Route(name="r", send_to=("READING",), priors=4)) == Planned(1, 2)
    waiting = {uid for _, uid, state, _ in archive.deliveries() if state == "waiting"}
    assert waiting == {again, other}


@pytest.mark.parametrize("state", ["delivered", "dead"])
def test_late_instances_reopen_what_was_over_as_new_items(archive: Archive, state: str) -> None:
    study = archive.receive()
    archive.plan(ALL)
    archive.settle(state)
    archive.receive(study)
    assert archive.plan(ALL) == Planned(1, 1)
    assert archive.deliveries() == [("READING", study, "waiting", 2)]
    found = rows(archive.engine, "SELECT state, count(*) FROM delivery_item GROUP BY 1 ORDER BY 1")
    assert found == [("accepted", 1), ("waiting", 1)]


def test_late_instances_of_a_cancelled_delivery_stay_cancelled(archive: Archive) -> None:
    study = archive.receive()
    archive.plan(ALL)
    archive.settle("cancelled")
    archive.receive(study)
    archive.plan(ALL)
    assert archive.deliveries() == [("READING", study, "cancelled", 2)]


def test_a_change_without_new_instances_sends_nothing_again(archive: Archive) -> None:
    archive.receive()
    archive.plan(ALL)
    archive.settle("delivered")
    rows(archive.engine, "UPDATE study SET revision = revision + 1 RETURNING pk")
    rows(archive.engine, "UPDATE study SET judged_revision = revision RETURNING pk")
    archive.complete()
    assert archive.plan(ALL) == Planned(1, 0)
    assert archive.deliveries()[0][2:] == ("delivered", 1)


def test_a_route_added_later_is_about_what_comes_later(archive: Archive) -> None:
    archive.receive()
    assert archive.plan() == Planned(1, 0)
    assert archive.plan(ALL) == NOTHING
    archive.receive()
    assert archive.plan(ALL) == Planned(1, 1)


def test_many_workers_plan_each_study_once(archive: Archive) -> None:
    studies = [archive.receive(complete=False) for _ in range(12)]
    archive.complete()
    with ThreadPoolExecutor(4) as threads:
        planned = list(threads.map(lambda _: archive.plan(ALL), range(4)))
    assert sum(each.deliveries for each in planned) == 12
    assert [line[1] for line in archive.deliveries()] == sorted(studies)


def test_more_studies_than_one_transaction_takes(archive: Archive) -> None:
    for _ in range(55):
        archive.receive(complete=False)
    archive.complete()
    assert archive.plan(ALL) == Planned(55, 55)


def test_an_index_built_anew_routes_nothing_but_what_comes_later(
    archive: Archive, empty_database_url: str
) -> None:
    study = archive.receive()
    migrations.upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    reindex(archive.store, engine, policies=NO_POLICIES)
    anew = Archive(engine, archive.store)
    anew.complete()
    assert anew.plan(ALL) == NOTHING
    anew.receive(study)
    assert anew.plan(ALL) == Planned(1, 1)
    engine.dispose()


def test_what_was_stored_before_the_index_was_made_is_not_sent_again(
    archive: Archive, empty_database_url: str
) -> None:
    study = archive.receive()
    sent = [Receipt(parse_object_key(stat.key), stat.size) for stat in archive.store.list(OBJECTS)]
    migrations.upgrade(empty_database_url)  # the database was lost
    engine = make_engine(empty_database_url)
    anew = Archive(engine, archive.store)
    index_batch(sent, store=archive.store, engine=engine, rules=ReadingRules())  # by the sweep
    judge_studies(engine, NO_POLICIES)
    anew.complete()
    assert anew.plan(ALL) == Planned(1, 0)
    assert anew.plan(ALL) == NOTHING
    anew.receive()
    assert anew.plan(ALL) == Planned(1, 1)
    anew.receive(study)
    assert anew.plan(ALL) == Planned(1, 1)
    engine.dispose()

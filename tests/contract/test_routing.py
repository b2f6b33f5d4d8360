"""Routes become deliveries once for each destination and study; late instances are added."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.delivery import Planned, plan_early, plan_routes
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.reindex import reindex
from gantry_domain.day_times import parse_week_span
from gantry_domain.keys import OBJECTS, parse_object_key
from gantry_domain.receipts import Receipt
from gantry_domain.routes import Route, Trigger
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.stored import NO_POLICIES, image, new_uid, receipts, rows, stage

ALL = Route(name="all", send_to=("READING",))
AT_ONCE = Route(name="at-once", send_to=("READING",), trigger=Trigger.INSTANCE)
SERIES = Route(name="series", send_to=("READING",), trigger=Trigger.SERIES)
NOTHING = Planned(0, 0)


class Archive:
    """A store and an index; studies become complete when the test says so."""

    def __init__(self, engine: Engine, store: DirectoryStore) -> None:
        self.engine = engine
        self.store = store

    def receive(
        self,
        study: str | None = None,
        *,
        calling_ae: str = "CT01",
        complete: bool = True,
        **values: str,
    ) -> str:
        """One more image of a study: its UID."""
        ds = image(StudyInstanceUID=study or new_uid(), StudyDescription="Thorax", **values)
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

    def plan_early(self, *routes: Route, seconds: float = 0) -> Planned:
        """As if it were so many seconds later; a series is quiet after a minute."""
        rows(
            self.engine,
            "UPDATE beginning SET all_indexed_until = now() + interval '1h' RETURNING 1",
        )
        now = datetime.now(UTC) + timedelta(seconds=seconds)
        return plan_early(self.engine, routes, series_quiet=timedelta(minutes=1), now=now)

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


def test_an_instance_leaves_as_it_comes_and_none_goes_twice_when_its_study_is_complete(
    archive: Archive,
) -> None:
    study = archive.receive(complete=False)
    assert archive.plan_early(AT_ONCE, ALL) == Planned(1, 1)
    assert archive.plan_early(AT_ONCE, ALL) == NOTHING
    archive.settle("delivered")
    archive.receive(study, complete=False)
    assert archive.plan_early(AT_ONCE, ALL) == Planned(1, 1)
    assert archive.deliveries() == [("READING", study, "waiting", 2)]
    archive.settle("delivered")
    archive.complete()
    assert archive.plan_early(AT_ONCE, ALL) == NOTHING
    assert archive.plan(AT_ONCE, ALL) == Planned(1, 0)
    assert archive.deliveries() == [("READING", study, "delivered", 2)]


def test_a_series_leaves_when_it_is_quiet_while_its_study_still_comes(archive: Archive) -> None:
    study, first, second = new_uid(), new_uid(), new_uid()
    archive.receive(study, complete=False, SeriesInstanceUID=first)
    assert archive.plan_early(SERIES) == Planned(1, 0)
    assert archive.plan_early(SERIES, seconds=30) == NOTHING
    rows(archive.engine, "UPDATE object SET indexed_at = indexed_at - interval '50s' RETURNING 1")
    archive.receive(study, complete=False, SeriesInstanceUID=second)
    assert archive.plan_early(SERIES, seconds=15) == Planned(1, 1)
    found = rows(
        archive.engine,
        "SELECT s.series_instance_uid FROM delivery_item p"
        " JOIN instance i USING (sop_instance_uid) JOIN series s ON s.pk = i.series_pk",
    )
    assert found == [(first,)]
    archive.settle("delivered")
    assert archive.plan_early(SERIES, seconds=62) == Planned(1, 1)
    assert archive.plan_early(SERIES, seconds=99) == NOTHING
    assert archive.deliveries() == [("READING", study, "waiting", 2)]


def test_what_is_held_does_not_leave_early_and_goes_when_it_is_accepted(archive: Archive) -> None:
    archive.receive(complete=False)
    rows(archive.engine, "UPDATE study SET verdict = 'held' RETURNING pk")
    assert archive.plan_early(AT_ONCE) == NOTHING
    rows(archive.engine, "UPDATE study SET verdict = 'accepted', judged_revision = 0 RETURNING pk")
    assert archive.plan_early(AT_ONCE) == NOTHING
    rows(archive.engine, "UPDATE study SET judged_revision = revision RETURNING pk")
    assert archive.plan_early(AT_ONCE) == Planned(1, 1)


def test_a_route_for_instances_takes_those_of_its_class_and_sender_alone(archive: Archive) -> None:
    study, wanted = new_uid(), new_uid()
    archive.receive(study, complete=False)
    archive.receive(study, complete=False, calling_ae="CT02")
    archive.receive(study, complete=False, calling_ae="CT02", SOPInstanceUID=wanted, Modality="MR")
    route = Route(
        name="r",
        send_to=("READING",),
        when={"calling_ae": ("CT02",), "Modality": ("MR",)},
        trigger=Trigger.INSTANCE,
    )
    assert archive.plan_early(route) == Planned(1, 1)
    archive.complete()
    assert archive.plan(route) == Planned(1, 0)
    assert rows(archive.engine, "SELECT sop_instance_uid FROM delivery_item") == [(wanted,)]


def test_priors_leave_with_the_first_of_a_study(archive: Archive) -> None:
    prior = archive.receive(PatientID="P9", StudyDate="20200101")
    archive.plan()
    study = archive.receive(complete=False, PatientID="P9", StudyDate="20260101")
    route = Route(name="r", send_to=("READING",), trigger=Trigger.INSTANCE, priors=1)
    assert archive.plan_early(route) == Planned(1, 2)
    assert {line[1] for line in archive.deliveries()} == {prior, study}


def test_at_other_times_of_the_week_only_what_has_begun_goes_on(archive: Archive) -> None:
    study = archive.receive()
    now = datetime.now(UTC)
    today, tomorrow = (f"{now + timedelta(days=days):%a}" for days in (0, 1))
    route = Route(name="r", send_to=("READING",), during=(parse_week_span(tomorrow),))
    assert archive.plan(route) == Planned(1, 0)
    archive.receive(study)
    assert archive.plan(Route(name="r", send_to=("READING",), during=(parse_week_span(today),)))
    archive.receive(study)
    assert archive.plan(route) == Planned(1, 1)
    assert archive.deliveries() == [("READING", study, "waiting", 3)]

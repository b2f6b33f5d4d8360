"""The feed of events: in order whatever commits first, complete for whoever reads on, and cheap."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine

from gantry_archive.completing import complete_studies
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.completeness import QuietTimes
from gantry_domain.deletions import Deletion
from gantry_domain.events import Event, EventKind, Happening
from gantry_domain.keys import new_object_id
from gantry_domain.policies.findings import Action
from gantry_domain.policies.rules import PolicySet
from gantry_domain.policies.study_rules import ImagesPerStudy
from gantry_domain.sight import Sight
from gantry_stores.index.database import transaction
from gantry_stores.index.deleting import delete
from gantry_stores.index.deletions import begin_purges, end_purges, forget_deleted
from gantry_stores.index.events import events_after, note, publish, read_feed, remove_old
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.stored import NO_POLICIES, image, new_uid, rows, stage
from gantry_testkit.waiting import until

AT_ONCE = timedelta()


def happening(study: str, kind: EventKind = EventKind.COMPLETE) -> Happening:
    return Happening(kind=kind, partition="main", StudyInstanceUID=study)


REVIEWER, READER = Sight("main", held=True), Sight("main")


def read(engine: Engine, after: int = 0, *, sight: Sight = REVIEWER) -> list[Event]:
    last = read_feed(engine).last
    return events_after(engine, after, until=last, sight=sight, limit=1000)


def told(engine: Engine) -> list[tuple[str, str]]:
    return [(e.happening.kind.value, e.happening.StudyInstanceUID) for e in read(engine)]


def test_what_is_committed_late_is_not_skipped(engine: Engine) -> None:
    with transaction(engine) as slow:
        note(slow, [happening("1.1")])  # its row has the lower number of the two
        with transaction(engine) as quick:
            note(quick, [happening("1.2")])
        publish(engine)
        (seen,) = read(engine)
        assert seen.happening.StudyInstanceUID == "1.2"
    publish(engine)
    (late,) = read(engine, after=seen.id)
    assert late.happening.StudyInstanceUID == "1.1"
    with engine.connect() as undone:
        note(undone, [happening("1.3")])
        undone.rollback()
    publish(engine)
    assert read(engine, after=late.id) == []


def test_one_numbers_at_a_time(engine: Engine) -> None:
    with transaction(engine) as connection:
        note(connection, [happening("1.1")])
    with transaction(engine) as other:
        other.execute(text("SELECT last_id FROM event_feed FOR UPDATE"))
        before = publish(engine)  # does not wait, and numbers nothing
        assert read(engine) == []
    assert publish(engine).last > before.last
    assert [event.happening.StudyInstanceUID for event in read(engine)] == ["1.1"]


def test_readers_beside_many_writers_miss_nothing_and_get_nothing_twice(engine: Engine) -> None:
    done = threading.Event()

    def write(writer: int) -> None:
        for number in range(40):
            with transaction(engine) as connection:
                note(connection, [happening(f"1.{writer}.{number}.{part}") for part in range(2)])
                if number % 7 == writer:
                    time.sleep(0.02)

    def follow() -> list[Event]:
        found: list[Event] = []
        while True:
            ended = done.is_set()
            last = publish(engine).last
            after = found[-1].id if found else 0
            some = events_after(engine, after, until=last, sight=REVIEWER, limit=7)
            found += some
            if ended and not some:
                return found

    with ThreadPoolExecutor(7) as threads:
        readers = [threads.submit(follow) for _ in range(3)]
        writers = [threads.submit(write, writer) for writer in range(4)]
        for each in writers:
            each.result()
        done.set()
        for reader in readers:
            found = reader.result()
            assert len({event.happening.StudyInstanceUID for event in found}) == len(found) == 320
            assert [event.id for event in found] == sorted(event.id for event in found)


def test_numbers_are_beyond_those_of_the_index_before(engine: Engine) -> None:
    """As after a loss of the database, from a dump or from nothing."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    assert abs(read_feed(engine).removed_until - now) < 3_600_000
    rows(engine, "UPDATE event_feed SET last_id = 7, removed_until = 0 RETURNING 1")
    with transaction(engine) as connection:
        note(connection, [happening("1.1")])
    assert publish(engine).last >= now


def test_the_life_of_a_study(engine: Engine, store: ObjectStore) -> None:
    study = new_uid()

    def add(number: int, policies: PolicySet = NO_POLICIES) -> None:
        sent = [stage(store, image(StudyInstanceUID=study)).receipt for _ in range(number)]
        index_batch(sent, store=store, engine=engine, rules=ReadingRules())
        judge_studies(engine, policies)

    def news() -> list[str]:
        after = read(engine)[-1].id if read(engine) else 0
        publish(engine, calm=AT_ONCE)
        return [event.happening.kind.value for event in read(engine, after)]

    add(3)
    assert news() == ["received", "indexed"]
    add(2, PolicySet.of([ImagesPerStudy(4, Action.HOLD, True)]))
    assert news() == ["indexed", "held"]
    add(1)
    assert news() == ["indexed", "released"]
    later = datetime.now(UTC) + timedelta(days=1)
    quiet = QuietTimes(default=timedelta(minutes=5))
    assert complete_studies(engine, quiet, all_indexed_until=later, now=later) == 1
    assert news() == ["complete"]
    assert read(engine)[-1].happening.instances == 6


def test_a_study_that_is_coming_in_is_told_of_now_and_then(
    engine: Engine, store: ObjectStore
) -> None:
    study = new_uid()
    for _ in range(20):
        sent = stage(store, image(StudyInstanceUID=study)).receipt
        index_batch([sent], store=store, engine=engine, rules=ReadingRules())
        judge_studies(engine, NO_POLICIES)
        publish(engine, calm=timedelta(hours=1))
    assert told(engine) == [("received", study)]
    assert rows(engine, "SELECT kind, instances FROM event_note") == [("indexed", 20)]
    rows(engine, "UPDATE event_note SET at = at - interval '6 s' RETURNING 1")
    publish(engine)
    assert told(engine)[1:] == [("indexed", study)]
    assert read(engine)[-1].happening.instances == 20


def test_a_delivery_is_told_of(engine: Engine, store: ObjectStore, start_scp) -> None:
    archive = ForwardingArchive(engine, store)
    study, _ = archive.study(images=2)
    archive.push(study)
    archive.send(start_scp().port)
    publish(engine)
    assert told(engine)[-1] == ("delivered", study)
    assert read(engine)[-1].happening.destination == "PEER"


def test_of_what_is_out_of_sight_reviewers_alone_are_told(
    engine: Engine, store: ObjectStore
) -> None:
    hidden, held = new_uid(), PolicySet.of([ImagesPerStudy(1, Action.HOLD, False)])

    def add(number: int) -> None:
        sent = [stage(store, image(StudyInstanceUID=hidden)).receipt for _ in range(number)]
        index_batch(sent, store=store, engine=engine, rules=ReadingRules())

    def kinds(sight: Sight) -> list[str]:
        publish(engine, calm=AT_ONCE)
        return [event.happening.kind.value for event in read(engine, sight=sight)]

    add(2)
    assert kinds(REVIEWER) == []  # nobody has judged it: it is for nobody
    judge_studies(engine, held)
    of_reviewers = ["received", "indexed", "held"]
    assert kinds(REVIEWER) == of_reviewers
    assert kinds(READER) == []
    read_so_far = read_feed(engine).last
    judge_studies(engine, NO_POLICIES)
    add(1)
    assert kinds(REVIEWER) == [*of_reviewers, "released", "indexed"]
    # What a reader has passed by stays hidden, and what comes is beyond it.
    news = read(engine, sight=READER)
    assert [event.happening.kind.value for event in news] == ["released", "indexed"]
    assert news[0].id > read_so_far


@pytest.mark.parametrize(
    ("visible", "told"),
    [(True, ["received", "indexed", "held", "deleted", "purged"]), (False, [])],
)
def test_what_becomes_of_a_deleted_study_is_told_to_whom_it_was_visible(
    engine: Engine, store: ObjectStore, *, visible: bool, told: list[str]
) -> None:
    study = new_uid()
    sent = stage(store, image(StudyInstanceUID=study)).receipt
    index_batch([sent], store=store, engine=engine, rules=ReadingRules())
    judge_studies(engine, PolicySet.of([ImagesPerStudy(0, Action.HOLD, visible)]))
    before = read_feed(engine).last
    deletion = Deletion(
        id=new_object_id(),
        partition="main",
        StudyInstanceUID=study,
        deleted_at=datetime.now(UTC),
        deleted_by="ann",
    )
    with transaction(engine) as connection:
        assert delete(connection, deletion) == 1
    publish(engine)
    with transaction(engine) as connection:
        begin_purges(connection, after=timedelta())
        forget_deleted(connection, [sent.object_id])
        end_purges(connection)
    publish(engine)
    everything = [e.happening.kind.value for e in read(engine, before)]
    assert everything == ["received", "indexed", "held", "deleted", "purged"]
    assert [e.happening.kind.value for e in read(engine, before, sight=READER)] == told


def test_old_events_go(engine: Engine) -> None:
    with transaction(engine) as connection:
        note(connection, [happening("1.1"), happening("1.2")])
    publish(engine)
    rows(
        engine,
        "UPDATE event SET at = now() - interval '2 d' WHERE study_instance_uid = '1.1' RETURNING 1",
    )
    first, second = read(engine)
    remove_old(engine, keep=timedelta(days=1))
    assert read(engine) == [second]
    assert read_feed(engine).removed_until == first.id


class Followed:
    """A feed over HTTP and what makes things happen in it."""

    def __init__(self, web) -> None:
        self.web = web

    def happen(self, *studies: str, partition: str = "main") -> None:
        with transaction(self.web.engine) as connection:
            note(
                connection,
                [
                    Happening(
                        kind=EventKind.COMPLETE,
                        partition=partition,
                        StudyInstanceUID=uid,
                        visible=True,
                    )
                    for uid in studies
                ],
            )

    def get(self, query: str, **headers: str) -> httpx.Response:
        return self.web.get(f"/events?{query}", **headers)

    def latest(self) -> int:
        return self.get("after=latest").json()["last"]


@pytest.fixture(scope="module")
def feed(web) -> Followed:
    return Followed(web)


def studies(answer: httpx.Response) -> list[str]:
    return [event["StudyInstanceUID"] for event in answer.json()["events"]]


def test_pages(feed: Followed) -> None:
    begin = feed.latest()
    assert feed.get("after=latest").json() == {"events": [], "last": begin}
    feed.happen("2.1", "2.2", "2.3")
    feed.happen("2.4", partition="north")
    first = feed.get(f"after={begin}&limit=2")
    assert first.headers["content-type"] == "application/json"
    assert studies(first) == ["2.1", "2.2"]
    event = first.json()["events"][0]
    assert event.keys() == {"id", "at", "kind", "StudyInstanceUID"}
    rest = feed.get(f"after={first.json()['last']}&limit=2")
    assert studies(rest) == ["2.3"]
    # The other partition's number is passed over.
    assert feed.get(f"after={rest.json()['last']}").json() == {
        "events": [],
        "last": rest.json()["last"],
    }
    north = feed.web.client.get(
        feed.web.base.replace("/dicomweb", "/p/north/dicomweb") + f"/events?after={begin}"
    )
    assert studies(north) == ["2.4"]
    assert {"2.1", "2.3"} <= set(studies(feed.get("")))


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("after=x", "after"),
        ("after=-1", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("wait=soon", "wait"),
        ("after=" + "9" * 19, "after"),
    ],
)
def test_nonsense_is_refused_by_its_name(feed: Followed, query: str, parameter: str) -> None:
    answer = feed.get(query)
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


def test_a_long_poll_ends_when_something_happens(feed: Followed) -> None:
    begin = feed.latest()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(feed.get, f"after={begin}&wait=50s")
        until(lambda: feed.get("limit=1").status_code == 200, "others are served meanwhile")
        assert not waiting.done()
        feed.happen("3.1")
        answer = waiting.result(20)
    assert studies(answer) == ["3.1"]
    began = time.monotonic()
    assert feed.get(f"after={answer.json()['last']}&wait=500ms").json()["events"] == []
    assert time.monotonic() - began >= 0.4


def test_what_is_no_longer_kept_is_410(feed: Followed) -> None:
    feed.happen("4.1", "4.2")
    begin = feed.latest()
    rows(feed.web.engine, "UPDATE event_feed SET removed_until = :n RETURNING 1", n=begin)
    assert feed.get("after=1").status_code == 410
    assert feed.get(f"after={begin}").status_code == 200
    assert feed.get("after=0").status_code == 200


def messages(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    message: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and not line.startswith(":"):
            message[name] = value
        elif message.keys() >= {"data"}:
            yield message
            message = {}


def test_server_sent_events_go_on_where_they_were(feed: Followed) -> None:
    begin = feed.latest()
    url = f"{feed.web.base}/events?after={begin}"
    headers = {"Accept": "text/event-stream"}
    feed.happen("5.1")
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        stream = messages(answer.iter_lines())
        first = next(stream)
        feed.happen("5.2")
        second = next(stream)
    assert [first["event"], second["event"]] == ["complete", "complete"]
    assert json.loads(second["data"])["StudyInstanceUID"] == "5.2"
    assert json.loads(second["data"])["id"] == int(second["id"])
    headers["Last-Event-ID"] = first["id"]
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        assert next(messages(answer.iter_lines()))["id"] == second["id"]


def test_who_waits_holds_no_connection_of_the_database(feed: Followed, web) -> None:
    begin = feed.latest()
    with ThreadPoolExecutor(40) as threads:
        waiting = [threads.submit(feed.get, f"after={begin}&wait=40s") for _ in range(40)]
        until(lambda: web.engine.pool.checkedout() <= 1, "all wait")  # type: ignore[attr-defined]
        assert feed.get("limit=1").status_code == 200
        feed.happen("6.1")
        assert {tuple(studies(each.result(20))) for each in waiting} == {("6.1",)}

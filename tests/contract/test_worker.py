"""The worker as it runs: real processes, Redis, PostgreSQL and store; killed, cut off, flushed."""

import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from gantry_domain.keys import OBJECTS, first_object_id, parse_object_key
from gantry_domain.receipts import Receipt, encode_receipts
from gantry_stores.queue.names import INDEX_QUEUE, INDEX_TASK
from gantry_testkit.stored import encoded, image, rows, stage, states, with_changes
from gantry_testkit.waiting import until
from gantry_testkit.worker_process import images, parent, running


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """One for the tests that stop none of its servers, in the order in which they stand here."""
    with running(tmp_path_factory.mktemp("worker")) as worker:
        yield worker


def test_receipts_become_rows_and_metrics(worker):
    ds = image()
    sent = [*images(worker.store, 120), stage(worker.store, ds), stage(worker.store, ds)]
    conflict = stage(worker.store, with_changes(ds, PixelData=bytes(512)))
    broken = stage(worker.store, encoded(image()), head=b"no DICOM")
    chinese = image()
    del chinese.SpecificCharacterSet
    chinese.add_new(0x00100010, "PN", "王^小东".encode("gb18030"))
    named = stage(worker.store, chinese, calling_ae="china")
    worker.publish([*sent, conflict, broken, named])
    until(lambda: worker.indexed([*sent[:-1], conflict, broken, named]), "all are indexed")
    until(
        lambda: rows(worker.engine, "SELECT bool_and(visible) FROM study") == [(True,)],
        "all are judged",
    )
    assert states(worker.engine, [conflict, broken]) == [
        ("conflict", "other_content"),
        ("unreadable", "no_file_meta"),
    ]
    assert rows(
        worker.engine, "SELECT patient_name FROM study WHERE source = :id", id=named.object_id
    ) == [("王^小东",)]
    # The copy of the same bytes is purged by itself.
    until(lambda: states(worker.engine, sent[-1:]) == [None], "the copy's row is gone")
    keys = {parse_object_key(stat.key) for stat in worker.store.list(OBJECTS)}
    assert keys == {row[0] for row in rows(worker.engine, "SELECT id FROM object")}

    indexed = "gantry_worker_objects_indexed_total"
    assert worker.metric(indexed, state="primary") == 122
    assert worker.metric(indexed, state="duplicate") == 1
    assert worker.metric(indexed, state="conflict") == 1
    assert worker.metric(indexed, state="unreadable") == 1
    assert worker.metric("gantry_worker_index_lag_seconds_count") == 125
    assert worker.metric("gantry_worker_batch_seconds_count") >= 3
    assert worker.metric("gantry_worker_objects_purged_total") == 1
    until(
        lambda: worker.metric("gantry_worker_objects", state="primary") == 122,
        "the objects are measured",
    )
    assert worker.metric("gantry_worker_queue_length", queue="index") == 0
    text = worker.log.read_text()
    assert "Yamada" not in text


def test_a_message_of_another_version_is_dropped_and_holds_up_nothing(worker):
    with worker.app.connection_for_write() as connection:
        for message in ({"v": 99}, {"v": 1, "receipts": [["x"]]}, {}):
            worker.app.send_task(
                INDEX_TASK,
                args=[message],
                queue=INDEX_QUEUE,
                producer=worker.app.amqp.Producer(connection.channel()),
            )
    sent = images(worker.store, 3)
    worker.publish(sent)
    until(lambda: worker.indexed(sent), "the good ones are indexed")
    assert worker.metric("gantry_worker_tasks_failed_total", kind="permanent") == 3


def test_what_was_in_hand_when_a_pool_process_is_killed_is_indexed(worker):
    sent = images(worker.store, 200)
    for start in range(0, 200, 20):
        worker.publish(sent[start : start + 20])
    until(lambda: states(worker.engine, sent).count(None) < 200, "it has begun")
    pools = worker.pools()
    children = [pid for pid in pools if parent(pid) in pools]
    assert len(children) >= 3
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    until(lambda: worker.indexed(sent), "all are indexed", seconds=120)
    assert worker.ready()


def test_leftover_verdicts_are_given(worker):
    sent = images(worker.store, 2)
    worker.publish(sent)
    until(lambda: worker.indexed(sent), "both are indexed")
    until(
        lambda: rows(worker.engine, "SELECT bool_and(visible) FROM study") == [(True,)],
        "both are judged",
    )
    with worker.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE study SET revision = revision + 1")
    until(
        lambda: (
            rows(worker.engine, "SELECT bool_and(judged_revision = revision) FROM study")
            == [(True,)]
        ),
        "the beat had them judged again",
        seconds=20,
    )


def test_a_killed_supervisor_takes_everything_along(worker):
    assert worker.pools()
    worker.process.kill()
    worker.process.wait()
    until(lambda: worker.pools() == [], "no process is left")


def test_sigterm_ends_it_cleanly(worker):
    worker.start()
    assert worker.stop() == 0
    assert worker.pools() == []


@pytest.mark.long
def test_the_database_away_for_longer_than_a_task_waits(tmp_path):
    """Messages go back to the broker: nothing waits for the sweep, which never runs here."""
    with running(tmp_path) as worker:
        first = images(worker.store, 5)
        worker.publish(first)
        until(lambda: worker.indexed(first), "it works")
        worker.postgres.stop()
        sent = images(worker.store, 100)
        for start in range(0, 100, 10):
            worker.publish(sent[start : start + 10])
        until(
            lambda: worker.metric("gantry_worker_receipts_returned_total") > 0,
            "a message went back",
        )
        until(lambda: not worker.ready(), "the worker says that the database is away")
        worker.postgres.start()
        until(lambda: worker.indexed(sent), "all are indexed", seconds=20)
        assert worker.metric("gantry_worker_receipts_dropped_total") == 0
        until(worker.ready, "it is ready again")


@pytest.mark.long
def test_redis_killed_and_empty_the_sweep_finds_what_it_held(tmp_path):
    with running(tmp_path, sweep="{after: 2s, every: 1s}") as worker:
        first = images(worker.store, 5)
        worker.publish(first)
        until(lambda: worker.indexed(first), "it works")
        worker.redis.kill()
        lost = images(worker.store, 50)
        until(lambda: not worker.ready(), "the worker says that the broker is away")
        worker.redis.start()
        until(lambda: worker.indexed(lost), "the sweep found all", seconds=60)
        assert worker.metric("gantry_worker_sweep_found_total") >= 50
        # And messages flow again.
        later = images(worker.store, 5)
        worker.publish(later)
        until(lambda: worker.indexed(later), "messages are taken again", seconds=10)
        until(lambda: worker.metric("gantry_worker_open_hours") >= 1, "open hours are measured")
        assert worker.pools()


@pytest.mark.long
def test_the_sweep_adds_to_no_long_queue_and_memory_of_redis_is_bounded(tmp_path):
    with running(tmp_path, sweep="{after: 1s, every: 1s}") as worker:
        worker.postgres.stop()
        with worker.redis.client() as client:
            # More than are kept while the database is away.
            sent = Receipt(first_object_id(datetime.now(UTC) - timedelta(days=1)))
            with worker.app.connection_for_write() as connection:
                producer = worker.app.amqp.Producer(connection.channel())
                for _ in range(2300):
                    worker.app.send_task(
                        INDEX_TASK,
                        args=[encode_receipts([sent])],
                        queue=INDEX_QUEUE,
                        producer=producer,
                    )
            until(lambda: client.llen(INDEX_QUEUE) <= 2002, "the excess is dropped")
            assert worker.metric("gantry_worker_receipts_dropped_total") >= 200
            worker.postgres.start()
            until(lambda: client.llen(INDEX_QUEUE) == 0, "the queue is worked off")
        kept = images(worker.store, 3)
        until(lambda: worker.indexed(kept), "the sweep works")

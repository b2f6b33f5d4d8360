"""A worker whose broker died with its acknowledgements under way takes messages again."""

import contextlib
from collections.abc import Iterator

import pytest
from kombu import Consumer, Message, Producer, Queue

from gantry_stores.queue.application import make_celery
from gantry_stores.queue.names import INDEX_QUEUE
from gantry_testkit.redis_server import RedisServer

PREFETCH = 2


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.mark.parametrize("answer", ["ack", "reject", "requeue"])
def test_failed_answers_give_their_places_back(server: RedisServer, answer: str) -> None:
    app = make_celery(server.url)
    connection = app.connection_for_read()
    taken: list[Message] = []
    with Consumer(connection, [Queue(INDEX_QUEUE)], on_message=taken.append) as consumer:
        consumer.qos(prefetch_count=PREFETCH)
        producer = Producer(connection)
        for number in range(PREFETCH):
            producer.publish({"number": number}, routing_key=INDEX_QUEUE)
        while len(taken) < PREFETCH:
            connection.drain_events(timeout=10)
        places = consumer.channel.qos
        assert not places.can_consume()
        server.kill()
        for message in taken:
            with pytest.raises(connection.connection_errors):
                getattr(message, answer)()
        assert places.can_consume()
        server.start()
    with contextlib.suppress(*connection.connection_errors):
        connection.release()
    app.close()

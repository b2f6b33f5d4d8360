"""Brokers that are not next door: over TLS, and where Sentinel says."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from gantry_domain.errors import ConfigurationError
from gantry_domain.keys import new_object_id
from gantry_domain.receipts import Receipt
from gantry_stores.queue.address import broker_address
from gantry_stores.queue.application import make_celery
from gantry_stores.queue.names import INDEX_QUEUE
from gantry_stores.queue.receipts import ReceiptPublisher
from gantry_testkit import unprivileged
from gantry_testkit.ports import free_port
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.tls_door import TlsDoor
from gantry_testkit.waiting import until


def waiting(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.llen(INDEX_QUEUE))


def publish(url: str) -> ReceiptPublisher:
    """A publisher that has one receipt to send."""
    publisher = ReceiptPublisher(make_celery(url))
    publisher.publish(Receipt(new_object_id(), 1, bytes(32)))
    return publisher


@pytest.fixture
def door(redis_server: RedisServer, tmp_path: Path) -> Iterator[TlsDoor]:
    door = TlsDoor(redis_server.socket, folder=tmp_path)
    yield door
    door.close()


def test_receipts_go_over_tls(redis_server: RedisServer, door: TlsDoor) -> None:
    publisher = publish(f"rediss://localhost:{door.port}/0?ca_file={door.ca_file}")
    until(lambda: waiting(redis_server) == 1, "the receipt is in the queue")
    assert door.taken
    publisher.close(5)


@pytest.mark.parametrize("query", ["", "?ca_file={other}"])
def test_a_broker_that_is_signed_by_a_stranger_is_not_believed(
    door: TlsDoor, tmp_path: Path, query: str
) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    other = TlsDoor(1, folder=stranger)
    other.close()
    url = f"rediss://localhost:{door.port}/0" + query.format(other=other.ca_file)
    with (
        make_celery(url).connection_for_write() as connection,
        pytest.raises((OperationalError, redis.ConnectionError), match=r"(?i)certificate"),
    ):
        connection.ensure_connection(max_retries=1, timeout=3)
    assert not door.taken


class Watched:
    """A Redis on a TCP port of this machine, with one Sentinel that watches it."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self.folder = folder
        self.port, self.sentinel_port = free_port(), free_port()
        self._log = (folder / "log").open("wb")
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"bind 127.0.0.1\nport {self.sentinel_port}\ndir {folder}\n"
            f"sentinel monitor ours 127.0.0.1 {self.port} 1\n"
        )
        who = unprivileged.account()
        for path in (folder, configuration):
            os.chown(path, who.pw_uid, who.pw_gid)
        network = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", folder)
        self._processes = [
            self._spawn(binary, *network, "--save", "", "--appendonly", "no"),
            self._spawn(binary, configuration, "--sentinel"),
        ]

    def _spawn(self, *command: str | Path) -> subprocess.Popen[bytes]:
        return unprivileged.spawn(
            command, cwd=self.folder, log=self._log, stop_signal=signal.SIGTERM
        )

    def waiting(self) -> int:
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            return int(client.llen(INDEX_QUEUE))

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.sentinel_port, socket_timeout=5) as client:
                return bool(client.execute_command("SENTINEL", "ckquorum", "ours"))
        except redis.RedisError:
            return False

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(10)
        self._log.close()


@pytest.fixture
def watched(redis_server: RedisServer) -> Iterator[Watched]:
    folder = unprivileged.private_folder("gantry-sentinel-")
    watched = Watched(folder, redis_server.binary)
    until(watched.answers, "the Sentinel knows the master")
    yield watched
    watched.close()
    shutil.rmtree(folder)


def test_sentinel_says_where_the_broker_is(watched: Watched) -> None:
    # The first Sentinel is down.
    url = f"sentinel://127.0.0.1:{free_port()},127.0.0.1:{watched.sentinel_port}/0?master=ours"
    publisher = publish(url)
    until(lambda: watched.waiting() == 1, "the receipt is in the queue of the master")
    publisher.close(5)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://host", "must begin with redis, rediss or sentinel"),
        ("sentinel://host/0", "the name of the master"),
        ("redis://host/0?ca_file=x", "ca_file means nothing for redis"),
        ("rediss://host/0?cafile=x", "cafile means nothing for rediss"),
    ],
)
def test_what_cannot_be_meant_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        broker_address(url)


def test_passwords_are_not_shown() -> None:
    address = broker_address("sentinel://:hush@one:1,two/3?master=ours&tls=yes")
    assert "hush" not in repr(address)
    assert address.url == "sentinel://:hush@one:1/3;sentinel://:hush@two:26379/3"
    assert address.options["sentinel_kwargs"]["password"] == "hush"
    assert address.options["sentinel_kwargs"]["ssl"]

"""Limits of callers that hold over several machines: doors that share a real Redis."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from gantry_archive.cluster_slots import ClusterSlots, slots_of
from gantry_dimse.limits import Terms
from gantry_dimse.slots import AssociationSlots
from gantry_runtime.settings import load_settings
from gantry_stores.queue.leases import LeasedPlaces
from gantry_testkit.door import (
    RELEASE,
    RELEASED,
    Door,
    association_request,
    established,
    exchange,
    receive,
)
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.waiting import until

LIMIT_REACHED = bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))
ONE = Terms(max_associations=1)
EXPIRY = 3.0


class Machine:
    """A door with slots of its own, and a share in those of all."""

    def __init__(self, folder: Path, broker: str, open_door: Callable[..., Door]) -> None:
        self.told: list[str] = []
        folder.mkdir()
        self.places = LeasedPlaces(
            broker,
            service="test",
            expiry=EXPIRY,
            on_away=lambda _error: self.told.append("away"),
            on_back=lambda: self.told.append("back"),
        )
        self.slots = ClusterSlots(AssociationSlots(folder / "slots", count=10), self.places)
        self.door = open_door(slots=self.slots, terms=lambda _peer: ONE)

    def answers(self) -> bytes:
        """What a request for an association gets."""
        return exchange(self.door, association_request())[:10]

    def close(self) -> None:
        self.door.server.close()  # its threads may still have the slots in hand
        self.slots.close()


def leases(server: RedisServer) -> int:
    """How many places of the caller are taken."""
    with server.client() as client:
        return int(client.zcard("gantry:places:test:ae raw"))


@pytest.fixture
def machines(
    redis_server: RedisServer, tmp_path: Path, open_door: Callable[..., Door]
) -> Iterator[tuple[Machine, Machine]]:
    made = [Machine(tmp_path / name, redis_server.url, open_door) for name in ("one", "two")]
    until(lambda: all(machine.places.shared for machine in made), "the broker is reached")
    yield made[0], made[1]
    for machine in made:
        machine.close()


def test_two_machines_count_one_caller_together(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    for first, second in ((one, two), (two, one)):
        with established(first.door) as sock:
            assert second.answers() == LIMIT_REACHED
            assert first.answers() == LIMIT_REACHED
            sock.sendall(RELEASE)
            assert receive(sock) == RELEASED
        # At once: a device that opens an association for each image never waits.
        with established(second.door) as sock:
            sock.sendall(RELEASE)
            assert receive(sock) == RELEASED
    assert one.told == two.told == []


def test_an_association_that_lasts_keeps_its_place(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    with established(one.door):
        time.sleep(EXPIRY + 1)
        assert two.answers() == LIMIT_REACHED
    until(lambda: two.answers()[0] == 2, "its place is free")


def test_the_places_of_a_killed_machine_are_free_after_a_while(
    machines: tuple[Machine, Machine], redis_server: RedisServer
) -> None:
    _, two = machines
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            places = LeasedPlaces(redis_server.url, service="test", expiry=EXPIRY)
            until(lambda: places.shared)
            os.write(writer, b"%d" % (places.take([("ae raw", 1)]) is not None))
            signal.pause()
        finally:
            os._exit(1)
    assert os.read(reader, 1) == b"1"
    assert two.answers() == LIMIT_REACHED
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    begun = time.monotonic()
    until(lambda: two.answers()[0] == 2, "its lease has expired")
    assert 1 < time.monotonic() - begun < 10
    os.close(reader)
    os.close(writer)


def test_without_the_broker_each_machine_counts_alone(
    machines: tuple[Machine, Machine], redis_server: RedisServer
) -> None:
    one, two = machines
    redis_server.kill()
    begun = time.monotonic()
    with established(one.door):
        assert one.answers() == LIMIT_REACHED
        with established(two.door):
            assert time.monotonic() - begun < 5  # nobody waits for it
            assert two.answers() == LIMIT_REACHED
            assert one.told == two.told == ["away"]
            redis_server.start()
            until(lambda: one.told == two.told == ["away", "back"])
            # What began meanwhile counts: one goes, and the other is still there.
            until(lambda: leases(redis_server) == 2)
        until(lambda: leases(redis_server) == 1)
        assert two.answers() == LIMIT_REACHED
    until(lambda: two.answers()[0] == 2)


def test_a_broker_that_hangs_holds_nobody_up(
    machines: tuple[Machine, Machine], redis_server: RedisServer
) -> None:
    one, two = machines
    redis_server.send(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with established(one.door), established(two.door):
            assert time.monotonic() - begun < 5
            until(lambda: one.told == two.told == ["away"])
    finally:
        redis_server.send(signal.SIGCONT)
    until(lambda: one.told == two.told == ["away", "back"])


def test_that_the_broker_is_away_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "gantry.yaml").write_text(
        "broker: redis://127.0.0.1:1/0\ningress: {max_associations_per_ae: 1}"
    )
    found = load_settings(
        {"GANTRY_CONFIG": str(tmp_path / "gantry.yaml"), "GANTRY_DATA": str(tmp_path)}
    )
    away = Gauge("away", "away", registry=CollectorRegistry())
    slots = slots_of(found, found.ingress, tmp_path / "slots", service="test", away=away)
    value = lambda: next(iter(away.collect())).samples[0].value  # noqa: E731
    until(lambda: value() == 1)
    assert slots.take() is not None
    slots.close()

"""10,000 instances to two destinations while workers are killed and Redis is restarted."""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blackbox.datasets import Sample, image, new_uid, write
from blackbox.index import Index
from blackbox.run import Gantry
from blackbox.scp import Scp
from blackbox.scu import storescu
from blackbox.stores import NewStore
from blackbox.waiting import until

STUDIES, IMAGES = 50, 200
CONCURRENCY = 2
# The instance on its way, and answers that were being written.
IN_FLIGHT = 1 + 8
CONFIG = """
complete_after: 2s
sweep: {{after: 3s, every: 1s}}
http: {{processes: 1}}
ingress: {{processes: 1}}
query: {{processes: 1}}
worker: {{processes: 2}}
partners:
  - {{ae_title: ONE, address: '127.0.0.1:{one}'}}
  - {{ae_title: TWO, address: '127.0.0.1:{two}'}}
routes:
  - {{name: everything, send_to: [ONE, TWO]}}
forward: {{lease: 3s, concurrency: {concurrency}, backoff: {{first: 500ms, longest: 1s}}}}
"""


@dataclass
class Killer:
    """Kills one of the worker's processes after the other, whichever, and Redis twice: each after
    some hundred steps of progress, so that a slow machine comes to its end too."""

    run: Gantry
    chance: random.Random
    progress: Callable[[], int]
    killed: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Killer":
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        due = self.chance.randrange(500, 1000)
        while not self._over.wait(0.05):
            if self.progress() < due:
                continue
            due += self.chance.randrange(300, 1200)
            if len(self.killed) in (6, 20):
                with suppress(AssertionError):  # just now there is none, or a new one begins
                    self.run.engine("redis-server").send(signal.SIGKILL)
                    self.killed.append("redis")
                continue
            victims = [seen for seen in self.run.children("worker") if seen.running()]
            if victims:
                victim = self.chance.choice(victims)
                victim.send(signal.SIGKILL)
                self.killed.append(victim.name)


@pytest.fixture
def destinations() -> Iterator[tuple[Scp, Scp]]:
    with closing(Scp()) as one, closing(Scp()) as two:
        yield one, two


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_both_get_exactly_the_set_while_workers_are_killed(
    tmp_path: Path, new_store: NewStore, destinations: tuple[Scp, Scp]
) -> None:
    one, two = destinations
    config = CONFIG.format(one=one.port, two=two.port, concurrency=CONCURRENCY)
    run = Gantry(config=config, store=new_store())
    samples: list[Sample] = []
    for _ in range(STUDIES):
        study, series = new_uid(), new_uid()
        samples += [
            write(image(study=study, series=series, number=n), tmp_path) for n in range(IMAGES)
        ]
    wanted = {sample.SOPInstanceUID for sample in samples}
    try:
        run.start()
        sent = [0]

        def progress() -> int:
            return sent[0] + sum(len(each.received) for each in destinations)

        with Killer(run, random.Random(7), progress) as killer:
            for first in range(0, len(samples), 500):
                some = samples[first : first + 500]
                answers = storescu(run.port("dimse"), some, calling_ae="CT01")
                assert list(answers.values()) == ["Success"] * len(some)
                sent[0] += len(some)
            until(
                lambda: all(len(each.received) == len(wanted) for each in destinations),
                "both have all",
                seconds=1500,
                every=1.0,
            )
        index = Index(run)

        def table() -> list[tuple[object, ...]]:
            return index.rows(
                "SELECT d.destination, d.state, p.state, count(DISTINCT d.pk), count(*)"
                " FROM delivery d JOIN delivery_item p ON p.delivery_pk = d.pk"
                " GROUP BY 1, 2, 3 ORDER BY 1"
            )

        done = [
            (title, "delivered", "accepted", STUDIES, STUDIES * IMAGES) for title in ("ONE", "TWO")
        ]
        until(lambda: table() == done, "the table says so", seconds=60)
        repeated = [each.received.total() - len(wanted) for each in destinations]
        print(f"killed: {killer.killed}; repeated: {repeated}")
        assert all(set(each.received) == wanted for each in destinations)
        lanes = killer.killed.count("lanes")
        assert killer.killed.count("redis") == 2
        assert lanes
        assert max(repeated) <= lanes * CONCURRENCY * IN_FLIGHT
    finally:
        run.clean()

"""The worker as it runs, under its supervisor, with servers and a store of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gantry_domain.receipts import encode_receipts
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore, ObjectStore
from gantry_stores.queue.application import make_celery
from gantry_stores.queue.names import INDEX_QUEUE, INDEX_TASK
from gantry_testkit import supervised
from gantry_testkit.ports import free_port_base
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.stored import Sent, image, receipts, stage, states
from gantry_testkit.waiting import until


def parent(pid: int) -> int:
    """The parent of a process."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


class Worker:
    """A worker under its supervisor, with engines of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        sweep: str = "{after: 1h, every: 1h}",
        module: str = "gantry_worker",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`module` is started as the worker; `environment` joins that of this process."""
        self.postgres = PostgresServer()
        self.redis = RedisServer()
        self.url = self.postgres.create_database("worker")
        migrations.upgrade(self.url)
        self.engine = make_engine(self.url)
        self.store = DirectoryStore(folder / "objects")
        self.base = free_port_base(9102)
        config = folder / "gantry.yaml"
        database = self.url.replace("postgresql+psycopg", "postgresql")
        config.write_text(
            f"database: {database}\nbroker: {self.redis.url}\nobjects: {folder / 'objects'}\n"
            f"sweep: {sweep}\nworker: {{processes: 2, batch: 50}}\n"
            "partners:\n  - {ae_title: CHINA, charset: GB18030}\n"
        )
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GANTRY_")},
            "GANTRY_CONFIG": str(config),
            "GANTRY_DATA": str(folder / "data"),
            "GANTRY_PORT_BASE": str(self.base),
            **(environment or {}),
        }
        self._module = module
        self._log = (folder / "log").open("wb")
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.app = make_celery(self.redis.url)

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self.ready, "the worker is ready")

    def ready(self) -> bool:
        """Whether it says that it is."""
        try:
            return httpx.get(f"http://127.0.0.1:{9102 + self.base}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = httpx.get(f"http://127.0.0.1:{9102 + self.base}/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def publish(self, sent: Sequence[Sent]) -> None:
        """Send one message with the receipts of these objects."""
        with self.app.connection_for_write() as connection:
            self.app.send_task(
                INDEX_TASK,
                args=[encode_receipts(receipts(sent))],
                queue=INDEX_QUEUE,
                producer=self.app.amqp.Producer(connection.channel()),
                retry=False,
            )

    def indexed(self, sent: Sequence[Sent]) -> bool:
        """Whether each of these objects has its row."""
        return all(states(self.engine, sent))

    def pools(self) -> list[int]:
        """The processes that take messages and those that do the work."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/environ", "rb") as environ:
                    ours = f"GANTRY_CONFIG={self._environment['GANTRY_CONFIG']}".encode()
                    mine = ours in environ.read().split(b"\0")
                pool = supervised.name(Path(f"/proc/{entry}")) in {"index", "chores"}
            except OSError:
                continue
            if mine and pool:
                found.append(int(entry))
        return found

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.process = None
        return status

    def close(self) -> None:
        """Kill what still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.engine.dispose()
        self.postgres.close()
        self.redis.close()
        self._log.close()
        self.app.close()


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Worker]:
    """A worker that is ready; it has servers of its own, which the test may stop."""
    worker = Worker(folder, **options)
    try:
        worker.start()
        yield worker
    finally:
        worker.close()


def images(store: ObjectStore, number: int, **options: Any) -> list[Sent]:
    """Stages so many objects, each of a study of its own."""
    return [stage(store, image(), **options) for _ in range(number)]

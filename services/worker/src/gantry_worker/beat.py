"""`python -m gantry_worker.beat`: sends the chores when they are due, and watches the stores.

What is sent while nobody works expires: it never adds up.
"""

import sys
import threading
from datetime import timedelta

from celery import Celery
from celery.beat import Scheduler, Service
from sqlalchemy.engine import Engine

from gantry_domain.errors import TransientError
from gantry_runtime.entry import run
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process, attach
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import make_engine, ping
from gantry_stores.objects import ObjectStore, open_store
from gantry_stores.queue.application import make_celery
from gantry_stores.queue.names import (
    BEAT_QUEUE,
    COMPLETE_TASK,
    FRAMES_TASK,
    JUDGE_TASK,
    MEASURE_TASK,
    PUBLISH_TASK,
    PURGE_TASK,
    SWEEP_TASK,
)
from gantry_worker.broker import Broker

log = get_logger(__name__)

_JUDGE_EVERY = timedelta(seconds=5)
_PURGE_EVERY = timedelta(seconds=5)
_FRAMES_EVERY = timedelta(seconds=5)
_PUBLISH_EVERY = timedelta(seconds=5)
_COMPLETE_EVERY = timedelta(seconds=5)
_MEASURE_EVERY = timedelta(seconds=5)
_LONGEST_SLEEP = 1
_WATCH_SECONDS = 5.0
_RETRY_SECONDS = 1.0


def schedule(settings: Settings) -> dict[str, dict[str, object]]:
    """When each chore is due, as Celery's `beat_schedule`."""
    due = {
        SWEEP_TASK: settings.sweep.every,
        JUDGE_TASK: _JUDGE_EVERY,
        PURGE_TASK: _PURGE_EVERY,
        FRAMES_TASK: _FRAMES_EVERY,
        PUBLISH_TASK: _PUBLISH_EVERY,
        COMPLETE_TASK: _COMPLETE_EVERY,
        MEASURE_TASK: _MEASURE_EVERY,
    }
    return {
        task: {
            "task": task,
            "schedule": every,
            "options": {"queue": BEAT_QUEUE, "expires": every.total_seconds()},
        }
        for task, every in due.items()
    }


def main() -> int:
    """Send and watch until SIGTERM."""
    process = attach("worker")
    settings = load_settings()
    app = make_celery(settings.broker_url)
    app.conf.beat_schedule = schedule(settings)
    service = Service(app, max_interval=_LONGEST_SLEEP, scheduler_cls=Scheduler)
    beat = threading.Thread(target=service.start, name="celery-beat", daemon=True)
    beat.start()
    watch = _Watch(settings, process, app)
    while not process.stopping.is_set() and beat.is_alive():
        process.stopping.wait(watch.look())
    if not process.stopping.is_set():
        log.error("beat_ended")
        return 1
    service.stop(wait=False)
    beat.join(2 * _LONGEST_SLEEP)
    return 0


class _Watch:
    """Whether the stores that the tasks need are there, for the pools cannot look themselves."""

    def __init__(self, settings: Settings, process: Process, app: Celery) -> None:
        self._settings = settings
        self._process = process
        self._broker = Broker(app)
        self._engine: Engine = make_engine(
            settings.database_url, pool_size=1, application_name="gantry-worker-watch"
        )
        self._store: ObjectStore | None = None

    def look(self) -> float:
        """Tell the supervisor; returns when to look again, in seconds."""
        try:
            self._broker.length(BEAT_QUEUE)
            ping(self._engine)
            if self._store is None:
                self._store = open_store(self._settings.objects_place)
            self._store.probe()
        except TransientError as error:
            self._process.not_ready(str(error))
            return _RETRY_SECONDS
        self._process.ready()
        return _WATCH_SECONDS


if __name__ == "__main__":
    sys.exit(run(main))

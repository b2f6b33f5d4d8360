"""The Celery tasks: the door between messages and the work, where every failure is told apart."""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import Reject

from gantry_domain.errors import PermanentError, TransientError
from gantry_runtime.logs import get_logger
from gantry_stores.queue.names import (
    COMPLETE_TASK,
    FRAMES_TASK,
    INDEX_TASK,
    JUDGE_TASK,
    MEASURE_TASK,
    PUBLISH_TASK,
    PURGE_TASK,
    SWEEP_TASK,
)
from gantry_worker import metrics, work
from gantry_worker.workshop import Workshop

log = get_logger(__name__)


def register(app: Celery, workshop: Callable[[], Workshop]) -> None:
    """Give the application its tasks; `workshop` is that of the process that runs one."""

    @app.task(name=INDEX_TASK, shared=False, bind=True)
    def index(task: Any, message: dict[str, Any]) -> None:
        again = bool(task.request.delivery_info.get("redelivered"))
        try:
            work.index(workshop(), message, again=again)
        except work.GiveBack as back:
            raise Reject(str(back.__cause__), requeue=True) from back
        except PermanentError as error:
            _failed("index", "permanent", error)
        except Exception as error:  # noqa: BLE001 - the door: the sweep has the objects again
            _failed("index", "unexpected", error)

    chores: dict[str, Callable[[Workshop], None]] = {
        JUDGE_TASK: work.judge_waiting,
        SWEEP_TASK: work.run_sweep,
        PURGE_TASK: work.purge,
        FRAMES_TASK: work.frames,
        PUBLISH_TASK: work.publish_events,
        COMPLETE_TASK: work.complete,
        MEASURE_TASK: work.measure,
    }
    for name, chore in chores.items():
        app.task(name=name, shared=False)(_chore(name, chore, workshop))


def _chore(
    name: str, chore: Callable[[Workshop], None], workshop: Callable[[], Workshop]
) -> Callable[[], None]:
    label = name.rpartition(".")[2]

    def run() -> None:
        try:
            chore(workshop())
        except TransientError as error:
            # The next beat tries again.
            metrics.TASKS_FAILED.labels(label, "transient").inc()
            log.warning("chore_waits", task=label, exc_info=error)
        except Exception as error:  # noqa: BLE001 - the door: the next beat tries again
            _failed(label, "unexpected", error)

    return run


def _failed(task: str, kind: str, error: Exception) -> None:
    metrics.TASKS_FAILED.labels(task, kind).inc()
    log.error("task_failed", task=task, kind=kind, exc_info=error)

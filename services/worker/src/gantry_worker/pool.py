"""`python -m gantry_worker.pool NAME PROCESSES QUEUE...`: Celery's worker with its pool.

This process takes messages from the broker and never opens a store: its children are forked from
it at any time. They open stores of their own when they have work.
"""

import os
import sys
import warnings
from typing import Any

from celery import signals
from celery.utils.log import get_multiprocessing_logger

from gantry_runtime.entry import run
from gantry_runtime.lifeline import PARENT, die_with_parent
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process, attach
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.queue.application import make_celery
from gantry_worker.tasks import register
from gantry_worker.workshop import Workshop

log = get_logger(__name__)

# A child beyond it is replaced after its task, in KiB.
_LARGEST_CHILD = 600 * 1024


class _Child:
    """The workshop of this pool process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parent = {PARENT: str(os.getpid())}
        self._workshop: Workshop | None = None

    def begin(self, **_signal: object) -> None:
        """After the fork: tie this process to its parent, and start with nothing open."""
        die_with_parent(environ=self._parent)
        self._workshop = Workshop(self._settings)

    def workshop(self) -> Workshop:
        """The stores of this process."""
        assert self._workshop is not None, "a task ran outside of the pool"
        return self._workshop


def main() -> int:
    """Take messages until SIGTERM, then finish what was begun."""
    name, processes, *queues = sys.argv[1:]
    process = attach("worker")
    settings = load_settings()
    child = _Child(settings)
    _connect_signals(process, child)
    app = make_celery(settings.broker_url)
    register(app, child.workshop)
    # As root Celery warns; whoever runs Gantry as root was told so by the command.
    warnings.filterwarnings("ignore", message=r"(?s).*superuser privileges")
    worker: Any = app.Worker(
        hostname=f"{name}@gantry",
        pool="prefork",
        concurrency=int(processes),
        queues=queues,
        optimization="fair",
        max_memory_per_child=_LARGEST_CHILD,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    log.info("pool_stopped", pool=name)
    return int(worker.exitcode or 0)


def _connect_signals(process: Process, child: _Child) -> None:
    def keep_our_logs(**_signal: object) -> None:
        """A receiver of this signal is enough to keep Celery's hands off the logs.

        Without a logger, billiard prints what ends a child as a trace of many lines.
        """
        logger = get_multiprocessing_logger()
        if logger is not None:
            logger.propagate = True

    def tell_ready(**_signal: object) -> None:
        process.ready()

    signals.setup_logging.connect(keep_our_logs, weak=False)
    signals.worker_process_init.connect(child.begin, weak=False)
    signals.worker_ready.connect(tell_ready, weak=False)


if __name__ == "__main__":
    sys.exit(run(main))

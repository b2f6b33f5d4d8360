"""Starts the worker: supervises the Celery processes that index, those that tidy up, and the beat.

beat ──▶ sweep, judge, purge, frames, measure ──▶ chores (one process)
ingress ──▶ receipts ──────────────────────────▶ index (as many processes as configured)
delivery rows ─────────────────────────────────▶ lanes (one process, threads per destination)
"""

from gantry_archive.outgoing_tls import check_outgoing_tls
from gantry_runtime.settings import load_settings
from gantry_runtime.supervision import ProcessSpec, Supervisor
from gantry_stores.queue.names import BEAT_QUEUE, INDEX_QUEUE, JUDGE_QUEUE

# A batch waits at most half of it for the database, and then goes back to the broker; lanes end
# their present instances, then break off.
_STOP_GRACE = 30.0


def main() -> int:
    """Run until SIGTERM. Raises `ConfigurationError`, as for a port in use."""
    settings = load_settings()
    # Here too, for what is wrong is then one line.
    check_outgoing_tls(settings)
    for webhook in settings.webhooks:
        settings.webhook_keys(webhook.name)
    index = ProcessSpec(
        name="index",
        module="gantry_worker.pool",
        arguments=("index", str(settings.worker.processes), INDEX_QUEUE),
        stop_grace=_STOP_GRACE,
    )
    # Apart from the index, so that a long backlog there holds up neither sweep nor verdicts.
    chores = ProcessSpec(
        name="chores",
        module="gantry_worker.pool",
        arguments=("chores", "1", JUDGE_QUEUE, BEAT_QUEUE),
        stop_grace=_STOP_GRACE,
    )
    beat = ProcessSpec(name="beat", module="gantry_worker.beat", stop_grace=_STOP_GRACE)
    forward = ProcessSpec(name="lanes", module="gantry_worker.lanes", stop_grace=_STOP_GRACE)
    return Supervisor(
        "worker",
        [index, chores, beat, forward],
        settings.listen.address,
        settings.ports.worker_metrics,
    ).run()

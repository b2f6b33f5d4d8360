"""The Celery application that all services share: queues, task names and the broker's settings.

Every task may run twice and must end within `LONGEST_TASK_SECONDS`: a message that no worker
acknowledged within the visibility timeout is delivered again. Losing the broker loses nothing,
for the sweep finds what it held.
"""

from celery import Celery
from kombu import Queue

from gantry_stores.queue.address import broker_address
from gantry_stores.queue.names import (
    BEAT_QUEUE,
    FRAMES_TASK,
    INDEX_QUEUE,
    INDEX_TASK,
    JUDGE_QUEUE,
    JUDGE_TASK,
    MEASURE_TASK,
    PURGE_TASK,
    QUEUES,
    SWEEP_TASK,
    VISIBILITY_SECONDS,
)
from gantry_stores.queue.transport import use_transport

_SOCKET_SECONDS = 10


def make_celery(broker_url: str) -> Celery:
    """The application for one process; made after a fork, never before. Connects when used.

    `broker_url`: as `gantry_stores.queue.address` reads it, with its password.
    """
    use_transport()
    address = broker_address(broker_url)
    app = Celery("gantry", broker=address.url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        # A prefork child that is killed loses its task without this.
        task_reject_on_worker_lost=True,
        # What waits in a worker's memory runs into the visibility timeout.
        worker_prefetch_multiplier=1,
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=INDEX_QUEUE,
        task_create_missing_queues=False,
        task_routes={
            INDEX_TASK: {"queue": INDEX_QUEUE},
            JUDGE_TASK: {"queue": JUDGE_QUEUE},
            SWEEP_TASK: {"queue": BEAT_QUEUE},
            PURGE_TASK: {"queue": BEAT_QUEUE},
            FRAMES_TASK: {"queue": BEAT_QUEUE},
            MEASURE_TASK: {"queue": BEAT_QUEUE},
        },
        enable_utc=True,
        timezone="UTC",
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=5,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_SECONDS,
            # The defaults look for abandoned messages every 100 s only.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": _SOCKET_SECONDS,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            **address.options,
        },
        broker_use_ssl=address.tls or False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
    )
    return app

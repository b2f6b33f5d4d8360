"""The queue between the services: Celery tasks over Redis, and the publisher of receipts."""

from gantry_stores.queue.address import broker_address
from gantry_stores.queue.application import (
    BEAT_QUEUE,
    FORWARD_QUEUE,
    INDEX_QUEUE,
    INDEX_TASK,
    JUDGE_QUEUE,
    JUDGE_TASK,
    LONGEST_TASK_SECONDS,
    MEASURE_TASK,
    PURGE_TASK,
    QUEUES,
    SWEEP_TASK,
    VISIBILITY_SECONDS,
    make_celery,
)
from gantry_stores.queue.receipts import ReceiptPublisher

__all__ = [
    "BEAT_QUEUE",
    "FORWARD_QUEUE",
    "INDEX_QUEUE",
    "INDEX_TASK",
    "JUDGE_QUEUE",
    "JUDGE_TASK",
    "LONGEST_TASK_SECONDS",
    "MEASURE_TASK",
    "PURGE_TASK",
    "QUEUES",
    "SWEEP_TASK",
    "VISIBILITY_SECONDS",
    "ReceiptPublisher",
    "broker_address",
    "make_celery",
]

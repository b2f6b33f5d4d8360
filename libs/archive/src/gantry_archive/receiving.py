"""What every door needs through which objects come: a store, a stager, receipts, watermarks."""

from pathlib import Path

from gantry_archive.receipt_metrics import ReceiptMetrics
from gantry_archive.staging import Admit, Stager, admit_all
from gantry_archive.watermarks import Watermarks
from gantry_domain.errors import TransientError
from gantry_domain.object_place import ObjectPlace
from gantry_domain.policies.door import has_limits
from gantry_domain.policies.quota import has_quotas
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process
from gantry_runtime.settings import Settings
from gantry_stores.objects import ObjectStore, open_store
from gantry_stores.queue.application import make_celery
from gantry_stores.queue.receipts import ReceiptPublisher

log = get_logger(__name__)


def publisher_of(settings: Settings, metrics: ReceiptMetrics) -> ReceiptPublisher:
    """The publisher of this process's receipts, counted."""
    return ReceiptPublisher(
        make_celery(settings.broker_url),
        on_published=metrics.published.inc,
        on_dropped=metrics.dropped.inc,
        on_waiting=metrics.waiting.set,
        on_failure=lambda error: log.warning("broker_away", error=type(error).__name__),
    )


def stager_of(
    settings: Settings, process: Process, *, store: ObjectStore, publisher: ReceiptPublisher
) -> Stager:
    """The stager of this process, within the limits of the configuration."""
    limits = settings.ingress
    return Stager(
        store=store,
        publish=publisher.publish,
        max_object_size=limits.max_object_size,
        store_patience=limits.store_patience.total_seconds(),
        stopping=process.stopping,
        admit=_admission(settings),
    )


def _admission(settings: Settings) -> Admit:
    """What counts at the door, if a rule limits the images of a study or has a quota."""
    rules = settings.policy_set.rules
    if not has_limits(rules) and not has_quotas(rules):
        return admit_all
    # Only then this process needs the index, whose driver is half as large as all the rest.
    from gantry_archive.door_limit import door_of

    return door_of(settings)


def watermarks_of(settings: Settings) -> Watermarks:
    """When this process takes nothing new. The room of a bucket is not looked at."""
    place = settings.objects_place
    return Watermarks(
        memory=settings.ingress.memory_watermark,
        free_space=settings.ingress.free_space_watermark,
        folder=place if isinstance(place, Path) else None,
    )


def await_store(place: ObjectPlace, process: Process, *, retry: float) -> ObjectStore | None:
    """The object store, as soon as there is one; None when the process shall stop before.

    It is looked for every `retry` seconds, and the process tells meanwhile why it is not ready.
    """
    while not process.stopping.is_set():
        try:
            return open_store(place)
        except TransientError as error:
            process.not_ready(str(error))
            process.stopping.wait(retry)
    return None

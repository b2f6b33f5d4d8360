"""`python -m gantry_ingress.receiver FILE`: one process that serves the DIMSE front door.

FILE is where the processes count their associations together. The process is ready while the
object store's probe succeeds. It accepts associations when it is not, too: a short outage is waited
out object by object, and a long one is answered with A700, which tells a sender more than a port
that is closed.
"""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from gantry_archive.association_watch import AssociationWatch
from gantry_archive.dimse_door import partners_of, server_limits, tls_files, user_identities
from gantry_archive.staging import Stager
from gantry_archive.watermarks import Watermarks
from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.server import DimseServer
from gantry_dimse.slots import AssociationSlots
from gantry_dimse.tls import ServerTLS
from gantry_domain.errors import ConfigurationError, TransientError
from gantry_domain.keys import LONGEST_RECEPTION
from gantry_domain.object_place import ObjectPlace
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_ingress import metrics
from gantry_ingress.app import LISTENER, STOP_GRACE, TLS_LISTENER
from gantry_ingress.reception import StoreService
from gantry_runtime.entry import run
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process, attach
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.objects import ObjectStore, open_store
from gantry_stores.queue.application import make_celery
from gantry_stores.queue.receipts import ReceiptPublisher

log = get_logger(__name__)

# What is left of the longest reception for the store to make the object durable; more than its
# patience, which ends at 5 minutes.
_COMMIT_TIME = timedelta(minutes=10)

_PROBE_SECONDS = 10.0
_RETRY_SECONDS = 1.0

# Of `STOP_GRACE`: first the associations, then the receipts that they left.
_DRAIN_SECONDS = STOP_GRACE - 12.0
_FLUSH_SECONDS = 5.0


def main() -> int:
    """Serve until SIGTERM, then drain."""
    process = attach("ingress")
    settings = load_settings()
    store = _open_store(settings.objects_place, process)
    if store is None:
        return 0
    publisher = ReceiptPublisher(
        make_celery(settings.broker_url),
        on_published=metrics.RECEIPTS_PUBLISHED.inc,
        on_dropped=metrics.RECEIPTS_DROPPED.inc,
        on_waiting=metrics.RECEIPTS_WAITING.set,
        on_failure=lambda error: log.warning("broker_away", error=type(error).__name__),
    )
    slots = AssociationSlots(Path(sys.argv[1]), count=settings.ingress.max_associations)
    server = _make_server(settings, process, store=store, publisher=publisher, slots=slots)
    server.start()
    log.info("receiver_started")
    while not process.stopping.is_set():
        process.stopping.wait(_probe(store, process))
    drained = server.drain(_DRAIN_SECONDS)
    server.close()
    publisher.close(_FLUSH_SECONDS)
    slots.close()
    log.info("receiver_stopped", drained=drained)
    return 0


def _make_server(
    settings: Settings,
    process: Process,
    *,
    store: ObjectStore,
    publisher: ReceiptPublisher,
    slots: AssociationSlots,
) -> DimseServer:
    limits = settings.ingress
    files = tls_files(settings)
    place = settings.objects_place
    partners = partners_of(
        settings, limits, accept_unknown=settings.unknown_partners.store == "accept"
    )
    stager = Stager(
        store=store,
        publish=publisher.publish,
        max_object_size=limits.max_object_size,
        store_patience=limits.store_patience.total_seconds(),
        stopping=process.stopping,
    )
    return DimseServer(
        listener=process.sockets[LISTENER],
        ae_title=settings.ae_titles[0],
        limits=replace(
            server_limits(limits),
            longest_reception=(LONGEST_RECEPTION - _COMMIT_TIME).total_seconds(),
        ),
        supported=SupportedContexts(storage_classes=(*STORAGE_CLASSES, *limits.sop_classes)),
        storage=StoreService(stager, partners=partners),
        observer=AssociationWatch(partners, metrics.ASSOCIATIONS),
        slots=slots,
        admit=partners.admit,
        terms=partners.terms,
        identities=user_identities(settings),
        shares_listener=limits.processes > 1,
        tls_listener=process.sockets.get(TLS_LISTENER),
        tls=ServerTLS(files, on_refused=_tell_refused) if files else None,
        proxies=settings.listen.proxies,
        congested=Watermarks(
            memory=limits.memory_watermark,
            free_space=limits.free_space_watermark,
            folder=place if isinstance(place, Path) else None,
        ).congested,
    )


def _tell_refused(error: ConfigurationError) -> None:
    log.error("tls_files_refused", reason=str(error))


def _open_store(place: ObjectPlace, process: Process) -> ObjectStore | None:
    """The object store, as soon as there is one; None when the process shall stop before."""
    while not process.stopping.is_set():
        try:
            return open_store(place)
        except TransientError as error:
            process.not_ready(str(error))
            process.stopping.wait(_RETRY_SECONDS)
    return None


def _probe(store: ObjectStore, process: Process) -> float:
    """Tell whether the store works; return when to look again, in seconds."""
    try:
        store.probe()
    except TransientError as error:
        process.not_ready(str(error))
        return _RETRY_SECONDS
    process.ready()
    return _PROBE_SECONDS


if __name__ == "__main__":
    sys.exit(run(main))

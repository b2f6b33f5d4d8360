"""`python -m gantry_ingress.receiver FILE`: one process that serves the DIMSE front door.

FILE is where the processes count their associations together. The process is ready as soon as it
accepts associations, and stays so when the object store goes away: a short outage is waited out
object by object, and a long one is answered with A700, which tells a sender more than a port that
is closed.
"""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from sqlalchemy.engine import Engine

from gantry_archive.association_watch import AssociationWatch
from gantry_archive.cluster_slots import slots_of
from gantry_archive.dimse_door import partners_of, server_limits, server_tls, user_identities
from gantry_archive.receiving import await_store, publisher_of, stager_of, watermarks_of
from gantry_archive.served_contexts import storage_contexts
from gantry_archive.staging import LONGEST_TRANSFER, Stager
from gantry_dimse.front_door import FrontDoor, Onward
from gantry_dimse.handover import Handover
from gantry_dimse.server import DimseServer
from gantry_dimse.slots import Slots
from gantry_domain.errors import TransientError
from gantry_domain.information_models import INFORMATION_MODELS, WORKLIST_CLASSES
from gantry_ingress import metrics
from gantry_ingress.app import LISTENER, STOP_GRACE, TLS_LISTENER
from gantry_ingress.committing import commitment_operations
from gantry_ingress.reception import StoreService
from gantry_runtime.entry import run
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process, attach
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import make_engine
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

# Of requests for commitment at a time, of one process; more take turns.
_QUESTIONS = 4
_STATEMENT_LIMIT = timedelta(seconds=10)

_PROBE_SECONDS = 10.0
_RETRY_SECONDS = 1.0

# Of `STOP_GRACE`: first the associations, then the receipts that they left.
_DRAIN_SECONDS = STOP_GRACE - 12.0
_FLUSH_SECONDS = 5.0


def main() -> int:
    """Serve until SIGTERM, then drain."""
    process = attach("ingress")
    settings = load_settings()
    store = await_store(settings.objects_place, process, retry=_RETRY_SECONDS)
    if store is None:
        return 0
    publisher = publisher_of(settings, metrics.RECEIPTS)
    slots = slots_of(
        settings,
        settings.ingress,
        Path(sys.argv[1]),
        service="ingress",
        away=metrics.ASSOCIATIONS.cluster_limits_away,
    )
    # It connects when somebody asks for commitment: images are taken without the index.
    engine = make_engine(
        settings.database_url,
        pool_size=_QUESTIONS,
        statement_timeout=_STATEMENT_LIMIT,
        application_name="gantry-ingress",
    )
    threads = ThreadPoolExecutor(_QUESTIONS, thread_name_prefix="commitment")
    server = make_server(
        settings,
        process.sockets[LISTENER],
        tls_listener=process.sockets.get(TLS_LISTENER),
        stager=stager_of(settings, process, store=store, publisher=publisher),
        slots=slots,
        engine=engine,
        threads=threads,
    )
    server.start()
    log.info("receiver_started")
    while not process.stopping.is_set():
        process.stopping.wait(_probe(store, process))
    drained = server.drain(_DRAIN_SECONDS)
    server.close()
    publisher.close(_FLUSH_SECONDS)
    threads.shutdown(wait=False, cancel_futures=True)
    engine.dispose()
    slots.close()
    log.info("receiver_stopped", drained=drained)
    return 0


def make_server(
    settings: Settings,
    listener: socket.socket,
    *,
    stager: Stager,
    slots: Slots,
    engine: Engine,
    threads: ThreadPoolExecutor,
    tls_listener: socket.socket | None = None,
) -> DimseServer:
    """The server of one process."""
    limits = settings.ingress
    partners = partners_of(
        settings, limits, accept_unknown=settings.unknown_partners.store == "accept"
    )
    query = Onward("query", *settings.query_place)
    worklist = Onward("worklist", *settings.worklist_place)
    return DimseServer(
        listener=listener,
        ae_title=settings.ae_titles[0],
        limits=replace(
            server_limits(limits),
            longest_reception=LONGEST_TRANSFER,
        ),
        supported=storage_contexts(settings),
        storage=StoreService(stager, partners=partners),
        operations=commitment_operations(
            settings, engine=engine, threads=threads, partners=partners
        ),
        observer=AssociationWatch(partners, metrics.ASSOCIATIONS),
        slots=slots,
        admit=partners.admit,
        terms=partners.terms,
        identities=user_identities(settings),
        shares_listener=limits.processes > 1,
        tls_listener=tls_listener,
        tls=server_tls(settings),
        proxies=settings.listen.proxies,
        congested=watermarks_of(settings).congested,
        front_door=FrontDoor(
            dict.fromkeys((uid for model in INFORMATION_MODELS for uid in model.classes), query)
            | dict.fromkeys(WORKLIST_CLASSES, worklist),
            takes_storage=frozenset(model.get_class for model in INFORMATION_MODELS),
            handover=Handover(settings.front_door_key),
            send_timeout=limits.send_timeout.total_seconds(),
            passed_on=lambda peer, service: metrics.PASSED_ON.labels(
                partners.label(peer.calling_ae), service
            ).inc(),
        ),
    )


def _probe(store: ObjectStore, process: Process) -> float:
    """Tell whether the store works; return when to look again, in seconds."""
    try:
        store.probe()
    except TransientError as error:
        metrics.STORE_AWAY.set(1)
        process.ready(lacking=str(error))
        return _RETRY_SECONDS
    metrics.STORE_AWAY.set(0)
    process.ready()
    return _PROBE_SECONDS


if __name__ == "__main__":
    sys.exit(run(main))

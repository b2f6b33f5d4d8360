"""`python -m gantry_query.http`: one process that serves DICOMweb on the inherited socket."""

import contextlib
import socket
import sys
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import timedelta
from types import FrameType

import uvicorn
from sqlalchemy.engine import Engine
from starlette.types import ASGIApp

from gantry_archive.deciding import decider_of
from gantry_archive.readiness import tell_readiness
from gantry_archive.receiving import await_store, publisher_of, stager_of, watermarks_of
from gantry_archive.storable_classes import taken_classes
from gantry_domain.entries import DEFAULT_PARTITION
from gantry_query import conformance_page, metrics
from gantry_query.access import access_of
from gantry_query.addresses import PublicAddress
from gantry_query.app import LISTENER
from gantry_query.archive import Archive
from gantry_query.decoding import Decoder
from gantry_query.delivery_door import delivery_door
from gantry_query.event_feed import EventFeed
from gantry_query.order_door import order_door
from gantry_query.reception import StoreDoor
from gantry_query.renditions import Renditions
from gantry_query.streams import Threads
from gantry_query.web import make_app
from gantry_runtime.entry import run
from gantry_runtime.logs import get_logger
from gantry_runtime.process import Process, attach
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import make_engine, ping
from gantry_stores.objects import ObjectNotFound, ObjectStore
from gantry_stores.queue.receipts import ReceiptPublisher

log = get_logger(__name__)

QUESTIONS = 8
TRANSFERS = 16
STORES = 8
COMMITS = 16
MOST_STORES = 64
"""Requests that store, at a time in one process; their pieces take turns in the threads."""
_SEARCH_LIMIT = timedelta(seconds=15)
_CHECK_EVERY = 2.0
# Of the supervisor's grace: first the answers, then the receipts that they left.
_DRAIN_SECONDS = 22
_FLUSH_SECONDS = 4.0
_ABSENT = "objects/none"


def main() -> int:
    """Serve until SIGTERM; answers that have begun are finished."""
    process = attach("query")
    settings = load_settings()
    store = await_store(settings.objects_place, process, retry=_CHECK_EVERY)
    if store is None:
        return 0
    engine = make_engine(
        settings.database_url,
        pool_size=QUESTIONS + TRANSFERS,
        statement_timeout=_SEARCH_LIMIT,
        application_name="gantry-query",
    )
    decoder = Decoder()
    publisher = publisher_of(settings, metrics.RECEIPTS)
    commits = ThreadPoolExecutor(COMMITS, thread_name_prefix="commit")
    questions, ending = Threads(QUESTIONS), threading.Event()
    archive = Archive(
        engine=engine,
        store=store,
        renditions=Renditions(store, decoder),
        address=PublicAddress(settings.http.public_url, settings.http.trusted_proxies),
        partitions=_partitions(settings),
        questions=questions,
        transfers=Threads(TRANSFERS),
        door=_store_door(settings, process, store=store, publisher=publisher, commits=commits),
        feed=EventFeed(engine, questions, stopping=ending.is_set),
        orders=order_door(settings),
        decider=decider_of(settings, store=store, engine=engine),
        deliveries=delivery_door(settings),
        deletes=settings.delete.enabled,
    )
    watch = threading.Thread(
        target=_watch,
        args=(process, engine, store, settings.database_url),
        name="readiness",
        daemon=True,
    )
    watch.start()
    try:
        app = make_app(
            archive,
            origins=settings.http.origins,
            access=access_of(settings),
            pages={conformance_page.PATH: conformance_page.conformance_page(settings)},
        )
        serve(app, process.sockets[LISTENER], ending=ending)
    finally:
        process.stopping.set()
        watch.join()
        commits.shutdown()
        publisher.close(_FLUSH_SECONDS)
        decoder.close()
        engine.dispose()
    return 0


def _store_door(
    settings: Settings,
    process: Process,
    *,
    store: ObjectStore,
    publisher: ReceiptPublisher,
    commits: Executor,
) -> StoreDoor:
    limits, watermarks = settings.ingress, watermarks_of(settings)
    if settings.spool is not None:
        settings.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    return StoreDoor(
        stager=stager_of(settings, process, store=store, publisher=publisher),
        threads=Threads(STORES),
        commits=commits,
        storage_classes=frozenset(taken_classes(settings)),
        congested=lambda in_hand: in_hand >= MOST_STORES or watermarks.congested(in_hand),
        # Clients that sign in are no strangers, and have the right to store or not.
        open=settings.web_clients_sign_in or settings.unknown_partners.store == "accept",
        patience=settings.http.receive_timeout.total_seconds(),
        minimum_rate=limits.minimum_rate,
        spool=settings.spool,
    )


class _Server(uvicorn.Server):
    """Says when it begins to end, for answers that would wait on."""

    def __init__(self, config: uvicorn.Config, ending: threading.Event) -> None:
        super().__init__(config)
        self._ending = ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn's own, which takes the signals while it runs."""
        self._ending.set()
        super().handle_exit(sig, frame)


def serve(app: ASGIApp, listener: socket.socket, *, ending: threading.Event) -> None:
    """Serve the application until SIGTERM or SIGINT, by which `ending` is set."""
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,  # paths hold UIDs, and queries hold names
        log_config=None,
        proxy_headers=False,  # gantry_query.addresses decides whom to believe
        server_header=False,
        backlog=512,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    _Server(config, ending).run(sockets=[listener])


def _partitions(settings: Settings) -> frozenset[str]:
    return frozenset({DEFAULT_PARTITION, *(partner.partition for partner in settings.partners)})


def _watch(process: Process, engine: Engine, store: ObjectStore, database_url: str) -> None:
    """Tells the supervisor whether the index and the store can be read."""

    def look() -> None:
        ping(engine)
        _look(store)

    tell_readiness(process, database_url=database_url, look=look, every=_CHECK_EVERY)


def _look(store: ObjectStore) -> None:
    """Raises `StoreUnavailable` where the store does not answer."""
    with contextlib.suppress(ObjectNotFound):
        store.stat(_ABSENT)


if __name__ == "__main__":
    sys.exit(run(main))

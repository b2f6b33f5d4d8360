"""`python -m gantry_query.dimse FILE`: one process that serves C-FIND, C-MOVE, C-GET and C-ECHO.

FILE is where the processes count their associations together. The process is ready while the index
answers. It accepts associations when it is not, too: a question that cannot be put to the index is
answered with A700, which tells a workstation more than a port that is closed.
"""

import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy.engine import Engine

from gantry_archive.association_watch import AssociationWatch
from gantry_archive.cluster_slots import slots_of
from gantry_archive.destinations import destination_timeouts, destinations
from gantry_archive.dimse_door import partners_of, server_limits, server_tls, user_identities
from gantry_archive.readiness import tell_readiness
from gantry_archive.served_contexts import (
    QUERY_OPTIONS,
    RETRIEVAL_OPTIONS,
    granted,
    query_contexts,
)
from gantry_dimse.command import C_FIND_RQ, C_GET_RQ, C_MOVE_RQ
from gantry_dimse.handover import Handover
from gantry_dimse.operations import Operation, OperationKey
from gantry_dimse.server import DimseServer
from gantry_dimse.slots import Slots
from gantry_domain.information_models import INFORMATION_MODELS
from gantry_query import metrics
from gantry_query.app import DIMSE_LISTENER, DIMSE_TLS_LISTENER, STOP_GRACE
from gantry_query.find import FindService
from gantry_query.retrieve import RetrieveService, Retrieving
from gantry_runtime.entry import run
from gantry_runtime.logs import get_logger
from gantry_runtime.process import attach
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import make_engine, ping
from gantry_stores.objects import ObjectStore, open_store

log = get_logger(__name__)

# Questions to the index at a time, of one process: by threads, and first pages without one.
_QUESTIONS = 4
_FIRST_PAGES = 4
# Objects that are opened, some of them decoded, at a time, of one process.
_READERS = 4
# A cancelled or abandoned question keeps its thread for no longer.
_SEARCH_LIMIT = timedelta(seconds=10)
_CHECK_SECONDS = 5.0
# What is left of it may be needed by questions that are still with the index.
_DRAIN_SECONDS = STOP_GRACE - 12.0


@dataclass(frozen=True, slots=True)
class Pools:
    """The threads of one process, besides those of its associations."""

    questions: ThreadPoolExecutor
    """They ask the index."""
    readers: ThreadPoolExecutor
    """They open the objects of retrievals."""
    movers: ThreadPoolExecutor
    """They send to other archives."""

    @classmethod
    def of(cls, settings: Settings) -> "Pools":
        """As many as the settings want."""
        return cls(
            ThreadPoolExecutor(_QUESTIONS, thread_name_prefix="find"),
            ThreadPoolExecutor(_READERS, thread_name_prefix="read"),
            ThreadPoolExecutor(settings.query.retrievals, thread_name_prefix="move"),
        )

    def close(self, *, wait: bool = False) -> None:
        """Begin nothing more."""
        for pool in (self.movers, self.readers, self.questions):
            pool.shutdown(wait=wait, cancel_futures=True)


class _LateStore:
    """The object store, opened when it is first asked for: a folder may be mounted late."""

    def __init__(self, settings: Settings) -> None:
        self._place = settings.objects_place
        self._lock = threading.Lock()
        self._store: ObjectStore | None = None

    def __call__(self) -> ObjectStore:
        """The store. Raises `StoreUnavailable`."""
        with self._lock:
            if self._store is None:
                self._store = open_store(self._place)
            return self._store


def main() -> int:
    """Serve until SIGTERM, then let the associations come to their end."""
    process = attach("query")
    settings = load_settings()
    engine = make_engine(
        settings.database_url,
        # One more, for readiness is also to be known when all questions wait.
        pool_size=_QUESTIONS + _FIRST_PAGES + _READERS + 1,
        statement_timeout=_SEARCH_LIMIT,
        application_name="gantry-query",
    )
    pools = Pools.of(settings)
    slots = slots_of(
        settings,
        settings.query,
        Path(sys.argv[1]),
        service="query",
        away=metrics.ASSOCIATIONS.cluster_limits_away,
    )
    server = make_server(
        settings,
        process.sockets[DIMSE_LISTENER],
        tls_listener=process.sockets.get(DIMSE_TLS_LISTENER),
        engine=engine,
        store=_LateStore(settings),
        pools=pools,
        slots=slots,
        handover=Handover(settings.front_door_key),
    )
    server.start()
    log.info("find_started")
    tell_readiness(
        process,
        database_url=settings.database_url,
        look=lambda: ping(engine),
        every=_CHECK_SECONDS,
    )
    drained = server.drain(_DRAIN_SECONDS)
    server.close()
    pools.close()
    engine.dispose()
    slots.close()
    log.info("find_stopped", drained=drained)
    return 0


def make_server(
    settings: Settings,
    listener: socket.socket,
    *,
    engine: Engine,
    store: Callable[[], ObjectStore],
    pools: Pools,
    slots: Slots,
    tls_listener: socket.socket | None = None,
    handover: Handover | None = None,
) -> DimseServer:
    """The server of one process. `store` raises a `TransientError` while there is none.

    With `handover` callers may come through the front door.
    """
    limits = settings.query
    partners = partners_of(settings, limits, accept_unknown=settings.strangers_may_query)
    operations: dict[OperationKey, Operation] = {}
    retrieving = Retrieving(
        engine=engine,
        store=store,
        partners=partners,
        # What must not be known there does not go as it is because somebody asks for it.
        destinations={
            title: each
            for title, each in destinations(settings).items()
            if not each.transforms.hides_identities
        },
        timeouts=destination_timeouts(settings),
        questions=pools.questions,
        readers=pools.readers,
        movers=pools.movers,
        turns=threading.BoundedSemaphore(limits.retrievals),
    )
    first_pages = threading.BoundedSemaphore(_FIRST_PAGES)
    for model in INFORMATION_MODELS:
        if model.find_class is not None:
            finding = FindService(
                engine=engine,
                pages=pools.questions,
                first_pages=first_pages,
                partners=partners,
                model=model,
                retrieve_ae=settings.ae_titles[0],
                zone=settings.zone,
                max_matches=limits.max_matches,
            )
            operations[C_FIND_RQ, model.find_class] = finding.find
        service = RetrieveService(retrieving, model=model)
        if model.move_class is not None:
            operations[C_MOVE_RQ, model.move_class] = service.move
        operations[C_GET_RQ, model.get_class] = service.get
    return DimseServer(
        listener=listener,
        ae_title=settings.ae_titles[0],
        limits=server_limits(limits),
        supported=query_contexts(settings),
        operations=operations,
        extended={
            uid: granted(QUERY_OPTIONS if field == C_FIND_RQ else RETRIEVAL_OPTIONS)
            for field, uid in operations
        },
        observer=AssociationWatch(partners, metrics.ASSOCIATIONS),
        slots=slots,
        admit=partners.admit,
        terms=partners.terms,
        identities=user_identities(settings),
        tls_listener=tls_listener,
        tls=server_tls(settings),
        shares_listener=limits.processes > 1,
        handover=handover,
    )


if __name__ == "__main__":
    sys.exit(run(main))

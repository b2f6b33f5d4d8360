"""The three DIMSE doors of an archive in this process, on the ports of a configuration."""

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Engine

from gantry_archive.dimse_door import listen_tls
from gantry_archive.door_limit import DoorLimit
from gantry_archive.staging import Stager
from gantry_dimse.handover import Handover
from gantry_dimse.server import DimseServer
from gantry_dimse.slots import AssociationSlots
from gantry_domain.receipts import Receipt
from gantry_ingress import receiver
from gantry_query import dimse as query
from gantry_runtime.listening import listen
from gantry_runtime.services import DimseDoor
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.objects import DirectoryStore, ObjectStore
from gantry_stores.queue.image_places import ImagePlaces
from gantry_testkit.ports import free_port_base
from gantry_worklist import dimse as worklist

# The engine is handed in, and no receipt is published.
_NO_DATABASE = "database: postgresql://127.0.0.1:1/none\n"
_NO_BROKER = "redis://127.0.0.1:1/0"

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class ArchiveDoors:
    """What they were made of, and the servers: the front door, queries, the worklist."""

    settings: Settings
    store: ObjectStore
    front: DimseServer
    query: DimseServer
    worklist: DimseServer


@contextmanager
def archive_doors(
    engine: Engine,
    folder: Path,
    configuration: str = "",
    *,
    store: ObjectStore | None = None,
    environment: Mapping[str, str] | None = None,
    broker: str = _NO_BROKER,
) -> Iterator[ArchiveDoors]:
    """Serves until the end. `configuration` is the text of a file.

    `broker` is needed by limits at the door alone.

    Nothing is indexed of what is stored: that is the workers'.
    """
    folder = folder / f"doors-{next(_numbers)}"
    folder.mkdir()
    text = f"{_NO_DATABASE}broker: {broker}\n{configuration}"
    (folder / "gantry.yaml").write_text(text, encoding="utf-8")
    settings = load_settings(
        {
            "GANTRY_CONFIG": str(folder / "gantry.yaml"),
            "GANTRY_DATA": str(folder),
            "GANTRY_PORT_BASE": str(free_port_base(11112, 11113, 11114)),
            **(environment or {}),
        }
    )
    kept = store or DirectoryStore(folder / "objects")
    with ExitStack() as stack:

        def slots(door: DimseDoor, name: str) -> AssociationSlots:
            made = AssociationSlots(folder / name, count=door.max_associations)
            stack.callback(made.close)
            return made

        threads = stack.enter_context(ThreadPoolExecutor(4))
        pools = query.Pools.of(settings)
        stack.callback(lambda: pools.close(wait=True))
        handover = Handover(settings.front_door_key)
        address, ports = settings.listen.address, settings.ports
        doors = ArchiveDoors(
            settings,
            kept,
            receiver.make_server(
                settings,
                listen(address, ports.dimse, "storage over DIMSE"),
                tls_listener=listen_tls(settings, settings.listen.tls_port, "storage over TLS"),
                stager=_stager(settings, kept, engine),
                slots=slots(settings.ingress, "ingress"),
                engine=engine,
                threads=threads,
            ),
            query.make_server(
                settings,
                listen(address, ports.query_dimse, "query over DIMSE"),
                tls_listener=listen_tls(settings, settings.listen.query_tls_port, "query over TLS"),
                engine=engine,
                store=lambda: kept,
                pools=pools,
                slots=slots(settings.query, "query"),
                handover=handover,
            ),
            worklist.make_server(
                settings,
                listen(address, ports.worklist, "the worklist over DIMSE"),
                engine=engine,
                threads=threads,
                slots=slots(settings.worklist, "worklist"),
                handover=handover,
            ),
        )
        for server in (doors.worklist, doors.query, doors.front):
            server.start()
            stack.callback(server.close)
        yield doors


def _stager(settings: Settings, store: ObjectStore, engine: Engine) -> Stager:
    places = ImagePlaces(settings.broker_url)
    published: list[Receipt] = []
    return Stager(
        store=store,
        publish=published.append,
        max_object_size=settings.ingress.max_object_size,
        store_patience=settings.ingress.store_patience.total_seconds(),
        admit=DoorLimit(settings.policy_set.rules, places=places, engine=engine).admit,
    )

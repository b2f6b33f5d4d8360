"""The doors of the query service: DICOMweb with real objects behind uvicorn, and C-FIND."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pydicom
import pytest
import uvicorn
from sqlalchemy.engine import Engine
from starlette.types import ASGIApp

from gantry_archive.deciding import Decider
from gantry_archive.dimse_door import listen_tls
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.staging import Stager
from gantry_dimse.handover import Handover
from gantry_dimse.server import DimseServer
from gantry_dimse.slots import AssociationSlots
from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import FileMeta, encode_file_meta, parse_file_meta
from gantry_domain.header import read_header
from gantry_domain.keys import new_object_id, object_key
from gantry_domain.policies.rules import PolicySet
from gantry_domain.receipts import Receipt
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_query.access import Access
from gantry_query.addresses import PublicAddress
from gantry_query.archive import Archive
from gantry_query.decoding import Decoder
from gantry_query.delivery_door import DeliveryDoor
from gantry_query.dimse import Pools, make_server
from gantry_query.event_feed import EventFeed
from gantry_query.order_door import OrderDoor
from gantry_query.reception import StoreDoor
from gantry_query.renditions import Renditions
from gantry_query.streams import Threads
from gantry_query.web import make_app
from gantry_runtime.settings import load_settings
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore, ObjectStore
from gantry_testkit.correcting_site import EXPLICIT, IMPLICIT, Site
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.stored import CT_IMAGE, NO_POLICIES


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file as it lies in the store."""

    key: str
    content: bytes
    dataset_offset: int
    meta: FileMeta
    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str

    @property
    def path(self) -> str:
        """Its resource below the base."""
        return (
            f"/studies/{self.StudyInstanceUID}/series/{self.SeriesInstanceUID}"
            f"/instances/{self.SOPInstanceUID}"
        )


@dataclass(frozen=True, slots=True)
class WebArchive:
    """An archive and where it is served."""

    base: str
    client: httpx.Client
    engine: Engine
    store: DirectoryStore
    store_folder: Path
    published: list[Receipt]
    """The receipts of what was stored over HTTP and is not indexed yet."""

    def index(self) -> None:
        """Does what the workers do with what was stored over HTTP."""
        receipts, self.published[:] = list(self.published), []
        index_batch(receipts, store=self.store, engine=self.engine, rules=ReadingRules())
        judge_studies(self.engine, NO_POLICIES)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """One GET; header names with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # httpx would add one of its own.
        request = self.client.build_request("GET", f"{self.base}{path}", headers=named)
        if "Accept" not in named:
            del request.headers["Accept"]
        return self.client.send(request)

    def put(self, *files: bytes, partition: str = "") -> list[ArchivedFile]:
        """Stores, indexes and judges DICOM files; what cannot be read or is there is left out."""
        receipts, put = [], {}
        for content in files:
            try:
                parsed = parse_file_meta(content)
                meta = FileMeta(
                    MediaStorageSOPClassUID=parsed.meta.MediaStorageSOPClassUID,
                    MediaStorageSOPInstanceUID=parsed.meta.MediaStorageSOPInstanceUID,
                    TransferSyntaxUID=parsed.meta.TransferSyntaxUID,
                    calling_ae="TEST",
                    receiving_ae="GANTRY",
                    partition=partition,
                )
                head = encode_file_meta(meta)
                whole = head + content[parsed.dataset_offset :]
                header = read_header(_fetch(whole), size=len(whole))
            except UnreadableObject:
                continue
            uid = header.text("SOPInstanceUID")
            if uid in put:
                continue
            object_id = new_object_id()
            writer = self.store.create(object_key(object_id))
            writer.write([whole])
            writer.commit()
            receipts.append(Receipt(object_id, len(whole), None))
            put[uid] = ArchivedFile(
                key=object_key(object_id),
                content=whole,
                dataset_offset=len(head),
                meta=meta,
                StudyInstanceUID=str(header.text("StudyInstanceUID")),
                SeriesInstanceUID=str(header.text("SeriesInstanceUID")),
                SOPInstanceUID=str(uid),
            )
        index_batch(receipts, store=self.store, engine=self.engine, rules=ReadingRules())
        judge_studies(self.engine, NO_POLICIES)
        return list(put.values())


def _fetch(whole: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: whole[offset : offset + length]


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serves an application on a free port of loopback; gives the server's address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http="httptools", loop="uvloop", lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


LARGEST_STORED = 24 * 2**20


def _store_door(store: DirectoryStore, commits: Executor, published: list[Receipt]) -> StoreDoor:
    return StoreDoor(
        stager=Stager(
            store=store,
            publish=published.append,
            max_object_size=LARGEST_STORED,
            store_patience=0.2,
        ),
        threads=Threads(8),
        commits=commits,
        storage_classes=frozenset(STORAGE_CLASSES),
        congested=lambda in_hand: in_hand >= 64,
        open=True,
        patience=2,
        minimum_rate=100,
        rate_window=1.5,
    )


@contextmanager
def _served(
    engine: Engine,
    store: DirectoryStore,
    published: list[Receipt] | None = None,
    *,
    access: Access | None = None,
    deletes: bool = True,
    orders: bool = True,
    policies: PolicySet = NO_POLICIES,
) -> Iterator[str]:
    decoder = Decoder()
    commits = ThreadPoolExecutor(8)
    questions, ending = Threads(8), threading.Event()
    archive = Archive(
        engine=engine,
        store=store,
        renditions=Renditions(store, decoder),
        address=PublicAddress(None, ()),
        partitions=frozenset({"main", "north"}),
        questions=questions,
        transfers=Threads(16),
        door=_store_door(store, commits, [] if published is None else published),
        feed=EventFeed(engine, questions, stopping=ending.is_set),
        orders=OrderDoor(ZoneInfo("Asia/Hong_Kong"), orders),
        decider=Decider(store=store, engine=engine, policies=policies, feed=None),
        deliveries=DeliveryDoor(("PEER",), orders, subscribers=("webhook:ris",)),
        deletes=deletes,
    )
    with serving(make_app(archive, origins=["https://viewer.example"], access=access)) as address:
        try:
            yield f"{address}/dicomweb"
        finally:
            ending.set()
    commits.shutdown()
    decoder.close()


@pytest.fixture(scope="module")
def module_engine(module_postgres_url: str) -> Iterator[Engine]:
    """Of the database that the tests of one file share."""
    engine = make_engine(module_postgres_url, pool_size=12)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[str]]:
    """Serves an index and a store, with an `access`; gives the base of DICOMweb."""
    return _served


@pytest.fixture(scope="module")
def web(module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebArchive]:
    """An empty archive, shared by the tests of one file."""
    engine = make_engine(module_postgres_url, pool_size=24)
    folder = tmp_path_factory.mktemp("objects")
    store = DirectoryStore(folder)
    published: list[Receipt] = []
    with _served(engine, store, published) as base, httpx.Client(timeout=60) as client:
        yield WebArchive(base, client, engine, store, folder, published)
    engine.dispose()


ServeFind = Callable[..., AbstractContextManager[DimseServer]]


@pytest.fixture(scope="session")
def serve_find(tmp_path_factory: pytest.TempPathFactory) -> ServeFind:
    """Serves C-FIND, C-MOVE and C-GET from an index and a store.

    `configuration` is the text of a file, `secrets` what the environment has.
    """

    @contextmanager
    def served(
        engine: Engine,
        configuration: str = "",
        store: ObjectStore | None = None,
        *,
        handover: Handover | None = None,
        **secrets: str,
    ) -> Iterator[DimseServer]:
        folder = tmp_path_factory.mktemp("find")
        (folder / "gantry.yaml").write_text(configuration)
        names = {"GANTRY_CONFIG": str(folder / "gantry.yaml"), "GANTRY_DATA": str(folder)}
        settings = load_settings(names | secrets)
        slots = AssociationSlots(folder / "associations", count=settings.query.max_associations)
        listener = socket.create_server(("127.0.0.1", 0))
        pools = Pools.of(settings)
        server = make_server(
            settings,
            listener,
            tls_listener=listen_tls(settings, settings.listen.query_tls_port, "query over TLS"),
            engine=engine,
            store=lambda: store or DirectoryStore(folder / "objects"),
            pools=pools,
            slots=slots,
            handover=handover,
        )
        server.start()
        try:
            yield server
        finally:
            server.close()
            pools.close(wait=True)
            slots.close()

    return served


def _wheel_files() -> list[Path]:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return sorted(path for path in folder.glob("*.dcm") if path.stat().st_size < 2**21)


@pytest.fixture(scope="session")
def sample_files() -> list[bytes]:
    """The sample set beside the project where it is there, else the files of the pydicom wheel."""
    beside = Path(__file__).parents[3] / "shared" / "data" / "dicom"
    paths = sorted(p for p in beside.rglob("*") if p.is_file()) if beside.is_dir() else []
    return [path.read_bytes() for path in paths or _wheel_files()]


@pytest.fixture(scope="module")
def site(
    module_engine: Engine,
    serve: Callable[..., AbstractContextManager[str]],
    serve_find: ServeFind,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """An archive whose studies are corrected, and PEER, who takes what is sent to it."""
    store = DirectoryStore(tmp_path_factory.mktemp("objects"))
    peer = AnsweringScp(lambda _event: 0, {CT_IMAGE: [EXPLICIT, IMPLICIT]})
    configuration = f"""
partners:
  - {{ae_title: PEER, address: "127.0.0.1:{peer.port}"}}
  - {{ae_title: WS1}}
"""
    with serve_find(module_engine, configuration, store) as server:
        yield Site(ForwardingArchive(module_engine, store), server, peer, serve)
    peer.close()

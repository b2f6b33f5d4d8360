"""The archives that are asked: Gantry's query service, Orthanc with SQLite and with PostgreSQL."""

import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from studies import Instance

from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.send import StorageAssociation
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit import peers
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.query_process import QueryService
from gantry_testkit.stored import CT_IMAGE, NO_POLICIES, receipts, stage
from gantry_testkit.waiting import until

GANTRY, SQLITE, POSTGRESQL = "Gantry", "Orthanc, SQLite", "Orthanc, PostgreSQL"

_AT_ONCE = 500
_SENDERS = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """An archive that is up and holds everything."""

    name: str
    ae_title: str
    port: int


@contextmanager
def gantry(
    folder: Path, server: PostgresServer, data: list[Instance], sink: int
) -> Iterator[Asked]:
    """`python -m gantry_query`, over an index that the worker's code has written."""
    folder.mkdir()
    url = server.create_database("gantry")
    migrations.upgrade(url)
    partner = f'partners: [{{ae_title: SINK, address: "127.0.0.1:{sink}"}}]\n'
    service = QueryService(folder, url, partner)
    engine, store = make_engine(url), DirectoryStore(service.objects)
    for some in _batched(data, _AT_ONCE):
        sent = [stage(store, each.data_set, head=each.head) for each in some]
        index_batch(receipts(sent), store=store, engine=engine, rules=ReadingRules())
    judge_studies(engine, NO_POLICIES, limit=10_000_000)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    try:
        service.start()
        until(service.ready, "Gantry is ready")
        yield Asked(GANTRY, "GANTRY", service.address[1])
    finally:
        service.kill()


@contextmanager
def orthanc(
    folder: Path, data: list[Instance], sink: int, server: PostgresServer | None = None
) -> Iterator[Asked]:
    """Orthanc without Nagle's algorithm; with `server` it has its index there."""
    options: dict[str, object] = {
        "DicomModalities": {"sink": ["SINK", "127.0.0.1", sink]},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowGet": True,
        "LimitFindResults": 0,
        "OverwriteInstances": False,
    }
    if server is not None:
        server.create_database("orthanc")
        options |= peers.orthanc_with_postgresql(server.folder, "orthanc")
    with peers.orthanc(folder, options=options) as archive:
        parts = [data[first::_SENDERS] for first in range(_SENDERS)]
        with ThreadPoolExecutor(_SENDERS) as threads:
            list(threads.map(lambda part: _send(archive.port, part), parts))
        yield Asked(SQLITE if server is None else POSTGRESQL, "ORTHANC", archive.port)


def can_use_postgresql() -> bool:
    """Whether Orthanc and its plugin (Debian's orthanc-postgresql) are installed."""
    return shutil.which("Orthanc") is not None and peers.ORTHANC_POSTGRESQL.exists()


def _send(port: int, data: Iterable[Instance]) -> None:
    syntax = EXPLICIT_VR_LITTLE_ENDIAN
    with StorageAssociation.open(
        host="127.0.0.1",
        port=port,
        calling_ae="CT01",
        called_ae="ORTHANC",
        contexts=[ProposedContext(CT_IMAGE, (syntax,))],
    ) as association:
        context = association.accepts(CT_IMAGE, syntax)
        assert context is not None
        for each in data:
            answer = association.store(
                SOPClassUID=CT_IMAGE,
                SOPInstanceUID=each.SOPInstanceUID,
                context=context,
                chunks=[each.data_set],
            )
            assert answer.status == 0, f"{answer.status:04X}"


def _batched(data: list[Instance], size: int) -> Iterator[list[Instance]]:
    return (data[first : first + size] for first in range(0, len(data), size))

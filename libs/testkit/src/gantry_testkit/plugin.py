"""The pytest plugin: real servers for contract tests, started when first asked for."""

import itertools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from sqlalchemy.engine import Engine

from gantry_domain.object_place import Bucket
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore, ObjectStore
from gantry_testkit import s3_server as s3
from gantry_testkit.door import Door, close_doors
from gantry_testkit.forwarding import AnsweringScp
from gantry_testkit.hostile_peer import Hostile, HostilePeer
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.stored import CT_IMAGE
from gantry_testkit.stow_peer import Answer, StowPeer

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the system tests keep objects."""
    parser.addoption(
        "--objects",
        choices=("folder", "s3"),
        default="folder",
        help="the object store of the system tests: a folder, or a bucket of a real S3 server; "
        "tests of S3 itself run with the latter",
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's PostgreSQL. Do not stop it: make your own for that."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """The name of an empty migrated database, to be copied and never connected to."""
    migrations.upgrade(postgres_server.create_database("migrated"))
    return "migrated"


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database without tables, for this test alone."""
    name = f"empty_{next(_numbers)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The URL of an empty migrated database, for this test alone."""
    name = f"test_{next(_numbers)}"
    yield postgres_server.create_database(name, template=migrated_template)
    postgres_server.drop_database(name)


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """The index of an empty archive, for this test alone."""
    engine = make_engine(postgres_url, pool_size=20)
    yield engine
    engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """The object store of an empty archive, for this test alone."""
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture(scope="module")
def module_postgres_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The URL of an empty migrated database, shared by the tests of one file."""
    name = f"module_{next(_numbers)}"
    yield postgres_server.create_database(name, template=migrated_template)
    postgres_server.drop_database(name)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis for this test alone, which may stop and start it."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The broker URL of this test's own, empty Redis."""
    return redis_server.url


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> Iterator[s3.S3Server]:
    """The session's S3 server, with which nobody does harm to others."""
    if request.config.getoption("--objects") != "s3":
        pytest.skip("tests of S3 run with --objects s3, as in .ci/run")
    if s3.missing():
        pytest.skip(f"there is no Ceph gateway here: apt-get install {' '.join(s3.PACKAGES)}")
    server = s3.S3Server()
    yield server
    server.close()


@pytest.fixture
def make_bucket(s3_server: s3.S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bucket]:
    """Makes empty buckets on the server, and lets this process in; takes fields of `Bucket`."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)

    def make(**fields: Any) -> Bucket:
        defaults: dict[str, Any] = {"endpoint": s3_server.endpoint, "timeout": 20.0}
        name = fields.pop("name", None) or s3_server.create_bucket()
        return Bucket(name=name, **{**defaults, **fields})

    return make


@pytest.fixture
def start_scp() -> Iterator[Callable[..., AnsweringScp]]:
    """Starts storage SCPs that answer Success to CT images, or as they are told."""
    peers: list[AnsweringScp] = []

    def start(
        answer: Callable[[evt.Event], int] = lambda event: 0x0000,
        contexts: dict[str, list[str]] | None = None,
        port: int = 0,
    ) -> AnsweringScp:
        accepted = contexts or {CT_IMAGE: [EXPLICIT_VR_LITTLE_ENDIAN]}
        peers.append(AnsweringScp(answer, accepted, port=port))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


@pytest.fixture
def start_stow() -> Iterator[Callable[[Answer], StowPeer]]:
    """Starts DICOMweb servers that answer as they are told."""
    peers: list[StowPeer] = []

    def start(answer: Answer) -> StowPeer:
        peers.append(StowPeer(answer))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


@pytest.fixture
def open_door() -> Iterator[Callable[..., Door]]:
    """Opens DIMSE servers on ports of their own."""
    doors: list[Door] = []

    def make(**options: Any) -> Door:
        doors.append(Door(**options))
        return doors[-1]

    yield make
    close_doors(doors)


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    """Starts peers that do what they should not."""
    peers: list[HostilePeer] = []

    def start(behave: Callable[[socket.socket], None]) -> HostilePeer:
        peers.append(HostilePeer(behave))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()

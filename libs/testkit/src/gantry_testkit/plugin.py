"""The pytest plugin: real servers for contract tests, started when first asked for."""

import itertools
from collections.abc import Iterator

import pytest

from gantry_stores.index import migrations
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.redis_server import RedisServer

_numbers = itertools.count(1)


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

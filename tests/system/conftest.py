"""Runs of Gantry for the system tests: one that the tests share, and others of their own."""

from collections.abc import Callable, Iterator

import pytest

from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.run import SERVICES, Gantry
from blackbox.stores import BucketStore, NewStore

CONFIG = """
partners:
  - {ae_title: CT01}
  - {ae_title: DCMTK, partition: dcmtk}
  - {ae_title: LASTWINS, duplicates: take_last}
sweep: {after: 5s, every: 2s}
http: {processes: 1}
query: {processes: 1}
"""


@pytest.fixture(scope="session")
def new_bucket(request: pytest.FixtureRequest) -> Iterator[Callable[[], BucketStore]]:
    """Makes object stores in buckets of a real S3 server."""
    server = request.getfixturevalue("s3_server")
    stores: list[BucketStore] = []

    def make() -> BucketStore:
        bucket = server.create_bucket()
        store = BucketStore(endpoint=server.endpoint, bucket=bucket, names=server.environment)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture(scope="session")
def new_store(request: pytest.FixtureRequest) -> NewStore:
    """Makes the object stores of the runs that the option `--objects` is about."""
    if request.config.getoption("--objects") == "folder":
        return lambda: None
    make: NewStore = request.getfixturevalue("new_bucket")
    return make


@pytest.fixture(scope="session")
def gantry(new_store: NewStore) -> Iterator[Gantry]:
    """A run that the tests of several files share; nobody does it any harm."""
    run = Gantry(config=CONFIG, store=new_store())
    try:
        run.start()
        yield run
        restarts = {service: run.restarts(service) for service in SERVICES}
        assert not any(restarts.values()), f"processes were restarted: {restarts}"
        run.stop_cleanly()
    finally:
        run.clean()


@pytest.fixture(scope="session")
def index(gantry: Gantry) -> Index:
    """The database and the store of the shared run."""
    return Index(gantry)


@pytest.fixture(scope="session")
def archive(gantry: Gantry) -> Archive:
    """The DICOMweb door of the shared run."""
    return Archive(gantry.http)


@pytest.fixture
def new_gantry() -> Iterator[Callable[..., Gantry]]:
    """Makes runs that are not started yet; whatever is left of them in the end is killed."""
    runs: list[Gantry] = []

    def make(**options: object) -> Gantry:
        run = Gantry(**options)  # type: ignore[arg-type]
        runs.append(run)
        return run

    yield make
    for run in runs:
        run.clean()

"""What the system tests make their runs of Gantry with."""

from collections.abc import Callable, Iterator

import pytest

from blackbox.run import Gantry
from blackbox.stores import BucketStore, NewStore


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

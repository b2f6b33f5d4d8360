"""Runs of Gantry for the system tests: one that the tests share, and others of their own."""

from collections.abc import Callable, Iterator

import pytest

from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.run import Gantry

CONFIG = """
partners:
  - {ae_title: CT01}
  - {ae_title: DCMTK, partition: dcmtk}
  - {ae_title: LASTWINS, duplicates: take_last}
sweep: {after: 5s, every: 2s}
"""


@pytest.fixture(scope="session")
def gantry() -> Iterator[Gantry]:
    """A run that the tests of several files share; nobody does it any harm."""
    run = Gantry(config=CONFIG)
    try:
        run.start()
        yield run
        restarts = {service: run.restarts(service) for service in ("ingress", "worker", "query")}
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

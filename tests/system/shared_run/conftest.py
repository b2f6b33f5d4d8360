"""The run that the tests of this folder share; nobody does it any harm."""

from collections.abc import Iterator

import pytest

from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.run import SERVICES, Gantry
from blackbox.stores import NewStore

CONFIG = """
partners:
  - {ae_title: CT01}
  - {ae_title: DCMTK, partition: dcmtk}
  - {ae_title: LASTWINS, duplicates: take_last}
sweep: {after: 5s, every: 2s}
http: {processes: 1}
query: {processes: 1}
"""


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def index(gantry: Gantry) -> Index:
    """The database and the store of the shared run."""
    return Index(gantry)


@pytest.fixture(scope="package")
def archive(gantry: Gantry) -> Archive:
    """The DICOMweb door of the shared run."""
    return Archive(gantry.http)

"""An archive that can be brought to any of its answers, and the table of who brings it to which."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from sqlalchemy.engine import Engine

from gantry_dimse.server import DimseServer
from gantry_domain.information_models import STUDY_ROOT_GET
from gantry_testkit.archive_doors import ArchiveDoors, archive_doors
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.hl7_samples import order_message
from gantry_testkit.orders_door import acknowledged, orders_door
from gantry_testkit.ports import free_port
from gantry_testkit.query_scu import associated
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.stored import CT_IMAGE
from gantry_testkit.waiting import until

EXPLICIT = "1.2.840.10008.1.2.1"
ORDER = "CLAIM1"
"""The accession number of the order that is there."""

POLICIES = """
policies: [{rule: images_per_study, limit: 1, action: reject, when: {calling_ae: [FULL]}}]
"""
"""Without such a rule there is one status less."""

_CONFIGURATION = """
ingress: {{max_object_size: 4KiB, store_patience: 100ms}}
partners:
  - {{ae_title: CT01}}
  - {{ae_title: FULL}}
  - {{ae_title: NOTHING, may: []}}
  - {{ae_title: PEER, address: "127.0.0.1:{peer}"}}
  - {{ae_title: NOBODY, address: "127.0.0.1:{nobody}"}}
"""

_WAITING = sa.text(
    "SELECT pid FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
_HEARD = 0.5

# As the limit of a statement ends it, SQLSTATE 57014.
_END_WAITING = sa.text(
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@dataclass(frozen=True, slots=True)
class Site:
    """An archive with a study and an order, and a destination that refuses what it is told to."""

    doors: ArchiveDoors
    engine: Engine
    folder: Path
    """Of the object store."""
    study: str
    images: tuple[str, ...]
    refused: set[str]

    @contextmanager
    def asking(
        self, door: DimseServer, *classes: str, calling: str = "CT01"
    ) -> Iterator[Association]:
        """An association with one of the doors; as a client of C-GET it takes images."""
        taken = [CT_IMAGE] if STUDY_ROOT_GET in classes else []
        with associated(
            door.address,
            calling=calling,
            contexts=[
                *(build_context(uid) for uid in classes),
                *(build_context(uid, [EXPLICIT]) for uid in taken),
            ],
            ext_neg=[build_role(uid, scp_role=True) for uid in taken],
            handlers=[(evt.EVT_C_STORE, self._take)],
        ) as assoc:
            assert assoc.is_established
            yield assoc

    def _take(self, event: evt.Event) -> int:
        return _answer(event, self.refused)

    @contextmanager
    def refusing(self, *uids: str) -> Iterator[None]:
        """Peers do not take these instances."""
        self.refused.update(uids)
        try:
            yield
        finally:
            self.refused.clear()

    @contextmanager
    def away(self) -> Iterator[None]:
        """The object store has gone."""
        away = self.folder.with_name("away")
        self.folder.rename(away)
        try:
            yield
        finally:
            away.rename(self.folder)

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Nobody can read or write this table."""
        with self.engine.connect() as connection, connection.begin():
            connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            yield

    @contextmanager
    def without(self, table: str) -> Iterator[None]:
        """The index has no such table."""
        self._execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        try:
            yield
        finally:
            self._execute(f"ALTER TABLE {table}_away RENAME TO {table}")

    def too_late(self, table: str, ask: Callable[[], int]) -> int:
        """What is answered where the index does not answer in time."""
        with self.locked(table), ThreadPoolExecutor(1) as threads:
            answered = threads.submit(ask)
            until(lambda: answered.done() or self._end_waiting(), "a statement waits")
            return answered.result(30)

    def waits(self) -> bool:
        """Whether somebody waits for what is locked."""
        with self.engine.connect() as connection:
            return bool(connection.scalars(_WAITING).all())

    def _end_waiting(self) -> bool:
        with self.engine.connect() as connection:
            return bool(connection.scalars(_END_WAITING).all())

    def _execute(self, statement: str) -> None:
        with self.engine.connect() as connection, connection.begin():
            connection.execute(sa.text(statement))


def _answer(event: evt.Event, refused: set[str]) -> int:
    return 0xA700 if str(event.request.AffectedSOPInstanceUID) in refused else 0


@contextmanager
def claims_site(engine: Engine, folder: Path) -> Iterator[Site]:
    """Stands until the end."""
    refused: set[str] = set()
    peer = AnsweringScp(lambda event: _answer(event, refused), {CT_IMAGE: [EXPLICIT]})
    with orders_door(engine, folder / "orders") as orders:
        assert acknowledged(orders.hl7, order_message(accession=ORDER)) == ["AA"]
    text = POLICIES + _CONFIGURATION.format(peer=peer.port, nobody=free_port())
    try:
        with (
            closing(RedisServer()) as broker,
            archive_doors(engine, folder, text, broker=broker.url) as doors,
        ):
            study, images = ForwardingArchive(engine, doors.store).study(images=3)
            objects = doors.settings.data / "objects"
            yield Site(doors, engine, objects, study, tuple(images), refused)
    finally:
        peer.close()


Provoke = Callable[[Site], int]
PROVOCATIONS: dict[tuple[str, str], Provoke] = {}
"""By service and code, as the statement has them: what is answered with that code."""


def provokes(service: str, code: str) -> Callable[[Provoke], Provoke]:
    """What makes a service answer with a status."""

    def register(provoke: Provoke) -> Provoke:
        assert (service, code) not in PROVOCATIONS, (service, code)
        PROVOCATIONS[service, code] = provoke
        return provoke

    return register


def cancelled(
    site: Site, assoc: Association, table: str, ask: Callable[[Association, int], Any], model: str
) -> int:
    """What a request is answered with that is cancelled while the index works: its last status.

    pynetdicom leaves answers alone until they are asked for, so none is lost meanwhile.
    """
    with site.locked(table):
        responses = ask(assoc, 7)
        until(site.waits, "the index works")
        assoc.send_c_cancel(7, query_model=model)
        # Nothing tells that it was heard: some answer at once, some when the index has answered.
        time.sleep(_HEARD)
    return statuses(responses)[-1]


def statuses(responses: Any) -> list[int]:
    """Those of all answers of a request, as pynetdicom hands them out."""
    found = [status for status, _identifier in responses]
    assert all("Status" in status for status in found), "the association broke"
    return [int(status.Status) for status in found]

"""Each rejection that our conformance statement claims of a port is provoked at that port.

The claims are read from the statement itself, so one that nobody can provoke fails here.
"""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.own_entities import QUERY, STORAGE, WORKLIST, own_entities
from gantry_dimse.server import DimseServer
from gantry_domain.conformance.model import Entity, RejectionClaim
from gantry_domain.information_models import MODALITY_WORKLIST_FIND, STUDY_ROOT_FIND
from gantry_domain.statuses import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    SERVICE_AWAY,
    TEMPORARY_CONGESTION,
    UNPARSEABLE_REQUEST,
    USER_IDENTITY_NOT_VERIFIED,
    Rejection,
)
from gantry_runtime.settings import load_settings
from gantry_testkit.archive_doors import ArchiveDoors, archive_doors
from gantry_testkit.door import association_request, receive

CONFIGURATION = """
partners:
  - {ae_title: FAR, hosts: [192.0.2.1]}
  - {ae_title: ONCE, max_associations: 1}
"""
SECRETS = {"GANTRY_DIMSE_PASSCODES": '{"somebody": "passcode"}'}
SOP_CLASSES = {
    STORAGE: b"1.2.840.10008.5.1.4.1.1.2",
    QUERY: STUDY_ROOT_FIND.encode(),
    WORKLIST: MODALITY_WORKLIST_FIND.encode(),
}
CLAIMS = [
    (entity, claim)
    for entity in own_entities(load_settings({"GANTRY_DATA": "/nowhere"}))
    for claim in entity.rejections
]


class Caller:
    """Calls one of the doors, byte by byte."""

    def __init__(self, doors: ArchiveDoors, entity: str) -> None:
        self.doors, self.entity = doors, entity
        self.door: DimseServer = {
            STORAGE: doors.front,
            QUERY: doors.query,
            WORKLIST: doors.worklist,
        }[entity]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.door.address, timeout=10)

    def request(self, **parts: bytes) -> bytes:
        return association_request(**{"SOPClassUID": SOP_CLASSES[self.entity], **parts})

    def ask(self, request: bytes) -> bytes:
        """What a request is answered with; the association is over then."""
        with self.connect() as sock:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
            return receive(sock)


@pytest.fixture(scope="module")
def doors(
    module_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArchiveDoors]:
    folder = tmp_path_factory.mktemp("doors")
    with archive_doors(module_engine, folder, CONFIGURATION, environment=SECRETS) as doors:
        yield doors


@pytest.fixture
def ending(module_engine: Engine, tmp_path: Path) -> Iterator[ArchiveDoors]:
    """Those of one test alone, which ends them."""
    with archive_doors(module_engine, tmp_path) as doors:
        yield doors


def another_version(caller: Caller) -> bytes:
    request = bytearray(caller.request())
    request[6:8] = b"\0\2"
    return caller.ask(bytes(request))


def no_end(caller: Caller) -> bytes:
    """An item that says that it is longer than the request."""
    request = bytearray(caller.request() + b"\x10\0\xff\xff")
    request[2:6] = (len(request) - 6).to_bytes(4)
    return caller.ask(bytes(request))


def wrong_passcode(caller: Caller) -> bytes:
    """User Identity, PS3.7 Table D.3-14: a user name with a passcode."""
    name, passcode = b"somebody", b"another"
    body = b"\2\0" + len(name).to_bytes(2) + name + len(passcode).to_bytes(2) + passcode
    return caller.ask(caller.request(user_items=b"\x58\0" + len(body).to_bytes(2) + body))


def once_more(caller: Caller) -> bytes:
    with caller.connect() as first:
        first.sendall(caller.request(calling_ae=b"ONCE"))
        assert first.recv(1) == b"\2"
        return caller.ask(caller.request(calling_ae=b"ONCE"))


def when_it_ends(caller: Caller) -> bytes:
    assert caller.door.drain(0.1)
    return caller.ask(caller.request())


def for_one_that_is_away(caller: Caller) -> bytes:
    caller.doors.query.close()
    return caller.ask(caller.request(SOPClassUID=SOP_CLASSES[QUERY]))


PROVOCATIONS: dict[Rejection, Callable[[Caller], bytes]] = {
    APPLICATION_CONTEXT_NOT_SUPPORTED: lambda caller: caller.ask(
        caller.request(application_context=b"1.2.3")
    ),
    CALLING_AE_NOT_RECOGNIZED: lambda caller: caller.ask(caller.request(calling_ae=b"FAR")),
    CALLED_AE_NOT_RECOGNIZED: lambda caller: caller.ask(caller.request(called_ae=b"NOBODY")),
    UNPARSEABLE_REQUEST: no_end,
    PROTOCOL_VERSION_NOT_SUPPORTED: another_version,
    USER_IDENTITY_NOT_VERIFIED: wrong_passcode,
    LOCAL_LIMIT_EXCEEDED: once_more,
    SERVICE_AWAY: for_one_that_is_away,
    TEMPORARY_CONGESTION: when_it_ends,
}
_ENDS = (SERVICE_AWAY, TEMPORARY_CONGESTION)


def provoked_by(claim: RejectionClaim) -> list[Rejection]:
    """By its numbers; two are told apart by what is said of them."""
    numbers = (claim.result, claim.source, claim.reason)
    found = [each for each in PROVOCATIONS if each[:3] == numbers]
    if len(found) > 1:
        away = "does not answer" in claim.when
        found = [each for each in found if (each is SERVICE_AWAY) is away]
    return found


@pytest.mark.parametrize(
    ("entity", "claim"),
    CLAIMS,
    ids=lambda each: each.name if isinstance(each, Entity) else each.when[:40],
)
def test_it_is_rejected(
    request: pytest.FixtureRequest, entity: Entity, claim: RejectionClaim
) -> None:
    found = provoked_by(claim)
    assert found, f"{entity.name} claims {claim}, and nothing here provokes it"
    (rejection,) = found
    doors = request.getfixturevalue("ending" if rejection in _ENDS else "doors")
    caller = Caller(doors, entity.name)
    answer = PROVOCATIONS[rejection](caller)
    assert answer == bytes((3, 0, 0, 0, 0, 4, 0, claim.result, claim.source, claim.reason))


def test_without_a_cause_nothing_is_rejected(doors: ArchiveDoors) -> None:
    for entity in SOP_CLASSES:
        caller = Caller(doors, entity)
        assert caller.ask(caller.request())[:1] == b"\2"

"""The front door: associations for other services reach them whole, with the caller's address."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network

import pytest
from pynetdicom import build_context, build_role, evt
from pynetdicom.sop_class import CTImageStorage, Verification
from sqlalchemy.engine import Engine

from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.front_door import FrontDoor, Onward
from gantry_dimse.handover import Handover
from gantry_dimse.observer import Fault, Peer, PeerCertificate
from gantry_dimse.partners import Caller, Partners
from gantry_dimse.tls import ServerTLS, TLSFiles
from gantry_domain.information_models import (
    INFORMATION_MODELS,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_stores.objects import DirectoryStore
from gantry_testkit.certificates import Authority
from gantry_testkit.door import ABORT_BY_USER, Door, association_request, exchange, receive
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.ports import free_port_base
from gantry_testkit.query_scu import Retrieved, answers, associated, identifier
from gantry_testkit.stored import image, stage
from gantry_testkit.waiting import until

HANDOVER = Handover(b"the key of this archive")
QUERY_CLASSES = [uid for model in INFORMATION_MODELS for uid in model.classes]
BEHIND = SupportedContexts(others=[build_context(uid) for uid in QUERY_CLASSES])
HERE, THERE = "here", "there"
NAMED = b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 11112\r\n"


def front_door(port: int, passed: list[str] | None = None) -> FrontDoor:
    told = [] if passed is None else passed
    return FrontDoor(
        dict.fromkeys(QUERY_CLASSES, Onward("query", "127.0.0.1", port)),
        takes_storage=frozenset(model.get_class for model in INFORMATION_MODELS),
        handover=HANDOVER,
        send_timeout=10,
        passed_on=lambda peer, service: told.append(f"{peer.calling_ae} to {service}"),
    )


@pytest.fixture
def behind(open_door: Callable[..., Door]) -> Door:
    """The service that others pass on to."""
    return open_door(supported=BEHIND, handover=HANDOVER, acse_timeout=2)


@pytest.mark.parametrize(
    ("classes", "where"),
    [
        ([STUDY_ROOT_FIND], THERE),
        ([STUDY_ROOT_MOVE, Verification], THERE),
        ([STUDY_ROOT_GET, CTImageStorage], THERE),
        (QUERY_CLASSES, THERE),
        ([Verification], HERE),
        ([CTImageStorage], HERE),
        # A device that sends its images over the association with which it asks.
        ([CTImageStorage, STUDY_ROOT_FIND], HERE),
    ],
)
def test_the_classes_say_where_an_association_belongs(
    open_door: Callable[..., Door], behind: Door, classes: list[str], where: str
) -> None:
    passed: list[str] = []
    front = open_door(front_door=front_door(behind.port, passed))
    contexts = [build_context(uid) for uid in classes]
    with associated(("127.0.0.1", front.port), contexts=contexts) as assoc:
        assert assoc.is_established
        assert len(front.notes.opened) == (where == HERE)
        assert len(behind.notes.opened) == (where == THERE)
        assert assoc.send_c_echo().Status == 0
    assert passed == (["WS1 to query"] if where == THERE else [])
    until(lambda: not front.server.active and not behind.server.active, "both have ended")


def test_the_caller_is_known_behind_it_and_judged_there(
    open_door: Callable[..., Door],
) -> None:
    partners = Partners(
        own_titles=["GANTRY"],
        callers=[Caller("RAW", (ip_network("192.0.2.0/24"),), "main")],
        accept_unknown=False,
    )
    behind = open_door(supported=BEHIND, handover=HANDOVER, admit=partners.admit)
    front = open_door(front_door=front_door(behind.port), proxies=[ip_network("127.0.0.0/8")])
    request = association_request(SOPClassUID=STUDY_ROOT_FIND.encode())
    with front.connect() as sock:
        sock.sendall(NAMED + request)
        assert sock.recv(1, socket.MSG_WAITALL) == b"\2"
    assert behind.notes.opened == [Peer("RAW", "GANTRY", "192.0.2.7")]
    elsewhere = NAMED.replace(b"192.0.2.7", b"198.51.100.7")
    assert exchange(front, elsewhere + request)[:10] == bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 3))
    assert not front.notes.rejections  # it is the other service that rejects
    with front.connect() as sock:
        sock.sendall(NAMED.replace(b"TCP4 192.0.2.7 127.0.0.1", b"TCP6 2001:db8::7 ::1") + request)
        assert sock.recv(1, socket.MSG_WAITALL) == b"\3"
    assert behind.notes.rejections[-1][0].host == "2001:db8::7"


def test_a_certificate_is_known_behind_it(
    open_door: Callable[..., Door], behind: Door, tmp_path
) -> None:
    authority = Authority(tmp_path)
    own, device = authority.sign("gantry"), authority.sign("CT scanner 1", dns="ct01.example")
    files = TLSFiles(certificate=own.certificate, key=own.key, ca=authority.certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    open_door(
        front_door=front_door(behind.port),
        tls_listener=listener,
        tls=ServerTLS(files, on_refused=lambda error: None),
    )
    context = ssl.create_default_context(cafile=authority.certificate)
    context.load_cert_chain(device.certificate, device.key)
    sock = socket.create_connection(listener.getsockname(), timeout=10)
    with context.wrap_socket(sock, server_hostname="127.0.0.1") as secured:
        secured.sendall(association_request(SOPClassUID=STUDY_ROOT_FIND.encode()))
        assert secured.recv(1) == b"\2"
        names = frozenset({"ct scanner 1", "ct01.example"})
        shown = PeerCertificate(fingerprint=device.fingerprint, names=names)
        assert behind.notes.opened == [Peer("RAW", "GANTRY", "127.0.0.1", shown)]


FORGED = {
    "by another key": lambda peer: Handover(b"another key").encode(peer),
    "changed on its way": lambda peer: HANDOVER.encode(peer).replace(
        bytes((192, 0, 2, 7)), bytes((192, 0, 2, 8))
    ),
    "without a signature": lambda peer: (
        HANDOVER.encode(peer)[:12] + bytes((0x21, 0x11, 0, 12, *([1] * 12)))
    ),
    "for the proxy itself": lambda peer: HANDOVER.encode(peer)[:12] + bytes((0x20, 0, 0, 0)),
    "no more than a signature": lambda peer: HANDOVER.encode(peer)[:12] + bytes(16),
}


@pytest.mark.parametrize("how", FORGED)
def test_nobody_else_can_say_who_calls(behind: Door, how: str) -> None:
    header = FORGED[how](Peer("RAW", "GANTRY", "192.0.2.7"))
    request = association_request(SOPClassUID=STUDY_ROOT_FIND.encode())
    assert exchange(behind, header + request) == ABORT_BY_USER
    assert behind.notes.faults == [Fault.NOT_DICOM]
    assert not behind.notes.opened


def test_an_old_header_is_of_no_use(behind: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr("gantry_dimse.handover.time.time", lambda: real() - 400)
    header = HANDOVER.encode(Peer("RAW", "GANTRY", "192.0.2.7"))
    monkeypatch.undo()
    assert exchange(behind, header + association_request()) == ABORT_BY_USER


def test_who_comes_by_himself_needs_no_header_and_silence_ends(behind: Door) -> None:
    with behind.connect() as sock:
        sock.sendall(association_request(SOPClassUID=STUDY_ROOT_FIND.encode()))
        assert sock.recv(1, socket.MSG_WAITALL) == b"\2"
    assert behind.notes.opened == [Peer("RAW", "GANTRY", "127.0.0.1")]
    with behind.connect() as sock:
        assert receive(sock) == b""
    assert behind.notes.faults == [Fault.SILENT]


def test_a_service_that_is_away_is_congestion_and_images_are_taken(
    open_door: Callable[..., Door],
) -> None:
    front = open_door(front_door=front_door(free_port_base(9103) + 9103))
    answer = exchange(front, association_request(SOPClassUID=STUDY_ROOT_FIND.encode()))
    assert answer[:10] == bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 1))
    assert [rejection.label for _, rejection in front.notes.rejections] == ["service_away"]
    assert front.echo() == 0
    assert not front.server.active


@pytest.mark.parametrize("who", ["the caller", "the service"])
def test_one_side_that_goes_takes_the_other_along(
    open_door: Callable[..., Door], behind: Door, who: str
) -> None:
    front = open_door(front_door=front_door(behind.port))
    with front.connect() as sock:
        sock.sendall(association_request(SOPClassUID=STUDY_ROOT_FIND.encode()))
        assert sock.recv(1, socket.MSG_WAITALL) == b"\2"
        if who == "the service":
            behind.server.close()
            receive(sock)
        else:
            sock.close()
        until(lambda: not front.server.active and not behind.server.active, "both have ended")


def test_a_quiet_association_does_not_hold_up_a_drain(
    open_door: Callable[..., Door], behind: Door
) -> None:
    front = open_door(front_door=front_door(behind.port))
    with front.connect() as quiet:
        quiet.sendall(association_request(SOPClassUID=STUDY_ROOT_FIND.encode()))
        assert quiet.recv(1, socket.MSG_WAITALL) == b"\2"
        begun = time.monotonic()
        drained: list[bool] = []
        draining = threading.Thread(target=lambda: drained.append(front.server.drain(60)))
        draining.start()
        until(lambda: front.server._departure.begun, "it drains")
        late = exchange(front, association_request(SOPClassUID=STUDY_ROOT_FIND.encode()))
        assert late[:10] == bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 1))
        draining.join(30)
        assert drained == [True]
        assert time.monotonic() - begun < 20
        with suppress(ConnectionError):
            receive(quiet)


@pytest.fixture(scope="module")
def archive(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> ForwardingArchive:
    return ForwardingArchive(module_engine, DirectoryStore(tmp_path_factory.mktemp("objects")))


@pytest.fixture(scope="module")
def query(archive: ForwardingArchive, serve_find) -> Iterator[int]:
    """The port of the query service, which the front door passes on to."""
    with serve_find(archive.engine, "", archive.store, handover=HANDOVER) as server:
        yield server.address[1]


def test_one_port_finds_retrieves_and_takes_images(
    open_door: Callable[..., Door], archive: ForwardingArchive, query: int
) -> None:
    front = open_door(front_door=front_door(query))
    large = image(PixelData=bytes(3 * 2**20), Rows=1024, Columns=1536)
    archive.index(stage(archive.store, large))
    study = str(large.StudyInstanceUID)
    address = ("127.0.0.1", front.port)
    with associated(address) as assoc:
        statuses, found = answers(assoc, identifier("STUDY", StudyInstanceUID=study))
    assert [match.StudyInstanceUID for match in found] == [study]
    assert statuses[-1].Status == 0

    received: list[bytes] = []

    def take(event: evt.Event) -> int:
        received.append(event.encoded_dataset(include_meta=False))
        return 0

    with associated(
        address,
        contexts=[
            build_context(STUDY_ROOT_GET),
            build_context(large.SOPClassUID, [EXPLICIT_VR_LITTLE_ENDIAN]),
        ],
        ext_neg=[build_role(large.SOPClassUID, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, take)],
        max_pdu=0,
    ) as assoc:
        responses = list(
            assoc.send_c_get(identifier("STUDY", StudyInstanceUID=study), STUDY_ROOT_GET)
        )
    assert Retrieved(responses).counts == (1, 0, 0)
    assert len(received[0]) > 3 * 2**20
    until(lambda: not front.server.active, "every association has ended")

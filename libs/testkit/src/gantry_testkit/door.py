"""A DIMSE server on a free port, with storage in memory, and peers that speak to it in bytes."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any, Protocol

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import CTImageStorage, Verification

from gantry_dimse.contexts import SupportedContexts
from gantry_dimse.limits import ServerLimits
from gantry_dimse.observer import Ending, Fault, Peer
from gantry_dimse.pdu import HEADER, PDV_HEADER
from gantry_dimse.server import DimseServer
from gantry_dimse.storage import StorageHandler, StoreOutcome, StoreRequest
from gantry_domain.statuses import Rejection
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.waiting import until

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"

_LIMITS = frozenset(field.name for field in fields(ServerLimits))


class Memory:
    """A `StorageHandler` that keeps objects in memory, for tests of what lies before it."""

    def __init__(self) -> None:
        self.stored: list[tuple[StoreRequest, bytes]] = []
        self.aborted: list[int] = []
        self.outcome = StoreOutcome()
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = 0

    def begin(self, request: StoreRequest) -> "Incoming":
        return Incoming(self, request)


class Incoming:
    def __init__(self, memory: Memory, request: StoreRequest) -> None:
        self.memory, self.request, self.content = memory, request, bytearray()

    def write(self, fragment: memoryview) -> None:
        self.content += fragment

    def finish(self) -> StoreOutcome:
        self.memory.waiting += 1
        self.memory.gate.wait(30)
        self.memory.waiting -= 1
        self.memory.stored.append((self.request, bytes(self.content)))
        return self.memory.outcome

    def abort(self) -> None:
        self.memory.aborted.append(len(self.content))


class Notes:
    """An `Observer` that remembers."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.fault_details: list[str] = []
        self.rejections: list[tuple[Peer, Rejection]] = []
        self.opened: list[Peer] = []
        self.endings: list[tuple[Ending, str]] = []
        self.failures: list[Exception] = []

    def faulted(self, host: str, fault: Fault, detail: str = "") -> None:
        self.faults.append(fault)
        self.fault_details.append(detail)

    def rejected(self, peer: Peer, rejection: Rejection) -> None:
        self.rejections.append((peer, rejection))

    def established(self, peer: Peer) -> None:
        self.opened.append(peer)

    def ended(self, peer: Peer, ending: Ending, detail: str) -> None:
        assert peer in self.opened
        self.endings.append((ending, detail))

    def failed(self, error: Exception) -> None:
        self.failures.append(error)


class Door:
    """A server on a free port with its storage, unless another is given, and its notes."""

    def __init__(self, *, handler: StorageHandler | None = None, **options: Any) -> None:
        self.storage, self.notes = Memory(), Notes()
        limits = {key: options.pop(key) for key in list(options) if key in _LIMITS}
        self.server = DimseServer(
            listener=socket.create_server(("127.0.0.1", 0), backlog=64),
            ae_title="GANTRY",
            limits=ServerLimits(**limits),
            supported=options.pop("supported", None) or SupportedContexts(),
            storage=handler or self.storage,
            observer=self.notes,
            **options,
        )
        self.server.start()
        self.port = self.server.address[1]

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def echo(self, called_ae: str = "GANTRY") -> int:
        """A C-ECHO by pynetdicom: its status, or -1 for no association."""
        with associated(self, contexts=[build_context(Verification)], called_ae=called_ae) as assoc:
            return int(assoc.send_c_echo().Status) if assoc.is_established else -1


class Connectable(Protocol):
    """A door, or a service that runs."""

    port: int

    def connect(self) -> socket.socket:
        """A new plain connection."""


@contextmanager
def associated(
    door: Connectable,
    *,
    contexts: list[Any] | None = None,
    called_ae: str = "GANTRY",
    calling_ae: str = "CT01",
    max_pdu: int = 16382,
    ext_neg: list[Any] | None = None,
) -> Iterator[Any]:
    """An association requested by pynetdicom, established or not."""
    ae = PeerAE(ae_title=calling_ae)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    assoc = ae.associate(
        "127.0.0.1",
        door.port,
        contexts=contexts
        or [build_context(CTImageStorage, [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])],
        ae_title=called_ae,
        max_pdu=max_pdu,
        ext_neg=ext_neg,
    )
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def ct() -> Dataset:
    return pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))


def data_set_bytes(path: str) -> bytes:
    """The data set of a DICOM file, after its file meta."""
    with open(path, "rb") as file:
        content = file.read()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def association_request(
    *,
    application_context: bytes = b"1.2.840.10008.3.1.1.1",
    SOPClassUID: bytes = b"1.2.840.10008.5.1.4.1.1.2",
    calling_ae: bytes = b"RAW",
    called_ae: bytes = b"GANTRY",
    user_items: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ of one context (id 1) in Explicit VR Little Endian."""

    def item(kind: int, body: bytes) -> bytes:
        return bytes((kind, 0)) + len(body).to_bytes(2) + body

    context = (
        bytes((1, 0, 0, 0))
        + item(0x30, SOPClassUID)
        + item(0x40, EXPLICIT_VR_LITTLE_ENDIAN.encode())
    )
    user = item(0x51, (16384).to_bytes(4)) + item(0x52, b"1.2.3") + user_items
    body = b"\0\1\0\0" + called_ae.ljust(16) + calling_ae.ljust(16) + bytes(32)
    body += item(0x10, application_context) + item(0x20, context) + item(0x50, user)
    return HEADER.pack(1, len(body)) + body


def receive(sock: socket.socket) -> bytes:
    """All that comes until the peer closes."""
    content = b""
    with suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            content += piece
    return content


def exchange(door: Connectable, content: bytes) -> bytes:
    """Send, and return all that is answered before the connection is closed."""
    with door.connect() as sock:
        sock.sendall(content)
        sock.shutdown(socket.SHUT_WR)
        return receive(sock)


def established(door: Connectable) -> socket.socket:
    """A raw connection with an established association."""
    sock = door.connect()
    sock.sendall(association_request())
    pdu_type, length = HEADER.unpack(sock.recv(6, socket.MSG_WAITALL))
    assert pdu_type == 2
    sock.recv(length, socket.MSG_WAITALL)
    return sock


def store_request(*, message_id: int = 1, field: int = 1, data_set: int = 0) -> bytes:
    def element(number: int, value: bytes) -> bytes:
        return b"\0\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value

    return (
        element(0x0002, b"1.2.840.10008.5.1.4.1.1.2\0")
        + element(0x0100, field.to_bytes(2, "little"))
        + element(0x0110, message_id.to_bytes(2, "little"))
        + element(0x0800, data_set.to_bytes(2, "little"))
        + element(0x1000, b"1.2.3\0")
    )


def pdv(control: int, fragment: bytes, context_id: int = 1) -> bytes:
    return PDV_HEADER.pack(len(fragment) + 2, context_id, control) + fragment


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return HEADER.pack(4, len(body)) + body


ABORT_BY_USER = bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASE = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASED = bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0))


def aborted_by_provider(reason: int) -> bytes:
    return bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, reason))


def _serving() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("dimse 127")]


def close_doors(doors: Iterable[Door]) -> None:
    """Close them; nothing has failed behind them, and no thread is left."""
    for door in doors:
        door.server.close()
        assert not door.notes.failures
    until(lambda: not _serving(), "no thread is left", seconds=5)

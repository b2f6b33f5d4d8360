"""The worklist service in this process: its listener of HL7 and its DIMSE port over an index."""

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Engine

from gantry_dimse.handover import Handover
from gantry_dimse.slots import AssociationSlots
from gantry_domain.hl7.framing import framed
from gantry_runtime.settings import load_settings
from gantry_worklist.dimse import make_server
from gantry_worklist.hl7 import make_listener
from gantry_worklist.polling import pollers
from gantry_worklist.reporting import report_lanes

Address = tuple[str, int]


class Sender:
    """A connection of an engine that sends messages."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: over TLS."""
        self.sock = socket.create_connection(address, timeout=60)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=address[0])
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def send(self, message: bytes) -> bytes:
        """The acknowledgement without its frame; empty where the connection is closed instead."""
        self.sock.sendall(framed(message))
        return self.receive()

    def receive(self) -> bytes:
        """The next acknowledgement, likewise."""
        while b"\x1c\r" not in self._received:
            piece = self.sock.recv(65536)
            if not piece:
                return b""
            self._received += piece
        answer, _, self._received = self._received.partition(b"\x1c\r")
        return answer[1:]

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def acknowledged(address: Address, *messages: bytes) -> list[str]:
    """What messages over one connection are answered with: AA, or the code and condition."""
    with Sender(address) as sender:
        return [code(sender.send(message)) for message in messages]


def code(answer: bytes) -> str:
    """AA, or AE or AR with the condition of HL7 Table 0357; empty where there is no answer."""
    if not answer:
        return ""
    segments = {line[:3]: line.split(b"|") for line in answer.split(b"\r")}
    ack = segments[b"MSA"][1].decode()
    error = segments.get(b"ERR")
    if error is None:
        return ack
    condition = error[3] if len(error) > 3 else error[1].split(b"^")[3]
    return f"{ack} {condition[:3].decode()}"


@dataclass(frozen=True, slots=True)
class OrdersDoor:
    """Where it listens."""

    hl7: Address
    dimse: Address


def each_acknowledged(address: Address, message: bytes, *, answers: int) -> list[bytes]:
    """So many answers to one message; then nothing more comes before that of another message."""
    with Sender(address) as sender:
        sender.sock.sendall(framed(message))
        found = [sender.receive() for _ in range(answers)]
        probe = sender.send(b"this is nothing")
        assert code(probe) == "AR 100", probe
        return found


@contextmanager
def orders_door(
    engine: Engine, folder: Path, configuration: str = "", *, handover: Handover | None = None
) -> Iterator[OrdersDoor]:
    """Serves until the end; `configuration` is the text of a file."""
    folder.mkdir(exist_ok=True)
    (folder / "gantry.yaml").write_text(configuration, encoding="utf-8")
    settings = load_settings(
        {"GANTRY_CONFIG": str(folder / "gantry.yaml"), "GANTRY_DATA": str(folder)}
    )
    stopping = threading.Event()
    slots = AssociationSlots(folder / "associations", count=settings.worklist.max_associations)
    threads = ThreadPoolExecutor(4)
    messages = make_listener(
        settings, socket.create_server(("127.0.0.1", 0)), engine=engine, stopping=stopping
    )
    server = make_server(
        settings,
        socket.create_server(("127.0.0.1", 0)),
        engine=engine,
        threads=threads,
        slots=slots,
        handover=handover,
    )
    lanes = report_lanes(settings, engine=engine, stopping=stopping)
    messages.start()
    server.start()
    polling = pollers(settings, engine=engine, stopping=stopping)
    for lane in lanes:
        lane.start()
    for poller in polling:
        poller.start()
    try:
        yield OrdersDoor(messages.address, server.address)
    finally:
        stopping.set()
        messages.close()
        server.close()
        for lane in lanes:
            lane.close()
        for poller in polling:
            poller.close(30)
        threads.shutdown()
        slots.close()

"""The connection to a receiver of HL7: over TLS to whom it should be, and nobody is waited for."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import (
    Interrupted,
    PeerBrokeProtocol,
    PeerClosed,
    PeerTimedOut,
    Unreachable,
)
from gantry_testkit.certificates import Authority
from gantry_worker.mllp_connection import MllpConnection

Talk = Callable[[socket.socket], None]


@contextmanager
def receiver(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Its port; each connection is talked to in a thread of its own, and then closed."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        ended = threading.Event()

        def serve(connection: socket.socket) -> None:
            with connection:
                try:
                    if tls is not None:
                        connection = tls.wrap_socket(connection, server_side=True)
                    with connection:
                        talk(connection)
                except OSError:
                    return

        def accept() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown, socket.SHUT_RDWR)
        stack.callback(ended.set)
        yield server.getsockname()[1]


def echo(connection: socket.socket) -> None:
    while piece := connection.recv(4096):
        connection.sendall(piece)


def test_over_tls_it_has_to_be_whom_we_mean(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    signed = authority.sign("ris", dns="ris.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(signed.certificate, signed.key)
    with receiver(echo, server) as port:
        for name in (None, "ris.example"):
            tls = OutgoingTLS(ca=authority.certificate, name=name)
            connection = MllpConnection("127.0.0.1", port, timeout=10, tls=tls)
            assert connection.ask(b"MSH|1") == b"MSH|1"
            assert connection.ask(b"MSH|2") == b"MSH|2"  # over the same connection
            connection.close()
        strangers = Authority(tmp_path / "theirs")
        for tls in (
            OutgoingTLS(ca=authority.certificate, name="other.example"),
            OutgoingTLS(ca=strangers.certificate),
        ):
            with pytest.raises(Unreachable, match="TLS failed"):
                MllpConnection("127.0.0.1", port, timeout=10, tls=tls).ask(b"MSH|1")


def _trickle(connection: socket.socket) -> None:
    connection.sendall(b"\x0b")
    while True:
        connection.sendall(b"M")
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("talk", "failure"),
    [
        (lambda connection: connection.recv(1) and None, PeerClosed),
        (_trickle, PeerTimedOut),
        (
            lambda connection: connection.sendall(b"HTTP/1.1 400") or time.sleep(1),
            PeerBrokeProtocol,
        ),
    ],
    ids=["closes", "trickles", "speaks another language"],
)
def test_what_is_no_answer(talk: Talk, failure: type[Exception]) -> None:
    with receiver(talk) as port:
        connection = MllpConnection("127.0.0.1", port, timeout=0.5, tls=None)
        began = time.monotonic()
        with pytest.raises(failure):
            connection.ask(b"MSH|1")
        assert time.monotonic() - began < 5


def test_it_is_interrupted_while_nobody_answers() -> None:
    with receiver(lambda _: time.sleep(2)) as port:
        connection = MllpConnection("127.0.0.1", port, timeout=30, tls=None)
        timer = threading.Timer(0.2, connection.interrupt)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            connection.ask(b"MSH|1")
        assert time.monotonic() - began < 10
        timer.join()

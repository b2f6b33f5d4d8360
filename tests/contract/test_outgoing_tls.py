"""Partners that we call over TLS: who they have to be, who we are to them, and what fails."""

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import evt

from gantry_archive.destinations import Destination
from gantry_archive.outgoing_tls import check_outgoing_tls
from gantry_cli.echo import EchoFailed, Peer, echo
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import PeerClosed, PeerTimedOut, Unreachable
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation
from gantry_domain.errors import ConfigurationError
from gantry_runtime.settings import load_settings
from gantry_testkit.certificates import Authority, Signed
from gantry_testkit.hostile_peer import CT, Hostile
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.peers import storescp
from gantry_testkit.tls_door import TlsDoor

EXPLICIT = "1.2.840.10008.1.2.1"
QUICK = Timeouts(connect=3, acse=3, dimse=5, network=3)
HASTY = Timeouts(connect=3, acse=0.3)
LARGE = 2 << 20


class SecureScp:
    """A storage SCP of pynetdicom that wants a certificate of our authority."""

    def __init__(self, authority: Authority, shown: Signed) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.certificate, shown.key)
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        self.received: list[int] = []
        ae = PeerAE(ae_title="SECURE")
        ae.add_supported_context(CT, [EXPLICIT])
        ae.add_supported_context("1.2.840.10008.1.1")
        self._server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            ssl_context=context,
            evt_handlers=[(evt.EVT_C_STORE, self._store)],
        )
        self.port = int(self._server.socket.getsockname()[1])

    def _store(self, event: evt.Event) -> int:
        self.received.append(len(event.request.DataSet.getvalue()))
        return 0

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> OutgoingTLS:
    signed = authority.sign("gantry")
    return OutgoingTLS(ca=authority.certificate, certificate=signed.certificate, key=signed.key)


@pytest.fixture(scope="module")
def scp(authority: Authority) -> Iterator[SecureScp]:
    scp = SecureScp(authority, authority.sign("pacs", dns="pacs.example"))
    yield scp
    scp.close()


def call(port: int, tls: OutgoingTLS | None, timeouts: Timeouts = QUICK) -> StorageAssociation:
    destination = Destination(
        ae_title="SECURE", host="127.0.0.1", port=port, calling_ae="GANTRY", tls=tls
    )
    return destination.associate([ProposedContext(CT, (EXPLICIT,))], timeouts)


def store(association: StorageAssociation, size: int = 1000) -> int:
    context = association.accepts(CT, EXPLICIT)
    assert context is not None
    # A private element as long as it needs to be.
    head = bytes.fromhex("0900 1000 4f42 0000") + size.to_bytes(4, "little")
    return association.store(
        SOPClassUID=CT,
        SOPInstanceUID="1.2.3",
        context=context,
        chunks=[head, *(bytes(min(1 << 20, size - at)) for at in range(0, size, 1 << 20))],
    ).status


def test_instances_small_and_large_arrive(scp: SecureScp, ours: OutgoingTLS) -> None:
    scp.received.clear()
    with call(scp.port, ours) as association:
        assert [store(association, size) for size in (1000, LARGE, 2)] == [0, 0, 0]
    assert scp.received == [12 + 1000, 12 + LARGE, 12 + 2]


def test_echo(scp: SecureScp, ours: OutgoingTLS) -> None:
    assert echo(Peer("SECURE", "127.0.0.1", scp.port, "GANTRY", ours)) > 0
    with pytest.raises(EchoFailed, match=r"did not answer|aborted"):
        echo(Peer("SECURE", "127.0.0.1", scp.port, "GANTRY"))


def test_storescp_of_dcmtk_takes_it(
    authority: Authority, ours: OutgoingTLS, tmp_path: Path
) -> None:
    theirs = authority.sign("storescp")
    options = ["+tls", str(theirs.key), str(theirs.certificate), "+cf", str(authority.certificate)]
    with storescp(tmp_path, *options) as peer:
        with call(peer.port, ours) as association:
            assert store(association, 100_000) == 0
        (file,) = [path for path in peer.folder.rglob("*") if path.is_file()]
        assert file.stat().st_size > 100_000


def test_whom_we_do_not_trust_is_not_called(
    scp: SecureScp, ours: OutgoingTLS, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger", "Another CA")
    own = authority.sign("gantry")
    for tls, why in (
        (OutgoingTLS(ca=stranger.certificate), "unable to get local issuer|self.signed"),
        (OutgoingTLS(certificate=own.certificate, key=own.key), "local issuer|self.signed"),
        (OutgoingTLS(ca=authority.certificate, name="other.example"), "other.example"),
    ):
        with pytest.raises(Unreachable, match=rf"TLS failed: .*({why})"):
            call(scp.port, tls)
    # By the name that it has, wherever it is.
    named = OutgoingTLS(ca=ours.ca, certificate=ours.certificate, key=ours.key, name="pacs.example")
    with call(scp.port, named) as association:
        assert store(association) == 0


def test_whoever_wants_a_certificate_of_us_and_gets_none_ends_it(
    scp: SecureScp, ours: OutgoingTLS
) -> None:
    # With TLS 1.3 it is after our side of the handshake that the other one says no.
    with pytest.raises((Unreachable, PeerClosed)):
        call(scp.port, OutgoingTLS(ca=ours.ca))


def test_a_peer_that_speaks_no_tls_or_says_nothing(hostile: Hostile, ours: OutgoingTLS) -> None:
    def listen(connection: socket.socket) -> None:
        connection.recv(4096)

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"\x03" + bytes(9))

    for behave in (listen, talk):
        with pytest.raises(Unreachable, match="TLS failed: "):
            call(hostile(behave).port, ours)


def test_a_peer_that_stops_reading_is_given_up(tmp_path: Path, hostile: Hostile) -> None:
    def behave(_connection: socket.socket) -> None:
        peer.over.wait(30)

    peer = hostile(behave)
    door = TlsDoor(peer.port, folder=tmp_path)
    tls = OutgoingTLS(ca=door.ca_file)
    begun = time.monotonic()
    with pytest.raises(PeerTimedOut):
        call(door.port, tls, HASTY)
    assert time.monotonic() - begun < 20
    assert door.taken == 1
    door.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("partners: [{ae_title: A, tls: true}]", "tls is how we call a partner"),
        (
            "partners: [{ae_title: A, address: 'h:1', tls_name: x}]",
            "tls_name is of no use without tls",
        ),
        ("forward: {tls_key: x}", "tls_certificate and tls_key need each other"),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "gantry.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=expected):
        load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(tmp_path)})


def test_files_that_are_no_use_are_one_line_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "gantry.yaml").write_text(
        "partners: [{ae_title: A, address: 'a.example:2762', tls: true}]\n"
        "forward: {tls_ca: none.pem}\n"
    )
    settings = load_settings(
        {"GANTRY_CONFIG": str(tmp_path / "gantry.yaml"), "GANTRY_DATA": str(tmp_path)}
    )
    with pytest.raises(ConfigurationError, match=r"none\.pem: cannot be used for TLS") as caught:
        check_outgoing_tls(settings)
    assert "\n" not in str(caught.value)

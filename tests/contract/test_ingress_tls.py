"""TLS on a port of its own, with real certificates: who is let in, who is not, and new files."""

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from gantry_dimse.observer import Ending, Fault
from gantry_dimse.partners import Caller, Partners
from gantry_dimse.pdu import HEADER
from gantry_dimse.tls import ServerTLS, TLSFiles
from gantry_domain.errors import ConfigurationError
from gantry_testkit.certificates import Authority, Signed
from gantry_testkit.door import (
    ABORT_BY_USER,
    RELEASE,
    RELEASED,
    Door,
    association_request,
    close_doors,
    data_set_bytes,
    p_data,
    pdv,
    receive,
    store_request,
)
from gantry_testkit.waiting import until

CT = str(get_testdata_file("CT_small.dcm"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def device(authority: Authority) -> Signed:
    return authority.sign("CT scanner 1", dns="ct01.example")


class SecureDoor(Door):
    """A door with a port for TLS besides the plain one."""

    def __init__(self, files: TLSFiles, **options: object) -> None:
        self.refused: list[ConfigurationError] = []
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.tls_port = listener.getsockname()[1]
        super().__init__(
            tls_listener=listener, tls=ServerTLS(files, on_refused=self.refused.append), **options
        )


@pytest.fixture
def open_door(authority: Authority, tmp_path: Path) -> Iterator[Callable[..., SecureDoor]]:
    doors: list[SecureDoor] = []
    own = authority.sign("gantry")
    files = TLSFiles(certificate=tmp_path / "own.pem", key=tmp_path / "own.key")
    files.certificate.write_bytes(own.certificate.read_bytes())
    files.key.write_bytes(own.key.read_bytes())

    def make(*, mutual: bool = True, **options: object) -> SecureDoor:
        ca = authority.certificate if mutual else None
        doors.append(
            SecureDoor(TLSFiles(certificate=files.certificate, key=files.key, ca=ca), **options)
        )
        return doors[-1]

    yield make
    close_doors(doors)


def client_context(authority: Authority, shown: Signed | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def connect(door: SecureDoor, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", door.tls_port), timeout=10)
    return context.wrap_socket(sock, server_hostname="127.0.0.1")


def associate(door: SecureDoor, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = connect(door, context)
    sock.sendall(association_request())
    answer = read_pdu(sock)
    assert answer[0] == 2, answer
    return sock


def read_pdu(sock: socket.socket) -> bytes:
    content = b""
    while len(content) < 6 or len(content) < 6 + HEADER.unpack(content[:6])[1]:
        piece = sock.recv(65536)
        assert piece, content
        content += piece
    return content


def refused(door: SecureDoor, context: ssl.SSLContext) -> str:
    """Whatever the client sees, no association comes of it; the server's reason."""
    # In TLS 1.3 the client is done before its certificate was looked at.
    with suppress(ssl.SSLError, ConnectionError), connect(door, context) as sock:
        sock.sendall(association_request())
        assert sock.recv(10) == b""
    until(lambda: door.notes.faults)
    assert door.notes.faults == [Fault.TLS]
    assert door.notes.opened == []
    assert door.echo() == 0
    return door.notes.fault_details[0]


class TestWhoIsLetIn:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_an_object_over_tls(
        self,
        open_door: Callable[..., SecureDoor],
        authority: Authority,
        device: Signed,
        version: ssl.TLSVersion,
    ) -> None:
        door = open_door()
        context = client_context(authority, device)
        context.minimum_version = context.maximum_version = version
        content = os.urandom(3_000_000)
        with associate(door, context) as sock:
            assert sock.version() == str(version.name).replace("_", ".")
            sock.sendall(p_data(pdv(3, store_request())) + p_data(pdv(2, content)))
            assert read_pdu(sock)[0] == 4
            sock.sendall(RELEASE)
            assert receive(sock) == RELEASED
        assert [stored for _request, stored in door.storage.stored] == [content]
        until(lambda: door.notes.endings == [(Ending.RELEASED, "")])
        shown = door.notes.opened[0].certificate
        assert shown is not None
        assert shown.fingerprint == device.fingerprint
        assert shown.names == {"ct scanner 1", "ct01.example"}

    def test_without_an_authority_for_callers_nobody_has_to_show_one(
        self, open_door: Callable[..., SecureDoor], authority: Authority
    ) -> None:
        door = open_door(mutual=False)
        with associate(door, client_context(authority)) as sock:
            sock.sendall(RELEASE)
            assert receive(sock) == RELEASED
        assert door.notes.opened[0].certificate is None

    def test_dcmtk(
        self, open_door: Callable[..., SecureDoor], authority: Authority, device: Signed
    ) -> None:
        door = open_door()
        command = ["storescu", "+tls", str(device.key), str(device.certificate)]
        command += ["+cf", str(authority.certificate), "-aec", "GANTRY", "-aet", "DCMTK"]
        done = subprocess.run(
            [*command, "127.0.0.1", str(door.tls_port), *[CT] * 5],
            env=os.environ | {"TCP_NODELAY": "1"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        contents = [content for _request, content in door.storage.stored]
        assert len(contents) == 5
        # storescu leaves the trailing padding out.
        assert all(len(c) > 30_000 and data_set_bytes(CT).startswith(c) for c in contents)
        until(lambda: door.notes.endings == [(Ending.RELEASED, "")])

    def test_behind_a_proxy(
        self, open_door: Callable[..., SecureDoor], authority: Authority, device: Signed
    ) -> None:
        door = open_door(proxies=[ip_network("127.0.0.1")])
        sock = socket.create_connection(("127.0.0.1", door.tls_port), timeout=10)
        sock.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 2762\r\n")
        with client_context(authority, device).wrap_socket(
            sock, server_hostname="127.0.0.1"
        ) as secure:
            secure.sendall(association_request())
            assert read_pdu(secure)[0] == 2
        assert door.notes.opened[0].host == "192.0.2.7"


class TestWhoIsNot:
    def test_no_certificate(
        self, open_door: Callable[..., SecureDoor], authority: Authority
    ) -> None:
        reason = refused(open_door(), client_context(authority))
        assert reason == "peer did not return a certificate"

    def test_another_authority(
        self, open_door: Callable[..., SecureDoor], authority: Authority, tmp_path: Path
    ) -> None:
        other = Authority(tmp_path / "other", "Other CA").sign("CT scanner 1")
        reason = refused(open_door(), client_context(authority, other))
        assert "unable to get local issuer certificate" in reason

    def test_an_authority_that_only_has_the_same_name(
        self, open_door: Callable[..., SecureDoor], authority: Authority, tmp_path: Path
    ) -> None:
        other = Authority(tmp_path / "same").sign("CT scanner 1")
        reason = refused(open_door(), client_context(authority, other))
        assert "signature failure" in reason

    def test_an_expired_certificate(
        self, open_door: Callable[..., SecureDoor], authority: Authority
    ) -> None:
        old = authority.sign("CT scanner 1", expired=True)
        assert refused(open_door(), client_context(authority, old)) == "certificate has expired"

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    def test_an_old_protocol(
        self, open_door: Callable[..., SecureDoor], authority: Authority, device: Signed
    ) -> None:
        context = client_context(authority, device)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        assert refused(open_door(), context) == "unsupported protocol"

    def test_a_weak_cipher(
        self, open_door: Callable[..., SecureDoor], authority: Authority, device: Signed
    ) -> None:
        context = client_context(authority, device)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AES128+SHA256:!AESGCM:!CHACHA20:!AESCCM")
        assert refused(open_door(), context) == "no shared cipher"

    @pytest.mark.parametrize("content", [association_request(), b"GET / HTTP/1.1\r\n\r\n"])
    def test_what_is_no_tls(self, open_door: Callable[..., SecureDoor], content: bytes) -> None:
        door = open_door()
        with socket.create_connection(("127.0.0.1", door.tls_port), timeout=10) as sock:
            sock.sendall(content)
            receive(sock)
        until(lambda: door.notes.faults == [Fault.TLS])
        assert door.notes.fault_details[0] in {"wrong version number", "http request"}

    def test_a_handshake_that_stops(self, open_door: Callable[..., SecureDoor]) -> None:
        door = open_door(acse_timeout=0.5)
        with socket.create_connection(("127.0.0.1", door.tls_port), timeout=10) as sock:
            sock.sendall(b"\x16\x03\x01\x02\x00")
            receive(sock)
        assert door.notes.faults == [Fault.TLS]
        assert door.notes.fault_details == ["silent"]

    def test_one_that_says_nothing_over_tls(
        self, open_door: Callable[..., SecureDoor], authority: Authority, device: Signed
    ) -> None:
        door = open_door(acse_timeout=1.0)
        with connect(door, client_context(authority, device)) as sock:
            assert receive(sock) == b""
        assert door.notes.faults == [Fault.SILENT]

    def test_an_idle_association_over_tls(
        self, open_door: Callable[..., SecureDoor], authority: Authority, device: Signed
    ) -> None:
        door = open_door(network_timeout=0.5)
        with associate(door, client_context(authority, device)) as sock:
            assert receive(sock) == ABORT_BY_USER
        until(lambda: door.notes.endings == [(Ending.IDLE, "between messages")])


class TestPartners:
    """A certificate says who may use a title."""

    def answer(self, door: SecureDoor, context: ssl.SSLContext) -> bytes:
        with connect(door, context) as sock:
            sock.sendall(association_request())
            return read_pdu(sock)

    def admit(self, *wanted: str) -> Partners:
        return Partners(
            own_titles=["GANTRY"],
            callers=[Caller("RAW", None, "main", certificate=wanted)],
            accept_unknown=False,
        )

    @pytest.mark.parametrize("how", ["dns", "name", "fingerprint"])
    def test_the_right_one(
        self,
        open_door: Callable[..., SecureDoor],
        authority: Authority,
        device: Signed,
        how: str,
    ) -> None:
        spelled = {
            "dns": "CT01.example",
            "name": "CT scanner 1",
            "fingerprint": bytes.fromhex(device.fingerprint).hex(":").upper(),
        }
        door = open_door(admit=self.admit("nobody.example", spelled[how]).admit)
        assert self.answer(door, client_context(authority, device))[0] == 2

    def test_the_wrong_one(
        self, open_door: Callable[..., SecureDoor], authority: Authority
    ) -> None:
        other = authority.sign("CT scanner 2", dns="ct02.example")
        door = open_door(admit=self.admit("ct01.example").admit)
        assert self.answer(door, client_context(authority, other)) == bytes(
            (3, 0, 0, 0, 0, 4, 0, 1, 1, 3)
        )

    def test_none_on_the_plain_port(self, open_door: Callable[..., SecureDoor]) -> None:
        door = open_door(admit=self.admit("ct01.example").admit)
        with door.connect() as sock:
            sock.sendall(association_request())
            assert read_pdu(sock) == bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 3))


class TestNewFiles:
    def test_a_new_certificate_under_load_drops_nobody(
        self,
        open_door: Callable[..., SecureDoor],
        authority: Authority,
        device: Signed,
        tmp_path: Path,
    ) -> None:
        door = open_door()
        context = client_context(authority, device)
        message = p_data(pdv(3, store_request())) + p_data(pdv(2, bytes(50_000)))
        stop = threading.Event()
        answered = [0, 0, 0]
        failures: list[Exception] = []

        def send(number: int) -> None:
            try:
                with associate(door, context) as sock:
                    while not stop.is_set():
                        sock.sendall(message)
                        assert read_pdu(sock)[0] == 4
                        answered[number] += 1
                    sock.sendall(RELEASE)
                    assert receive(sock) == RELEASED
            except Exception as error:  # noqa: BLE001 - told below, in the test's own thread
                failures.append(error)

        senders = [threading.Thread(target=send, args=(n,)) for n in range(3)]
        for sender in senders:
            sender.start()
        until(lambda: all(answered))
        replaced = authority.sign("gantry, renewed")
        # As an operator or a mounted secret does it: a moment of key and certificate that differ.
        os.replace(copy_of(replaced.certificate, tmp_path), tmp_path / "own.pem")
        with pytest.raises(ssl.SSLError), connect(door, client_context(authority)) as sock:
            sock.recv(1)  # the old one is still shown, and asks for a certificate
        os.replace(copy_of(replaced.key, tmp_path), tmp_path / "own.key")
        with associate(door, context) as sock:
            shown = sock.getpeercert()
            assert shown is not None
            assert (("commonName", "gantry, renewed"),) in shown["subject"]
        before = list(answered)
        until(lambda: all(now > then for now, then in zip(answered, before, strict=True)))
        stop.set()
        for sender in senders:
            sender.join(20)
        assert not failures
        until(lambda: len(door.notes.endings) == 4)
        assert {ending for ending, _ in door.notes.endings if ending is not Ending.LOST} == {
            Ending.RELEASED
        }
        assert len(door.storage.stored) == sum(answered)
        assert "key values mismatch" in str(door.refused[0]).lower().replace("_", " ")

    def test_files_that_are_no_use_leave_the_old_ones(
        self,
        open_door: Callable[..., SecureDoor],
        authority: Authority,
        device: Signed,
        tmp_path: Path,
    ) -> None:
        door = open_door()
        context = client_context(authority, device)
        (tmp_path / "own.pem").write_text("no certificate at all")
        for _ in range(3):
            associate(door, context).close()
        assert len(door.refused) == 1
        assert str(tmp_path / "own.pem") in str(door.refused[0])
        (tmp_path / "own.key").unlink()
        associate(door, context).close()

    def test_an_encrypted_key(self, authority: Authority) -> None:
        own = authority.sign("gantry", password="hush")
        begun = time.monotonic()
        for password in (None, "wrong"):
            files = TLSFiles(certificate=own.certificate, key=own.key, key_password=password)
            with pytest.raises(ConfigurationError, match="cannot be used for TLS") as caught:
                ServerTLS(files, on_refused=pytest.fail)
            assert "wrong" not in str(caught.value)
        files = TLSFiles(certificate=own.certificate, key=own.key, key_password="hush")
        ServerTLS(files, on_refused=pytest.fail).context()
        assert time.monotonic() - begun < 30  # nobody was asked at a terminal


def copy_of(file: Path, folder: Path) -> Path:
    copy = folder / "copy"
    copy.write_bytes(file.read_bytes())
    return copy

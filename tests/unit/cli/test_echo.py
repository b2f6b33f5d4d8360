"""`gantry echo`: whom it calls, and what it says when that fails."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import build_context, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from gantry_cli.echo import EchoFailed, Peer, echo, peer
from gantry_domain.errors import ConfigurationError
from gantry_runtime.settings import Settings, load_settings
from gantry_testkit.peer_ae import PeerAE


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "gantry.yaml"
    file.write_text(
        "ae_titles: [OURS]\n"
        "partners:\n"
        "  - {ae_title: READING, address: 'reading.example:104', calling_ae: OUT}\n"
        "  - {ae_title: PLAIN, address: '[::1]:11112'}\n"
        "  - {ae_title: CT01}\n"
    )
    return load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(tmp_path)})


def test_a_partner_is_called_as_configured(settings: Settings) -> None:
    assert peer(settings, "READING") == Peer("READING", "reading.example", 104, "OUT")
    assert peer(settings, "PLAIN") == Peer("PLAIN", "::1", 11112, "OURS")
    assert peer(settings, "ANY@10.0.0.1:4242") == Peer("ANY", "10.0.0.1", 4242, "OURS")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("READNG", "no partner is called READNG, did you mean READING?"),
        ("CT01", "the partner CT01 has no `address`"),
        ("X@host", "is not host:port"),
        ("WAYTOOLONGAETITLE@h:1", "1 to 16 characters"),
    ],
)
def test_a_wrong_target_is_one_line(settings: Settings, target: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected) as caught:
        peer(settings, target)
    assert "\n" not in str(caught.value)


@pytest.fixture
def scp() -> Iterator[Any]:
    """A verification SCP that answers with the status in its `answers`."""
    answers = {"status": 0x0000}
    ae = PeerAE(ae_title="THEM")
    ae.add_supported_context(Verification)
    ae.require_called_aet = True
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: answers["status"])]
    )
    assert server is not None
    yield server.server_address[1], answers, server
    server.shutdown()


def test_success_gives_the_time_and_anything_else_a_reason(scp: Any) -> None:
    port, answers, server = scp
    them = Peer("THEM", "127.0.0.1", port, "OURS")
    assert 0 < echo(them) < 5
    answers["status"] = 0x0122
    with pytest.raises(EchoFailed, match="answered with status 0122"):
        echo(them)
    with pytest.raises(EchoFailed, match="rejected the association: Called AE title not recogni"):
        echo(Peer("OTHER", "127.0.0.1", port, "OURS"))
    server.contexts = [build_context(CTImageStorage)]
    with pytest.raises(EchoFailed, match="does not offer Verification"):
        echo(them)


def test_nobody_there_is_said() -> None:
    with pytest.raises(EchoFailed, match="could not be reached: Connection refused"):
        echo(Peer("THEM", "127.0.0.1", 1, "OURS"))


def test_one_that_hangs_up_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        hangs_up = threading.Thread(target=hang_up)
        hangs_up.start()
        with pytest.raises(EchoFailed, match="is reachable but aborted the association"):
            echo(Peer("THEM", "127.0.0.1", port, "OURS"))
        hangs_up.join()

"""The listener of HL7 over TLS, in the enhanced acknowledgement mode, and with batches."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from gantry_archive.dimse_door import server_tls
from gantry_runtime.metrics import sample
from gantry_runtime.settings import load_settings
from gantry_stores.index.database import transaction
from gantry_stores.index.order_tables import order_
from gantry_testkit.certificates import Authority
from gantry_testkit.hl7_samples import order_message
from gantry_testkit.orders_door import (
    Address,
    OrdersDoor,
    Sender,
    acknowledged,
    code,
    each_acknowledged,
    orders_door,
)
from gantry_testkit.waiting import until
from gantry_worklist.hl7 import make_listener


@pytest.fixture(scope="module")
def enhanced(
    module_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OrdersDoor]:
    folder = tmp_path_factory.mktemp("enhanced")
    with orders_door(module_engine, folder, "hl7: {acknowledge: enhanced}") as door:
        yield door


def numbers(engine: Engine, prefix: str) -> list[str]:
    with transaction(engine) as connection:
        found = sa.select(order_.c.accession_number).where(
            order_.c.accession_number.like(f"{prefix}%")
        )
        return sorted(filter(None, connection.scalars(found)))


def asking(message: bytes, accept: str, application: str) -> bytes:
    """The message with MSH-15 and MSH-16."""
    return message.replace(b"||||||UNICODE", f"|||{accept}|{application}||UNICODE".encode())


def codes(answers: list[bytes]) -> list[str]:
    return [code(answer).split(" ")[0] for answer in answers]


def test_who_asks_for_other_answers_gets_them(enhanced: OrdersDoor, module_engine: Engine) -> None:
    good = order_message(accession="EN1", control_id="EN1")
    # None, one and two answers to the same message; the next message's answer comes after them.
    assert codes(each_acknowledged(enhanced.hl7, asking(good, "NE", "NE"), answers=0)) == []
    assert codes(each_acknowledged(enhanced.hl7, asking(good, "AL", "NE"), answers=1)) == ["CA"]
    both = each_acknowledged(enhanced.hl7, asking(good, "AL", "AL"), answers=2)
    assert codes(both) == ["CA", "AA"]
    assert numbers(module_engine, "EN") == ["EN1"]
    # Who asks for nothing special gets the usual answer.
    assert codes(each_acknowledged(enhanced.hl7, good, answers=1)) == ["AA"]
    bad = order_message(accession="A" * 17, control_id="EN2")
    kept, told = each_acknowledged(enhanced.hl7, asking(bad, "AL", "AL"), answers=2)
    assert codes([kept, told]) == ["CA", "AE"]
    assert b"\rERR|" not in kept
    assert b"OBR-18 is longer" in told
    assert codes(each_acknowledged(enhanced.hl7, asking(bad, "AL", "NE"), answers=1)) == ["CE"]
    unknown = bad.replace(b"ORM^O01", b"ORU^R01")
    assert codes(each_acknowledged(enhanced.hl7, asking(unknown, "AL", "AL"), answers=1)) == ["CR"]


def batch(*messages: bytes, count: int | None = None) -> bytes:
    number = len(messages) if count is None else count
    return (
        b"FHS|^~\\&|RIS|HOSP|GANTRY|HOSP|||||FILE7\rBHS|^~\\&|RIS|HOSP|GANTRY|HOSP|||||BATCH7\r"
        + b"".join(messages)
        + f"BTS|{number}\rFTS|1\r".encode()
    )


def test_a_batch_is_answered_by_a_batch(module_engine: Engine, tmp_path: Path) -> None:
    messages = [order_message(accession=f"BA{n}", control_id=f"BA{n}") for n in range(3)]
    wrong = order_message(accession="A" * 17, control_id="WRONG")
    with orders_door(module_engine, tmp_path / "door") as door, Sender(door.hl7) as sender:
        answer = sender.send(batch(*messages[:2], wrong, messages[2]))
        lines = answer.split(b"\r")
        assert lines[0].startswith(b"FHS|^~\\&|GANTRY|HOSP|RIS|HOSP|")
        assert lines[1].split(b"|")[11] == b"BATCH7"
        told = [line.split(b"|")[1:3] for line in lines if line.startswith(b"MSA")]
        assert told == [[b"AA", b"BA0"], [b"AA", b"BA1"], [b"AE", b"WRONG"], [b"AA", b"BA2"]]
        assert lines[-3:-1] == [b"BTS|4", b"FTS|1"]
        assert numbers(module_engine, "BA") == ["BA0", "BA1", "BA2"]
        # All of it again has no effect, and a batch that is cut short none at all.
        duplicates = sample("gantry_worklist_hl7_duplicates_total")
        assert b"AA|BA1\r" in sender.send(batch(*messages))
        assert sample("gantry_worklist_hl7_duplicates_total") == duplicates + 3
        cut = batch(order_message(accession="CUT", control_id="CUT"), count=2)
        assert code(sender.send(cut)) == "AR 100"
        assert numbers(module_engine, "CUT") == []


@contextmanager
def over_tls(engine: Engine, folder: Path, *, ca: bool) -> Iterator[tuple[Address, Authority]]:
    authority = Authority(folder / "ca")
    signed = authority.sign("gantry", dns="localhost")
    (folder / "gantry.yaml").write_text(
        f"listen: {{hl7_tls_port: 2576, tls_certificate: {signed.certificate},"
        f" tls_key: {signed.key}{f', tls_ca: {authority.certificate}' if ca else ''}}}",
        encoding="utf-8",
    )
    settings = load_settings(
        {"GANTRY_CONFIG": str(folder / "gantry.yaml"), "GANTRY_DATA": str(folder)}
    )
    server = make_listener(
        settings,
        socket.create_server(("127.0.0.1", 0)),
        engine=engine,
        stopping=threading.Event(),
        tls=server_tls(settings),
    )
    server.start()
    try:
        yield server.address, authority
    finally:
        server.close()


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate))


def unanswered(address: Address, message: bytes, tls: ssl.SSLContext | None = None) -> bool:
    """Whether the connection is closed or reset instead."""
    try:
        with Sender(address, tls) as sender:
            return not sender.send(message)
    except OSError:
        return True


def test_messages_over_tls(module_engine: Engine, tmp_path: Path) -> None:
    with over_tls(module_engine, tmp_path, ca=False) as (address, authority):
        with Sender(address, trusting(authority)) as sender:
            # In pieces larger than a record of TLS, and more than one message.
            large = order_message(accession="TLS1", control_id="TLS1") + b"NTE|1||" + b"x" * 90_000
            assert code(sender.send(large + b"\r")) == "AA"
            assert code(sender.send(order_message(accession="TLS2", control_id="TLS2"))) == "AA"
        faults = sample("gantry_worklist_hl7_connections_faulted_total", fault="tls")
        # Who does not speak TLS gets no answer, and is not waited for.
        assert unanswered(address, order_message(accession="TLS3", control_id="TLS3"))
        until(
            lambda: (
                sample("gantry_worklist_hl7_connections_faulted_total", fault="tls") == faults + 1
            ),
            "the fault is counted",
        )
    assert numbers(module_engine, "TLS") == ["TLS1", "TLS2"]


def test_senders_show_a_certificate_where_they_have_to(
    module_engine: Engine, tmp_path: Path
) -> None:
    with over_tls(module_engine, tmp_path, ca=True) as (address, authority):
        known = trusting(authority)
        shown = authority.sign("engine")
        known.load_cert_chain(shown.certificate, shown.key)
        message = order_message(accession="CERT1", control_id="CERT1")
        with Sender(address, known) as sender:
            assert code(sender.send(message)) == "AA"
        assert unanswered(address, message, trusting(authority))
    assert numbers(module_engine, "CERT") == ["CERT1"]


def test_an_ordinary_listener_gives_one_answer_whatever_is_asked_for(
    module_engine: Engine, tmp_path: Path
) -> None:
    message = asking(order_message(accession="OR1", control_id="OR1"), "AL", "AL")
    with orders_door(module_engine, tmp_path / "door") as door:
        assert acknowledged(door.hl7, message, message) == ["AA", "AA"]

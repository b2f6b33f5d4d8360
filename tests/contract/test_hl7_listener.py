"""The listener of HL7 over real connections: acknowledged is what is in PostgreSQL."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from gantry_domain.hl7.framing import framed
from gantry_runtime.metrics import sample
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.order_tables import hl7_message, order_, order_patient, order_step
from gantry_stores.index.orders.messages import purge_messages
from gantry_testkit.hl7_samples import EXPECTED, SAMPLES, order_message, patient_message
from gantry_testkit.orders_door import OrdersDoor, Sender, acknowledged, code, orders_door

LIMITS = "hl7: {max_message_size: 200kB, message_timeout: 1s, max_connections: 12}"


@pytest.fixture(scope="module")
def door(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrdersDoor]:
    with orders_door(module_engine, tmp_path_factory.mktemp("orders"), LIMITS) as door:
        yield door


def count(engine: Engine, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
    with transaction(engine) as connection:
        query = sa.select(sa.func.count()).select_from(table).where(*conditions)
        return connection.scalar(query) or 0


def accession(number: str) -> sa.ColumnElement[bool]:
    return order_.c.accession_number == number


def test_samples_are_acknowledged_as_they_should(door: OrdersDoor, module_engine: Engine) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the samples are not beside the project")
    before = count(module_engine, hl7_message)
    sent = {name: (SAMPLES / name).read_bytes() for name in EXPECTED}
    assert max(map(len, sent.values())) > 96_000
    assert dict(zip(sent, acknowledged(door.hl7, *sent.values()), strict=True)) == EXPECTED
    assert count(module_engine, hl7_message) == before + 35


def test_what_came_before_is_acknowledged_and_has_no_effect(
    door: OrdersDoor, module_engine: Engine
) -> None:
    placed = order_message(accession="DUP", control_id="D1")
    cancelled = order_message(accession="DUP", control_id="D2", control="CA")
    duplicates = sample("gantry_worklist_hl7_duplicates_total")
    assert acknowledged(door.hl7, placed, cancelled, placed) == ["AA"] * 3
    assert sample("gantry_worklist_hl7_duplicates_total") == duplicates + 1
    with transaction(module_engine) as connection:
        state = connection.scalar(
            sa.select(order_step.c.state).join(order_).where(accession("DUP"))
        )
    assert state == "cancelled"
    # The same number with other content is another message.
    again = order_message(accession="DUP", control_id="D1", name="CHAN^OTHER")
    assert acknowledged(door.hl7, again) == ["AA"]
    assert count(module_engine, hl7_message, hl7_message.c.control_id == "D1") == 2


def test_refused_messages_change_nothing_and_are_kept(
    door: OrdersDoor, module_engine: Engine
) -> None:
    wrong = order_message(accession="OTHERS", patient="X2^^^HOSP", control_id="W2")
    unknown = order_message(accession="NOBODYS", control="CA", control_id="W3")
    assert acknowledged(
        door.hl7,
        order_message(accession="OTHERS", patient="X1^^^HOSP", control_id="W1"),
        wrong,
        unknown,
        b"this is nothing",
    ) == ["AA", "AE 204", "AE 204", "AR 100"]
    assert count(module_engine, order_patient, order_patient.c.patient_id == "X2") == 0
    with transaction(module_engine) as connection:
        kept = connection.execute(
            sa.select(hl7_message.c.ack, hl7_message.c.content).where(
                hl7_message.c.control_id.in_(["W1", "W2", "W3"])
            )
        ).all()
    assert {tuple(row) for row in kept} >= {("AE", wrong), ("AE", unknown)}


def test_the_reason_is_told_and_nothing_of_the_patient(door: OrdersDoor) -> None:
    with Sender(door.hl7) as sender:
        answer = sender.send(order_message(accession="A" * 17, name="SECRET^NAME"))
    assert b"|OBR-18 is longer than 16 characters" in answer
    assert b"SECRET" not in answer


def test_pieces_and_several_messages_at_once(door: OrdersDoor) -> None:
    first, second = (framed(order_message(accession=f"PC{n}", control_id=f"P{n}")) for n in (1, 2))
    both = first + second
    with Sender(door.hl7) as sender:
        for start in range(0, len(both), 97):
            sender.sock.sendall(both[start : start + 97])
        assert [code(sender.receive()) for _ in range(1)] == ["AA"]
    with Sender(door.hl7) as sender:
        # Without the carriage return after the last byte.
        sender.sock.sendall(b"\r\n" + first[:-1])
        assert code(sender.receive()) == "AA"


def test_too_large_is_refused_with_its_reason(door: OrdersDoor) -> None:
    with Sender(door.hl7) as sender:
        large = order_message(control_id="BIG") + b"NTE|1||" + b"x" * 250_000 + b"\r"
        answer = sender.send(large)
        assert code(answer) == "AR 207"
        assert b"|BIG|" in answer
        assert code(sender.send(patient_message("A08", control_id="AFTER"))) == "AA"


@pytest.mark.parametrize(
    ("sent", "fault"),
    [(b"GET / HTTP/1.1\r\n\r\n", "not_mllp"), (b"\x0bMSH|^~\\&|never ends", "too_slow")],
)
def test_who_does_not_speak_mllp_is_left(door: OrdersDoor, sent: bytes, fault: str) -> None:
    before = sample("gantry_worklist_hl7_connections_faulted_total", fault=fault)
    with Sender(door.hl7) as sender:
        sender.sock.sendall(sent)
        assert sender.receive() == b""
    assert sample("gantry_worklist_hl7_connections_faulted_total", fault=fault) == before + 1


def test_connections_are_limited(door: OrdersDoor) -> None:
    senders = [Sender(door.hl7) for _ in range(12)]
    try:
        for number, sender in enumerate(senders):
            assert code(sender.send(patient_message("A08", control_id=f"L{number}"))) == "AA"
        with Sender(door.hl7) as more:
            more.sock.settimeout(10)
            assert more.receive() == b""
    finally:
        for sender in senders:
            sender.close()


def test_strangers_are_not_listened_to(module_engine: Engine, tmp_path: Path) -> None:
    elsewhere = 'hl7: {hosts: ["192.0.2.0/24"]}'
    with (
        orders_door(module_engine, tmp_path / "orders", elsewhere) as door,
        Sender(door.hl7) as sender,
    ):
        assert sender.receive() == b""


@pytest.mark.parametrize(
    "rounds", [15, pytest.param(1250, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_a_flood_on_8_connections_loses_nothing_and_keeps_the_order_of_each_patient(
    door: OrdersDoor, module_engine: Engine, rounds: int
) -> None:
    patients = 8
    prefix = f"F{rounds}-"
    failed: list[str] = []

    def feed(patient: int) -> None:
        with Sender(door.hl7) as sender:
            for turn in range(rounds):
                message = order_message(
                    accession=f"{prefix}{patient}R{turn}",
                    control_id=f"{prefix}{patient}-{turn}",
                    patient=f"{prefix}{patient}^^^HOSP",
                    name=f"FLOOD^TURN {turn}",
                )
                if code(sender.send(message)) != "AA":
                    failed.append(f"{patient} {turn}")

    threads = [threading.Thread(target=feed, args=(patient,)) for patient in range(patients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    kept = count(module_engine, order_, order_.c.accession_number.like(f"{prefix}%"))
    assert kept == patients * rounds
    with transaction(module_engine) as connection:
        names = connection.scalars(
            sa.select(order_patient.c.patient_name).where(
                order_patient.c.patient_id.in_(
                    [f"{prefix}{patient}" for patient in range(patients)]
                )
            )
        ).all()
    assert names == [f"flood^turn {rounds - 1}"] * patients


def test_messages_about_each_other_from_two_sides_do_not_deadlock(
    door: OrdersDoor, module_engine: Engine
) -> None:
    def feed(first: str, second: str) -> None:
        with Sender(door.hl7) as sender:
            for turn in range(15):
                message = patient_message(
                    "A40",
                    control_id=f"{first}{turn}",
                    patient=first,
                    old=second,
                )
                codes.append(code(sender.send(message)))

    codes: list[str] = []
    threads = [threading.Thread(target=feed, args=pair) for pair in (("M1", "M2"), ("M2", "M1"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == ["AA"] * 30
    with transaction(module_engine) as connection:
        rows = connection.execute(
            sa.select(order_patient.c.pk, order_patient.c.merged_into).where(
                order_patient.c.patient_id.in_(["M1", "M2"])
            )
        ).all()
    # One survives, whoever came last.
    assert sorted(row.merged_into is None for row in rows) == [False, True]


def test_without_the_database_nothing_is_answered_and_the_sender_tries_again(
    tmp_path: Path, postgres_url: str
) -> None:
    away = socket.create_server(("127.0.0.1", 0))
    port = away.getsockname()[1]
    away.close()
    nowhere = make_engine(f"postgresql://gantry@127.0.0.1:{port}/gantry", pool_size=2)
    unanswered = sample("gantry_worklist_hl7_unanswered_total")
    message = order_message(accession="AWAY", control_id="AWAY")
    patience = "hl7: {database_patience: 500ms}"
    with orders_door(nowhere, tmp_path / "away", patience) as door:
        begun = time.monotonic()
        assert acknowledged(door.hl7, message) == [""]
        assert acknowledged(door.hl7, b"what nobody can read") == [""]
        assert time.monotonic() - begun < 30
    nowhere.dispose()
    assert sample("gantry_worklist_hl7_unanswered_total") == unanswered + 2
    engine = make_engine(postgres_url, pool_size=4)
    with orders_door(engine, tmp_path / "back") as door:
        assert acknowledged(door.hl7, message) == ["AA"]
    assert count(engine, order_, accession("AWAY")) == 1
    with transaction(engine) as connection:
        now = connection.scalar(sa.select(sa.func.now()))
        assert purge_messages(connection, now) == 1
    engine.dispose()

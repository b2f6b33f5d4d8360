"""The worklist service as processes: killed, drained, and watched."""

import os
import signal
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from pynetdicom import build_context
from sqlalchemy.engine import Engine

from gantry_domain.information_models import WORKLIST_CLASSES
from gantry_stores.index.database import transaction
from gantry_stores.index.order_tables import hl7_message, order_
from gantry_testkit.certificates import Authority
from gantry_testkit.hl7_samples import order_message
from gantry_testkit.orders_door import Sender, acknowledged, code
from gantry_testkit.ports import free_port
from gantry_testkit.query_scu import associated
from gantry_testkit.waiting import until
from gantry_testkit.worklist_process import WorklistProcess


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def tls_port() -> int:
    return free_port()


@pytest.fixture
def service(
    postgres_url: str, tmp_path: Path, authority: Authority, tls_port: int
) -> Iterator[WorklistProcess]:
    signed = authority.sign("gantry")
    listen = f"hl7_tls_port: {tls_port}, tls_certificate: {signed.certificate}"
    service = WorklistProcess(
        tmp_path, postgres_url, f"listen: {{{listen}, tls_key: {signed.key}}}\n"
    )
    service.start()
    yield service
    service.kill()


def numbers(engine: Engine) -> set[str]:
    with transaction(engine) as connection:
        return set(connection.scalars(sa.select(order_.c.accession_number)))


def test_killed_after_the_acknowledgement_it_is_there(
    service: WorklistProcess, engine: Engine, authority: Authority, tls_port: int
) -> None:
    until(service.ready, "the service is ready")
    acknowledged_ones: set[str] = set()
    dead: list[int] = []
    for turn in range(2):
        with Sender(service.hl7) as sender:
            for n in range(5):
                number = f"K{turn}N{n}"
                message = order_message(accession=number, control_id=number)
                assert code(sender.send(message)) == "AA"
                acknowledged_ones.add(number)
            (victim,) = service.serving()
            os.kill(victim, signal.SIGKILL)
            dead.append(victim)
            # Whoever gets no answer sends again.
            with suppress(OSError):
                assert code(sender.send(order_message(accession="LOST", control_id="L"))) == ""
        assert acknowledged_ones <= numbers(engine)
        until(lambda: set(service.serving()) - set(dead), "another process serves")
        until(service.ready, "it is ready again")
    assert acknowledged(service.hl7, order_message(accession="LOST", control_id="L")) == ["AA"]
    with transaction(engine) as connection:
        kept = sa.select(sa.func.count()).where(hl7_message.c.control_id == "L")
        assert connection.scalar(kept) == 1
    contexts = [build_context(uid) for uid in WORKLIST_CLASSES]
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    with (
        Sender(("127.0.0.1", tls_port), trusting) as over_tls,
        associated(service.address, contexts=contexts) as assoc,
        Sender(service.hl7) as sender,
    ):
        assert code(over_tls.send(order_message(accession="TLS", control_id="TLS"))) == "AA"
        assert assoc.send_c_echo().Status == 0
        messages = service.metric("gantry_worklist_hl7_messages_total", kind="ORM", ack="AA")
        assert messages >= 1
        until(lambda: service.metric("gantry_worklist_feed_alive") == 1, "the feed is alive")
        assert 0 < service.metric("gantry_worklist_feed_age_seconds") < 600
        # Drained: both go, and nothing had to be killed.
        service.process.send_signal(signal.SIGTERM)
        assert sender.receive() == b""
    assert service.process.wait(60) == 0

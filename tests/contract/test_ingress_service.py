"""The ingress as it runs: its processes, a real broker, a real folder, real senders."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from gantry_dimse.proposals import NegotiatedContext, ProposedContext
from gantry_dimse.requesting import Timeouts, request_association
from gantry_dimse.send import StorageAssociation
from gantry_domain.errors import GantryError
from gantry_domain.sop_classes import VERIFICATION
from gantry_testkit.certificates import Authority, Signed
from gantry_testkit.door import data_set_bytes
from gantry_testkit.ingress_process import Ingress
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.waiting import until

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def make_ingress(tmp_path: Path, redis_server: RedisServer) -> Iterator[Callable[..., Ingress]]:
    made: list[Ingress] = []

    def make(extra: str = "") -> Ingress:
        made.append(Ingress(tmp_path, redis_server, extra))
        return made[-1]

    yield make
    for ingress in made:
        if ingress.process is not None and ingress.process.poll() is None:
            ingress.process.kill()
            ingress.process.wait()


@pytest.fixture
def ingress(make_ingress: Callable[..., Ingress]) -> Ingress:
    made = make_ingress("ingress: {processes: 2}\n")
    made.start()
    return made


DATA_SET = data_set_bytes(str(get_testdata_file("CT_small.dcm")))
SOP_INSTANCE = b"1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
CONTEXTS = [ProposedContext(CT, (EXPLICIT,)), ProposedContext(VERIFICATION, (EXPLICIT,))]


def open_association(port: int, calling_ae: str = "CT01") -> StorageAssociation:
    return StorageAssociation.open(
        host="127.0.0.1", port=port, calling_ae=calling_ae, called_ae="GANTRY", contexts=CONTEXTS
    )


class Modality(threading.Thread):
    """Sends new instances one after another until told to stop, on ever new associations."""

    numbers = itertools.count(100)

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.number = next(self.numbers)
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self.lost = 0
        self.stopping = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.stopping.is_set():
            with suppress(GantryError), open_association(self.port) as assoc:
                context = assoc.accepts(CT, EXPLICIT)
                assert context is not None
                while not self.stopping.is_set():
                    self.send(assoc, context)
            self.stopping.wait(0.05)

    def send(self, assoc: StorageAssociation, context: NegotiatedContext) -> None:
        tried = len(self.acknowledged) + len(self.refused) + self.lost
        SOPInstanceUID = SOP_INSTANCE.replace(
            b"20040119072730", b"%03d%011d" % (self.number, tried)
        )
        self.lost += 1
        answer = assoc.store(
            SOPClassUID=CT,
            SOPInstanceUID=SOPInstanceUID.decode(),
            context=context,
            chunks=[DATA_SET.replace(SOP_INSTANCE, SOPInstanceUID)],
        )
        self.lost -= 1
        if answer.status == 0:
            self.acknowledged.append(SOPInstanceUID.decode())
        else:
            self.refused.append(answer.status)

    def finish(self) -> None:
        self.stopping.set()
        self.join(60)


def echo(port: int, calling_ae: str = "CT01") -> int | str:
    """The status of a C-ECHO, or why there is no association."""
    try:
        with open_association(port, calling_ae) as assoc:
            return assoc.echo()
    except GantryError as error:
        return str(error)


def test_what_is_acknowledged_is_stored_published_and_counted(ingress: Ingress) -> None:
    files = [str(get_testdata_file(name)) for name in ("CT_small.dcm", "MR_small.dcm")]
    command = ["storescu", "-aet", "CT01", "-aec", "GANTRY", "127.0.0.1", str(ingress.port)]
    done = subprocess.run(
        [*command, *files], capture_output=True, timeout=60, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    stored = ingress.stored()
    assert set(stored) == {str(pydicom.dcmread(file).SOPInstanceUID) for file in files}
    until(lambda: ingress.published() == set(stored.values()), "both receipts")
    assert ingress.metric('gantry_ingress_instances_total{partner="CT01",status="0000"}') == 2
    assert ingress.metric('gantry_ingress_bytes_total{partner="CT01",status="0000"}') > 40_000
    assert ingress.metric('gantry_ingress_associations_opened_total{partner="CT01"}') == 1
    until(lambda: ingress.metric("gantry_ingress_associations_active") == 0, "released")
    until(
        lambda: ingress.metric("gantry_ingress_receipts_published_total") == 2, "counted receipts"
    )
    assert ingress.stop() == 0
    assert "CompressedSamples" not in ingress.log.read_text()  # the patient of the samples


def test_strangers_are_rejected(ingress: Ingress) -> None:
    assert echo(ingress.port) == 0
    assert "calling AE title" in str(echo(ingress.port, "STRANGER"))
    name = 'gantry_ingress_associations_rejected_total{partner="other",reason="calling_ae"}'
    assert ingress.metric(name) == 1


@pytest.mark.parametrize(
    ("option", "expected"), [("", 131072), ("max_pdu: 48KiB", 49152), ("max_pdu: 0", 0)]
)
def test_the_largest_pdu_is_as_configured(
    make_ingress: Callable[..., Ingress], option: str, expected: int
) -> None:
    ingress = make_ingress(f"ingress: {{processes: 1, {option}}}\n")
    ingress.start()
    requested = request_association(
        host="127.0.0.1",
        port=ingress.port,
        calling_ae="CT01",
        called_ae="GANTRY",
        contexts=CONTEXTS,
        timeouts=Timeouts(),
    )
    assert requested.peer_maximum == expected
    with StorageAssociation(requested, Timeouts()) as assoc:
        (context, _) = assoc.contexts.accepted
        response = assoc.store(
            SOPClassUID=CT,
            SOPInstanceUID=SOP_INSTANCE.decode(),
            context=context,
            chunks=[DATA_SET],
        )
        assert response.status == 0
    assert set(ingress.stored()) == {SOP_INSTANCE.decode()}


def test_tls_on_a_port_of_its_own(make_ingress: Callable[..., Ingress], tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    own, device = authority.sign("gantry"), authority.sign("ct01")
    other = authority.sign("ct02")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ingress = make_ingress(
        f"listen: {{tls_port: {port}, tls_certificate: {own.certificate}, tls_key: {own.key},"
        f" tls_ca: {authority.certificate}}}\n"
    )
    text = (tmp_path / "gantry.yaml").read_text()
    (tmp_path / "gantry.yaml").write_text(
        text.replace("{ae_title: CT01}", "{ae_title: CT01, certificate: [ct01]}")
    )
    ingress.start()

    def store(shown: Signed) -> subprocess.CompletedProcess[bytes]:
        command = ["storescu", "+tls", str(shown.key), str(shown.certificate)]
        command += ["+cf", str(authority.certificate), "-aet", "CT01", "-aec", "GANTRY"]
        return subprocess.run(
            [*command, "127.0.0.1", str(port), str(get_testdata_file("CT_small.dcm"))],
            capture_output=True,
            timeout=60,
            check=False,
        )

    assert store(device).returncode == 0
    assert len(ingress.stored()) == 1
    assert b"Calling AE Title Not Recognized" in store(other).stderr
    # Without TLS nobody can show that it is CT01.
    assert "calling AE title" in str(echo(ingress.port))
    assert ingress.stop() == 0


def test_tls_files_that_are_no_use_are_one_line(
    make_ingress: Callable[..., Ingress], tmp_path: Path
) -> None:
    ingress = make_ingress(
        "listen: {tls_port: 2762, tls_certificate: gantry.yaml, tls_key: gantry.yaml}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "gantry_ingress"],
        env=ingress.environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert f"{tmp_path / 'gantry.yaml'}: cannot be used for TLS" in line


def test_little_room_turns_new_associations_away(make_ingress: Callable[..., Ingress]) -> None:
    ingress = make_ingress("ingress: {free_space_watermark: 1000000TiB}\n")
    ingress.start()
    assert "temporary congestion" in str(echo(ingress.port)).lower()
    name = 'gantry_ingress_associations_rejected_total{partner="CT01",reason="congestion"}'
    assert ingress.metric(name) == 1


def test_much_memory_turns_away_until_something_ends(
    make_ingress: Callable[..., Ingress],
) -> None:
    ingress = make_ingress("ingress: {processes: 1, memory_watermark: 1MiB}\n")
    ingress.start()
    held = open_association(ingress.port)
    assert "temporary congestion" in str(echo(ingress.port)).lower()
    # What is in hand goes on.
    context = held.accepts(CT, EXPLICIT)
    assert context is not None
    answer = held.store(
        SOPClassUID=CT, SOPInstanceUID=SOP_INSTANCE.decode(), context=context, chunks=[DATA_SET]
    )
    assert answer.status == 0
    held.release()
    until(lambda: echo(ingress.port) == 0, "with nothing in hand there is no waiting")


def test_two_hundred_idle_associations_beside_busy_ones(
    make_ingress: Callable[..., Ingress],
) -> None:
    ingress = make_ingress("ingress: {processes: 2, max_associations: 208}\n")
    ingress.start()
    modalities = [Modality(ingress.port) for _ in range(8)]
    until(lambda: all(m.acknowledged for m in modalities), "images come in")
    idle = [open_association(ingress.port) for _ in range(200)]
    assert "local limit" in str(echo(ingress.port))
    before = [len(m.acknowledged) for m in modalities]
    until(
        lambda: all(
            len(m.acknowledged) > count + 3 for m, count in zip(modalities, before, strict=True)
        ),
        "the busy ones go on",
    )
    # They vanish without a farewell.
    for assoc in idle:
        assoc.interrupt()
        with suppress(GantryError):
            assoc.abort()
    until(lambda: echo(ingress.port) == 0, "their slots are free")
    until(lambda: ingress.metric("gantry_ingress_associations_active") == 8, "all of them")
    for modality in modalities:
        modality.finish()
    assert not [status for modality in modalities for status in modality.refused]
    assert ingress.peak_memory() < 250 * 2**20


def test_the_limit_holds_over_all_processes(make_ingress: Callable[..., Ingress]) -> None:
    ingress = make_ingress("ingress: {processes: 2, max_associations: 3}\n")
    ingress.start()
    held = [open_association(ingress.port) for _ in range(3)]
    assert "local limit" in str(echo(ingress.port))
    # A killed process gives its slots back, whoever was in them.
    for pid in ingress.children():
        os.kill(pid, signal.SIGKILL)
    until(lambda: echo(ingress.port) == 0, "the slots of the dead are free")
    for assoc in held:
        assoc.abort()


def test_a_process_killed_under_load_loses_nothing_acknowledged(ingress: Ingress) -> None:
    modalities = [Modality(ingress.port) for _ in range(4)]
    until(lambda: all(len(m.acknowledged) > 5 for m in modalities), "images come in")
    for _ in range(3):
        before = [len(m.acknowledged) for m in modalities]
        os.kill(ingress.children()[0], signal.SIGKILL)
        until(
            lambda before=before: all(
                len(m.acknowledged) > count + 5 for m, count in zip(modalities, before, strict=True)
            ),
            "all go on",
        )
    for modality in modalities:
        modality.finish()
    acknowledged = {uid for modality in modalities for uid in modality.acknowledged}
    assert acknowledged <= set(ingress.stored())
    assert not [status for modality in modalities for status in modality.refused]
    until(lambda: len(ingress.children()) == 2, "both processes are back")


def test_sigterm_under_load_ends_cleanly(ingress: Ingress) -> None:
    modalities = [Modality(ingress.port) for _ in range(4)]
    until(lambda: all(len(m.acknowledged) > 5 for m in modalities), "images come in")
    assert ingress.process is not None
    ingress.process.send_signal(signal.SIGTERM)
    # The devices end their jobs; nobody has to be cut off.
    threading.Event().wait(0.5)
    for modality in modalities:
        modality.finish()
    assert ingress.process.wait(60) == 0
    acknowledged = {uid for modality in modalities for uid in modality.acknowledged}
    stored = ingress.stored()
    assert acknowledged <= set(stored)
    # What was staged was published before the end: drained, nothing is left to the sweep.
    assert ingress.published() == set(stored.values())
    assert list((ingress.objects / ".tmp").iterdir()) == []


def test_a_store_that_goes_away_for_a_while(make_ingress: Callable[..., Ingress]) -> None:
    ingress = make_ingress("ingress: {processes: 1, store_patience: 20s}\n")
    ingress.start()
    modality = Modality(ingress.port)
    until(lambda: len(modality.acknowledged) > 5, "images come in")
    away = ingress.objects.with_name("away")
    ingress.objects.rename(away)
    until(lambda: "cannot be used" in ingress.ready()[1], "it says what it lacks")
    assert str(ingress.objects) not in ingress.ready()[1]
    # Those who send are still led here, and what is not accepted cannot wait.
    assert ingress.ready()[0] == 200
    assert echo(ingress.port) == 0
    assert ingress.metric("gantry_ingress_store_away") == 1
    away.rename(ingress.objects)
    before = len(modality.acknowledged)
    until(lambda: len(modality.acknowledged) > before + 5, "images come in again")
    until(lambda: "cannot be used" not in ingress.ready()[1], "it lacks nothing")
    assert ingress.metric("gantry_ingress_store_away") == 0
    modality.finish()
    # It was waited out: no device noticed.
    assert not modality.refused
    assert set(modality.acknowledged) == set(ingress.stored())


def test_a_broker_that_is_away_refuses_no_image(
    ingress: Ingress, redis_server: RedisServer
) -> None:
    redis_server.kill()
    modality = Modality(ingress.port)
    until(lambda: len(modality.acknowledged) > 20, "images come in")
    until(lambda: ingress.metric("gantry_ingress_receipts_waiting") > 20, "receipts wait")
    redis_server.start()
    modality.finish()
    stored = ingress.stored()
    assert set(modality.acknowledged) <= set(stored)
    until(lambda: ingress.published() == set(stored.values()), "all receipts")
    assert ingress.metric("gantry_ingress_receipts_dropped_total") == 0


def test_a_port_in_use_is_one_line(ingress: Ingress) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "gantry_ingress"],
        env=ingress.environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2
    lines = second.stderr.decode().splitlines()
    assert len(lines) == 1
    assert str(ingress.port) in lines[0]
    assert "GANTRY_PORT_BASE" in lines[0]


def test_a_folder_that_cannot_be_made_is_one_line(make_ingress: Callable[..., Ingress]) -> None:
    ingress = make_ingress()
    ingress.objects.write_text("a file where the folder should be")
    done = subprocess.run(
        [sys.executable, "-m", "gantry_ingress"],
        env=ingress.environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert str(ingress.objects) in line


def test_a_process_that_starts_again_makes_no_new_store(ingress: Ingress) -> None:
    away = ingress.objects.with_name("away")
    ingress.objects.rename(away)
    for pid in ingress.children():
        os.kill(pid, signal.SIGKILL)
    until(lambda: "cannot be used" in ingress.ready()[1], "not ready")
    assert ingress.ready()[0] == 503
    assert not ingress.objects.exists()
    away.rename(ingress.objects)
    until(lambda: ingress.ready()[0] == 200, "ready again")


def test_a_supervisor_killed_takes_its_processes_along(ingress: Ingress) -> None:
    children = ingress.children()
    assert len(children) == 2
    assert ingress.process is not None
    ingress.process.kill()
    ingress.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "all gone")

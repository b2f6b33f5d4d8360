"""HL7 to the RIS: it hears that a procedure's images are here, once and in the end, or why not."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.completing import complete_studies
from gantry_domain.completeness import QuietTimes
from gantry_domain.hl7.acknowledgement import acknowledgement
from gantry_domain.hl7.framing import Framer, framed
from gantry_domain.hl7.message import Message, read_message
from gantry_runtime.settings import load_settings
from gantry_stores.index import subscribers as lines
from gantry_stores.index.database import transaction
from gantry_stores.index.subscribers import SubscriberLine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.hl7_samples import order_message
from gantry_testkit.orders_door import acknowledged, orders_door
from gantry_testkit.ports import free_port
from gantry_testkit.stored import image, new_uid, rows, stage
from gantry_testkit.waiting import until
from gantry_worker.subscribers import Subscribers

SUBSCRIBER = "hl7:ris"


class Ris:
    """A listener of HL7 that answers with `codes` first: AE, nothing (`""`), or something else."""

    def __init__(self, *codes: str) -> None:
        self.port = free_port()
        self.told: list[Message] = []
        self.raw: list[bytes] = []
        self._codes = list(codes)

    @contextmanager
    def listening(self) -> Iterator[None]:
        ris = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                framer = Framer(1 << 20)
                while piece := self.request.recv(65536):
                    for frame in framer.feed(piece):
                        answer = ris._heard(frame.content)
                        if not answer:
                            return
                        self.request.sendall(answer)

        with socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def _heard(self, raw: bytes) -> bytes:
        self.raw.append(raw)
        self.told.append(read_message(raw))
        code = self._codes.pop(0) if self._codes else "AA"
        if len(code) != 2:
            return code.encode()
        return framed(acknowledgement(raw, control_id="1", now=datetime.now(UTC), code=code))

    def values(self, number: int) -> dict[str, str]:
        """Of a message: status, accession number and study."""
        message = self.told[number]
        places = {"status": ("ORC", 5), "number": ("OBR", 18), "study": ("ZDS", 1)}
        found = {}
        for name, (segment, field) in places.items():
            first = message.first(segment)
            assert first is not None
            found[name] = first.text(field)
        return found


class Scene:
    """An archive, and a worker that tells one RIS of it."""

    def __init__(self, engine: Engine, url: str, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.url = url.replace("postgresql+psycopg", "postgresql")
        self.archive = ForwardingArchive(engine, DirectoryStore(folder / "objects"))

    @contextmanager
    def telling(self, port: int, more: str = "") -> Iterator[None]:
        file = self.folder / "gantry.yaml"
        file.write_text(
            f"database: {self.url}\n"
            "forward: {backoff: {first: 300ms, longest: 300ms}}\n"
            "hl7: {receivers: [{name: ris, application: RIS, facility: HOSP, timeout: 1s,"
            f" address: '127.0.0.1:{port}'{more}}}]}}\n"
        )
        settings = load_settings({"GANTRY_CONFIG": str(file), "GANTRY_DATA": str(self.folder)})
        assert settings.subscribers == (SUBSCRIBER,)
        with transaction(self.engine) as connection:
            lines.add_subscribers(connection, settings.subscribers)
        stopping = threading.Event()
        subscribers = Subscribers(settings, stopping=stopping)
        subscribers.start()
        try:
            yield
        finally:
            stopping.set()
            assert subscribers.join(10)

    def study(self, number: str) -> str:
        """A study with this accession number, complete."""
        study = new_uid()
        ds = image(StudyInstanceUID=study, AccessionNumber=number)
        self.archive.index(stage(self.archive.store, ds))
        later = datetime.now(UTC) + timedelta(hours=1)
        quiet = QuietTimes(default=timedelta(minutes=5))
        assert complete_studies(self.engine, quiet, all_indexed_until=later, now=later) == 1
        return study

    def line(self) -> SubscriberLine:
        with transaction(self.engine) as connection:
            (found,) = lines.list_subscribers(connection, [SUBSCRIBER])
        return found


@pytest.fixture
def scene(engine: Engine, postgres_url: str, tmp_path: Path) -> Scene:
    return Scene(engine, postgres_url, tmp_path)


def test_a_study_completes_its_order(scene: Scene) -> None:
    """Our own worklist service is the RIS: it reads what we write."""
    with orders_door(scene.engine, scene.folder / "door") as door:
        order = order_message(accession="A7", patient="P7^^^HOSP", name="WONG^SIU MING=王^小明")
        assert acknowledged(door.hl7, order) == ["AA"]
        with scene.telling(door.hl7[1]):
            scene.study("A7")
            state = "SELECT state FROM order_step"
            until(lambda: rows(scene.engine, state) == [("completed",)])
        kept = rows(scene.engine, "SELECT content FROM hl7_message WHERE kind = 'ORM^O01'")
    (update,) = (bytes(raw) for (raw,) in kept if b"ORC|SC" in bytes(raw))
    message = read_message(update)
    patient, control = message.first("PID"), message.first("ORC")
    assert patient is not None
    assert control is not None
    # The patient's identifier as the order has it, not as the modality typed it.
    assert (patient.text(3), control.text(2), control.text(3)) == ("P7", "PLA7", "FIA7")


def test_it_is_told_until_it_takes_it_and_what_others_have_goes_on(scene: Scene) -> None:
    ris = Ris("AE", "", "nonsense", "AE")
    with scene.telling(ris.port, ", order_status: A"):
        study = scene.study("A1")
        until(lambda: scene.line().failures >= 1)
        assert "cannot connect" in str(scene.line().reason)
        with ris.listening():
            until(lambda: scene.line().behind is None)
    assert len(ris.told) == 5
    assert len(set(ris.raw)) == 1  # the same message, with the same control identifier
    assert ris.values(0) == {"status": "A", "number": "A1", "study": study}


def test_what_it_rejects_is_kept_and_a_study_without_a_number_is_not_told(scene: Scene) -> None:
    ris = Ris("AR")
    with ris.listening(), scene.telling(ris.port):
        scene.study("A1")
        until(lambda: scene.line().refused == 1)
        assert scene.line().reason == "answered AR"
        scene.study("")
        study = scene.study("A3")
        until(lambda: len(ris.told) == 2)
        until(lambda: scene.line().behind is None)
    assert len(ris.told) == 2
    assert ris.values(1)["study"] == study

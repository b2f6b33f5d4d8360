"""C-GET over real associations: pynetdicom asks, and takes what comes on the same association."""

import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pynetdicom import build_context, build_role, evt
from sqlalchemy.engine import Engine

from gantry_dimse.server import DimseServer
from gantry_domain.information_models import (
    COMPOSITE_INSTANCE_ROOT_GET,
    PATIENT_ROOT_GET,
    STUDY_ROOT_GET,
    WITHOUT_BULK_DATA_GET,
)
from gantry_domain.keys import object_key
from gantry_runtime.metrics import sample
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.query_scu import Retrieved, associated, identifier
from gantry_testkit.stored import CT_IMAGE, image, new_uid, rows, stage
from gantry_testkit.waiting import until

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
DOCUMENT = "1.2.840.10008.5.1.4.1.1.88.11"
CT = ((CT_IMAGE, (EXPLICIT, IMPLICIT)),)


@dataclass(slots=True)
class Client:
    """A C-GET client and what it received."""

    server: DimseServer
    received: list[tuple[str, str, bytes]] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)

    def association(
        self,
        contexts: Sequence[tuple[str, Sequence[str]]] = CT,
        *,
        roles: bool = True,
        model: str = STUDY_ROOT_GET,
        calling: str = "WS1",
        max_pdu: int = 16384,
    ):
        classes = dict.fromkeys(uid for uid, _ in contexts)
        return associated(
            self.server.address,
            calling=calling,
            max_pdu=max_pdu,
            contexts=[
                build_context(model),
                *(build_context(uid, list(syntaxes)) for uid, syntaxes in contexts),
            ],
            ext_neg=[build_role(uid, scp_role=True) for uid in classes] if roles else [],
            handlers=[(evt.EVT_C_STORE, self._store)],
        )

    def get(self, ds: Dataset, model: str = STUDY_ROOT_GET, **options: object) -> Retrieved:
        with self.association(model=model, **options) as assoc:
            for context in assoc.accepted_contexts:
                # pynetdicom, unlike the clients that forget to ask for the role, refuses without.
                context._as_scp = True
            return Retrieved(list(assoc.send_c_get(ds, model)))

    @property
    def uids(self) -> list[str]:
        return [uid for uid, _, _ in self.received]

    def _store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        syntax = str(event.context.transfer_syntax)
        self.received.append((uid, syntax, event.encoded_dataset(include_meta=False)))
        self.gate.wait(30)
        return self.answers.get(uid, 0)


@pytest.fixture(scope="module")
def archive(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> ForwardingArchive:
    return ForwardingArchive(module_engine, DirectoryStore(tmp_path_factory.mktemp("objects")))


@pytest.fixture(scope="module")
def server(archive: ForwardingArchive, serve_find) -> Iterator[DimseServer]:
    configuration = "query: {retrievals: 1, dimse_timeout: 3s}\npartners: [{ae_title: WS1}]\n"
    with serve_find(archive.engine, configuration, archive.store) as server:
        yield server


@pytest.fixture
def client(server: DimseServer) -> Iterator[Client]:
    client = Client(server)
    client.gate.set()
    yield client
    client.gate.set()
    until(lambda: not server.active, "every association has ended")


def study_of(archive: ForwardingArchive, *datasets: Dataset) -> str:
    archive.index(*(stage(archive.store, ds) for ds in datasets))
    return str(datasets[0].StudyInstanceUID)


def object_of(archive: ForwardingArchive, SOPInstanceUID: str) -> str:
    found = rows(
        archive.engine,
        "SELECT object_id FROM instance WHERE sop_instance_uid = :uid",
        uid=SOPInstanceUID,
    )
    return object_key(found[0][0])


@pytest.mark.parametrize("roles", [True, False], ids=["roles", "forgotten"])
def test_a_study_arrives_on_the_same_association(archive, client: Client, roles: bool) -> None:
    study, uids = archive.study(images=5)
    got = client.get(identifier("STUDY", StudyInstanceUID=study), roles=roles)
    assert (got.status, got.counts, got.identifier) == (0, (5, 0, 0), None)
    assert "NumberOfRemainingSuboperations" not in got.final
    assert client.uids == uids
    for uid, syntax, content in client.received:
        assert syntax == EXPLICIT
        stored = archive.store.read(object_of(archive, uid))
        assert stored.endswith(content)


def test_a_patient_by_the_patient_root(archive, client: Client) -> None:
    patient = new_uid()[-12:]
    sent = [image(PatientID=patient) for _ in range(3)]
    study_of(archive, *sent)
    got = client.get(identifier("PATIENT", PatientID=patient), model=PATIENT_ROOT_GET)
    assert (got.status, got.counts) == (0, (3, 0, 0))
    assert sorted(client.uids) == sorted(str(ds.SOPInstanceUID) for ds in sent)


def test_an_image_by_the_composite_instance_root(archive, client: Client) -> None:
    _, uids = archive.study(images=2)
    got = client.get(identifier("IMAGE", SOPInstanceUID=uids[1]), model=COMPOSITE_INSTANCE_ROOT_GET)
    assert (got.status, got.counts, client.uids) == (0, (1, 0, 0), [uids[1]])


def test_a_large_object_in_small_pdus(archive, client: Client) -> None:
    large = image(Rows=1024, Columns=2048, PixelData=bytes(range(256)) * (2**14))
    study = study_of(archive, large)
    got = client.get(identifier("STUDY", StudyInstanceUID=study), max_pdu=4096)
    assert (got.status, got.counts) == (0, (1, 0, 0))
    ((uid, _, content),) = client.received
    assert archive.store.read(object_of(archive, uid)).endswith(content)
    assert len(content) > 4 * 2**20


def test_each_syntax_that_the_client_takes(archive, client: Client) -> None:
    uid = archive.file(Path(str(get_testdata_file("JPEG2000.dcm", download=False))))
    found = rows(
        archive.engine,
        "SELECT o.study_instance_uid, o.sop_class_uid, o.transfer_syntax_uid FROM object o"
        " WHERE o.sop_instance_uid = :uid",
        uid=uid,
    )
    study, sop_class, syntax = found[0]
    ds = identifier("STUDY", StudyInstanceUID=study)
    # As stored where it is taken; else decoded; else it fails by name.
    both = [(sop_class, [EXPLICIT, IMPLICIT]), (sop_class, [syntax])]
    assert client.get(ds, contexts=both).counts == (1, 0, 0)
    assert client.get(ds, contexts=[(sop_class, [IMPLICIT])]).counts == (1, 0, 0)
    assert [taken for _, taken, _ in client.received] == [syntax, IMPLICIT]
    other = [(sop_class, ["1.2.840.10008.1.2.4.80"])]
    got = client.get(ds, contexts=other)
    assert (got.status, got.counts, got.failed_uids) == (0xA702, (0, 1, 0), [uid])


def test_failures_and_warnings_are_counted_and_named(archive, client: Client) -> None:
    study, uids = archive.study(images=5)
    document = image(StudyInstanceUID=study, SOPClassUID=DOCUMENT)
    study_of(archive, document)
    archive.store.delete(object_of(archive, uids[3]))
    client.answers.update({uids[0]: 0xA700, uids[1]: 0xB007})
    got = client.get(identifier("STUDY", StudyInstanceUID=study))
    assert (got.status, got.counts) == (0xB000, (2, 3, 1))
    assert sorted(got.failed_uids) == sorted([uids[0], uids[3], document.SOPInstanceUID])
    assert client.get(identifier("STUDY", StudyInstanceUID=new_uid())).counts == (0, 0, 0)
    got = client.get(identifier("SERIES", StudyInstanceUID=study))
    assert (got.status, got.final.OffendingElement) == (0xA900, 0x0020000E)


def test_cancelled_in_the_middle(archive, client: Client) -> None:
    study, uids = archive.study(images=10)
    client.gate.clear()
    with client.association() as assoc:
        context = next(c for c in assoc.accepted_contexts if c.abstract_syntax == STUDY_ROOT_GET)

        def cancel() -> None:
            until(lambda: client.received, "the first has come")
            assoc.send_c_cancel(7, context.context_id)
            client.gate.set()

        thread = threading.Thread(target=cancel)
        thread.start()
        ds = identifier("STUDY", StudyInstanceUID=study)
        got = Retrieved(list(assoc.send_c_get(ds, STUDY_ROOT_GET, msg_id=7)))
        thread.join()
        assert got.status == 0xFE00
        completed = got.counts[0]
        assert 1 <= completed < 10
        assert got.final.NumberOfRemainingSuboperations == 10 - completed
        # The association is as good as before.
        rest = Retrieved(list(assoc.send_c_get(ds, STUDY_ROOT_GET, msg_id=8)))
        assert (rest.status, rest.counts) == (0, (10, 0, 0))
    assert client.uids[completed:] == uids


def test_the_client_goes_or_falls_silent_in_the_middle(archive, client: Client) -> None:
    study, _ = archive.study(images=10)
    gone = {"service": "get", "partner": "WS1", "level": "study", "status": "gone"}
    before = sample("gantry_query_retrievals_total", **gone) or 0
    client.gate.clear()
    for leave in ("abort", "close", "silence"):
        with client.association() as assoc:
            responses = assoc.send_c_get(
                identifier("STUDY", StudyInstanceUID=study), STUDY_ROOT_GET
            )
            thread = threading.Thread(target=lambda found=responses: list(found), daemon=True)
            thread.start()
            until(lambda: client.received, "the first has come")
            if leave == "abort":
                assoc.abort()
            elif leave == "close":
                assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
            until(lambda: not client.server.active, "the association has ended", seconds=15)
            client.gate.set()
            thread.join(10)
        client.received.clear()
        client.gate.clear()
    assert sample("gantry_query_retrievals_total", **gone) == before + 3
    client.gate.set()
    # The only turn is free again.
    assert client.get(identifier("STUDY", StudyInstanceUID=study)).counts == (10, 0, 0)


def test_an_object_that_breaks_in_the_middle_ends_the_association(archive, client: Client) -> None:
    """Half of it is with the client, which must not take it for whole."""
    large = image(Rows=1024, Columns=1024, PixelData=bytes(2**21))
    study = study_of(archive, large)
    key = object_of(archive, str(large.SOPInstanceUID))
    content = archive.store.read(key)
    archive.store.delete(key)
    writer = archive.store.create(key)
    writer.write([content[:-100]])
    writer.commit()
    with client.association() as assoc:
        ds = identifier("STUDY", StudyInstanceUID=study)
        ((status, _),) = [
            found
            for found in assoc.send_c_get(ds, STUDY_ROOT_GET)
            if found[0].get("Status") != 0xFF00
        ]
        assert "Status" not in status
        until(lambda: assoc.is_aborted, "aborted")
    assert client.received == []


def test_storage_alone_is_not_accepted_here(client: Client) -> None:
    with associated(client.server.address, contexts=[build_context(CT_IMAGE)]) as assoc:
        accepted = {context.abstract_syntax for context in assoc.accepted_contexts}
        assert CT_IMAGE not in accepted
    with client.association() as assoc:
        (context,) = (c for c in assoc.accepted_contexts if c.abstract_syntax == CT_IMAGE)
        assert (context.as_scu, context.as_scp) == (False, True)


@pytest.mark.parametrize("syntaxes", [(EXPLICIT,), (IMPLICIT,), (JPEG_2000,)])
def test_instances_without_their_bulk_data(
    client: Client, archive: ForwardingArchive, syntaxes: tuple[str, ...]
) -> None:
    path = Path(str(get_testdata_file("JPEG2000.dcm")))
    compressed = pydicom.dcmread(path, stop_before_pixels=True)
    uids = [str(compressed.SOPInstanceUID)]
    there = "SELECT 1 FROM instance WHERE sop_instance_uid = :uid"
    if not rows(archive.engine, there, uid=uids[0]):
        archive.file(path)
    contexts = [(str(compressed.SOPClassUID), syntaxes)]
    if JPEG_2000 not in syntaxes:
        ds = image()
        study_of(archive, ds)
        uids.append(str(ds.SOPInstanceUID))
        contexts.append((CT_IMAGE, syntaxes))
    # Level and instances are all that there is to say.
    got = client.get(
        identifier("IMAGE", SOPInstanceUID=uids), model=WITHOUT_BULK_DATA_GET, contexts=contexts
    )
    assert (got.status, got.counts) == (0, (len(uids), 0, 0))
    assert sorted(client.uids) == sorted(uids)
    for uid, syntax, content in client.received:
        received = pydicom.filereader.read_dataset(
            BytesIO(content), is_implicit_VR=syntax == IMPLICIT, is_little_endian=True
        )
        assert received.SOPInstanceUID == uid
        assert received.Rows
        assert "PixelData" not in received
    refused = client.get(identifier("STUDY", StudyInstanceUID="1.2"), model=WITHOUT_BULK_DATA_GET)
    assert (refused.status, refused.final.OffendingElement) == (0xA900, 0x00080052)

"""Objects are staged in a real folder: what is answered for is there, and what is not, is not."""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gantry_archive.staging import PREFIX, Provenance, Refusal, Refused, Staged, Stager, Staging
from gantry_domain.keys import object_key, received_at
from gantry_domain.receipts import Receipt
from gantry_stores.objects import DirectoryStore, ObjectLost, StoreFull, StoreUnavailable

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


def data_set(pixels: int = 100, *, without: tuple[str, ...] = (), implicit: bool = False) -> bytes:
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = "1.2.3.4"
    ds.PatientName = "PROBE^ONE"
    ds.StudyInstanceUID = "1.2.3"
    ds.SeriesInstanceUID = "1.2.3.5"
    ds.Rows = ds.Columns = 1
    ds.BitsAllocated = 16
    ds.add_new("PixelData", "OW", bytes(range(256)) * (pixels // 128) + bytes(pixels * 2 % 256))
    for keyword in without:
        delattr(ds, keyword)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, ds)
    return buffer.getvalue()


def provenance(**changes: str) -> Provenance:
    values = {
        "calling_ae": "CT01",
        "receiving_ae": "GANTRY",
        "partition": "main",
        "transfer_syntax": EXPLICIT,
        "SOPClassUID": CT,
        "SOPInstanceUID": "1.2.3.4",
    }
    return Provenance(**(values | changes))


@dataclass
class Bench:
    """A stager over a folder, and the receipts that it published."""

    folder: Path
    receipts: list[Receipt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = DirectoryStore(self.folder)
        self.stopping = threading.Event()

    def stager(self, *, patience: float = 0.2, max_object_size: int = 1 << 30) -> Stager:
        return Stager(
            store=self.store,
            publish=self.receipts.append,
            max_object_size=max_object_size,
            store_patience=patience,
            stopping=self.stopping,
        )

    def stage(
        self, content: bytes, *, piece: int = 10_000, stager: Stager | None = None, **changes: str
    ) -> Staged | Refused:
        staging = (stager or self.stager()).begin(provenance(**changes))
        feed(staging, content, piece)
        return staging.finish()

    def keys(self) -> list[str]:
        return [found.key for found in self.store.list("")]

    def assert_nothing_is_left(self) -> None:
        assert self.keys() == []
        assert list((self.folder / ".tmp").iterdir()) == []
        assert self.receipts == []


def feed(staging: Staging, content: bytes, piece: int = 10_000) -> None:
    for offset in range(0, len(content), piece):
        buffer = bytearray(content[offset : offset + piece])
        staging.write(memoryview(buffer))
        buffer[:] = b"\xff" * len(buffer)  # The view is void after the call.


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "objects")


@pytest.mark.parametrize("piece", [1, 999, 1 << 20])
@pytest.mark.parametrize("pixels", [10, 31_000, 33_000, 200_000])
def test_the_bytes_as_sent_with_file_meta(bench: Bench, pixels: int, piece: int) -> None:
    content = data_set(pixels)
    result = bench.stage(content, piece=piece)
    assert isinstance(result, Staged)
    assert bench.receipts == [result.receipt]
    key = object_key(result.receipt.object_id)
    assert bench.keys() == [key]
    stored = bench.store.read(key)
    assert stored.endswith(content)
    assert result.receipt.size == len(stored)
    assert result.receipt.sha256 == hashlib.sha256(content).digest()
    meta = pydicom.dcmread(BytesIO(stored)).file_meta
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.SendingApplicationEntityTitle == "CT01"
    assert meta.ReceivingApplicationEntityTitle == "GANTRY"
    assert meta.PrivateInformation == b"main"


def test_the_key_tells_when_the_reception_began(bench: Bench) -> None:
    before = time.time()
    staging = bench.stager().begin(provenance())
    began = time.time()
    time.sleep(0.05)
    feed(staging, data_set())
    result = staging.finish()
    assert isinstance(result, Staged)
    at = received_at(result.receipt.object_id).timestamp()
    assert before - 0.01 <= at <= began + 0.01


def test_uids_that_the_request_lacks_come_from_the_data_set(bench: Bench) -> None:
    result = bench.stage(data_set(), SOPClassUID="", SOPInstanceUID="")
    assert isinstance(result, Staged)
    stored = bench.store.read(object_key(result.receipt.object_id))
    assert pydicom.dcmread(BytesIO(stored)).file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"


@pytest.mark.parametrize("pixels", [10, 200_000])
@pytest.mark.parametrize(
    ("changes", "without", "expected"),
    [
        ({"SOPInstanceUID": "1.2.9"}, (), (Refusal.MISMATCH, "SOPInstanceUID of command")),
        ({"SOPClassUID": "1.2.9"}, (), (Refusal.MISMATCH, "SOPClassUID of command")),
        ({}, ("StudyInstanceUID",), (Refusal.MISSING_UID, "StudyInstanceUID is missing")),
        ({}, ("SeriesInstanceUID",), (Refusal.MISSING_UID, "SeriesInstanceUID is missing")),
        ({}, ("SOPInstanceUID",), (Refusal.MISSING_UID, "SOPInstanceUID is missing")),
        ({}, ("SOPClassUID",), (Refusal.MISSING_UID, "SOPClassUID is missing")),
    ],
)
def test_what_cannot_be_filed_is_refused_by_name(
    bench: Bench,
    pixels: int,
    changes: dict[str, str],
    without: tuple[str, ...],
    expected: tuple[Refusal, str],
) -> None:
    refusal, detail = expected
    result = bench.stage(data_set(pixels, without=without), **changes)
    assert isinstance(result, Refused)
    assert result.refusal is refusal
    assert result.detail.startswith(detail)
    assert len(result.detail) <= 64
    bench.assert_nothing_is_left()


def test_no_patient_is_no_reason_to_refuse(bench: Bench) -> None:
    assert isinstance(bench.stage(data_set(without=("PatientName",))), Staged)


@pytest.mark.parametrize("content", [b"", b"\0", b"garbage" * 3, b"\xff" * 5000])
def test_what_is_no_data_set_is_refused(bench: Bench, content: bytes) -> None:
    result = bench.stage(content)
    assert isinstance(result, Refused)
    assert result.refusal in (Refusal.MISSING_UID, Refusal.UNREADABLE)
    bench.assert_nothing_is_left()


def test_uids_beyond_the_prefix_are_the_workers_to_judge(bench: Bench) -> None:
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = "1.2.3.4"
    ds.add_new(0x00091010, "OB", bytes(PREFIX))
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    assert isinstance(bench.stage(buffer.getvalue() + bytes(1000)), Staged)


def test_an_object_that_is_too_large(bench: Bench) -> None:
    stager = bench.stager(max_object_size=100_000)
    result = bench.stage(data_set(200_000), stager=stager)
    assert isinstance(result, Refused)
    assert result.refusal is Refusal.TOO_LARGE
    bench.assert_nothing_is_left()
    assert isinstance(bench.stage(data_set(1000), stager=stager), Staged)


@pytest.mark.parametrize("pixels", [10, 200_000])
def test_an_abort_leaves_nothing(bench: Bench, pixels: int) -> None:
    staging = bench.stager().begin(provenance())
    feed(staging, data_set(pixels))
    staging.abort()
    staging.abort()
    bench.assert_nothing_is_left()


def test_a_store_that_is_away_is_waited_for(bench: Bench) -> None:
    away = bench.folder.with_name("away")
    bench.folder.rename(away)
    timer = threading.Timer(0.5, lambda: away.rename(bench.folder))
    timer.start()
    result = bench.stage(data_set(), stager=bench.stager(patience=20))
    timer.join()
    assert isinstance(result, Staged)
    assert len(bench.keys()) == 1


def test_a_store_that_goes_away_before_the_commit_is_waited_for(bench: Bench) -> None:
    staging = bench.stager(patience=20).begin(provenance())
    content = data_set(200_000)
    feed(staging, content)
    away = bench.folder.with_name("away")
    bench.folder.rename(away)
    timer = threading.Timer(0.5, lambda: away.rename(bench.folder))
    timer.start()
    result = staging.finish()
    timer.join()
    assert isinstance(result, Staged)
    assert bench.store.read(object_key(result.receipt.object_id)).endswith(content)


def test_patience_ends(bench: Bench) -> None:
    away = bench.folder.with_name("away")
    bench.folder.rename(away)
    begun = time.monotonic()
    result = bench.stage(data_set(200_000))
    assert isinstance(result, Refused)
    assert result.refusal is Refusal.STORE_AWAY
    assert 0.15 < time.monotonic() - begun < 5
    away.rename(bench.folder)
    bench.assert_nothing_is_left()


def test_nothing_is_waited_for_once_the_process_stops(bench: Bench) -> None:
    bench.folder.rename(bench.folder.with_name("away"))
    bench.stopping.set()
    begun = time.monotonic()
    result = bench.stage(data_set(), stager=bench.stager(patience=60))
    assert isinstance(result, Refused)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("failure", "refusal"),
    [
        (StoreFull("full"), Refusal.STORE_FULL),
        (StoreUnavailable("away"), Refusal.STORE_AWAY),
        (ObjectLost("lost"), Refusal.STORE_AWAY),
    ],
)
@pytest.mark.parametrize("step", ["write", "commit"])
def test_failures_in_the_middle_of_an_object(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    failure: Exception,
    refusal: Refusal,
) -> None:
    writer_class = "gantry_stores.objects.directory.DirectoryWriter"
    staging = bench.stager().begin(provenance())
    feed(staging, data_set(200_000)[:100_000])

    def fail(*_arguments: object, **_names: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(f"{writer_class}.{step}", fail)
        feed(staging, data_set(200_000)[100_000:])
        result = staging.finish()
    assert isinstance(result, Refused)
    assert result.refusal is refusal
    bench.assert_nothing_is_left()


def test_an_outage_in_the_middle_of_an_object_costs_no_byte(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = data_set(500_000)
    staging = bench.stager(patience=20).begin(provenance())
    from gantry_stores.objects.directory import DirectoryWriter

    real: Callable[..., None] = DirectoryWriter.write
    calls = []

    def now_and_then(self: DirectoryWriter, buffers: list[memoryview]) -> None:
        calls.append(buffers)
        if len(calls) % 3 == 0:
            raise StoreUnavailable("away")
        real(self, buffers)

    monkeypatch.setattr(DirectoryWriter, "write", now_and_then)
    feed(staging, content)
    result = staging.finish()
    assert isinstance(result, Staged)
    stored = bench.store.read(object_key(result.receipt.object_id))
    assert stored.endswith(content)
    assert result.receipt.size == len(stored)


def test_implicit_and_explicit_are_both_understood(bench: Bench) -> None:
    assert isinstance(bench.stage(data_set(implicit=True), transfer_syntax=IMPLICIT), Staged)


def test_many_at_once(bench: Bench) -> None:
    content = data_set(50_000)
    stager = bench.stager()
    threads = [
        threading.Thread(target=lambda: [bench.stage(content, stager=stager) for _ in range(20)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = bench.keys()
    assert len(keys) == 160
    assert keys == sorted(object_key(receipt.object_id) for receipt in bench.receipts)

"""Objects larger than memory pass: each process stays below 250 MB, whatever it receives."""

import threading
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from gantry_dimse.proposals import ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.send import StorageAssociation
from gantry_testkit.door import data_set_bytes
from gantry_testkit.ingress_process import Ingress
from gantry_testkit.redis_server import RedisServer

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
SOP_INSTANCE = b"1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
MOST_RESIDENT = 250 * 10**6
MIB = 2**20

DATA_SET = data_set_bytes(str(get_testdata_file("CT_small.dcm")))
HEAD = DATA_SET[: DATA_SET.index(b"\xe0\x7f\x10\x00OW")]
PIECE = bytes(range(256)) * 4096


@pytest.fixture
def ingress(tmp_path: Path, redis_server: RedisServer) -> Iterator[Ingress]:
    made = Ingress(tmp_path, redis_server, "ingress: {processes: 2}\n")
    made.start()
    yield made
    assert made.stop() == 0


def send(port: int, number: int, mebibytes: int) -> int:
    """The status of one object with so many MiB of pixels, made while it is sent."""
    SOPInstanceUID = SOP_INSTANCE.replace(b"20040119072730", b"%014d" % (10**13 + number))
    pixels = (mebibytes * MIB).to_bytes(4, "little")
    head = HEAD.replace(SOP_INSTANCE, SOPInstanceUID) + b"\xe0\x7f\x10\x00OW\0\0" + pixels
    with StorageAssociation.open(
        host="127.0.0.1",
        port=port,
        calling_ae="CT01",
        called_ae="GANTRY",
        contexts=[ProposedContext(CT, (EXPLICIT,))],
        timeouts=Timeouts(dimse=600, network=600),
    ) as assoc:
        context = assoc.accepts(CT, EXPLICIT)
        assert context is not None
        return assoc.store(
            SOPClassUID=CT,
            SOPInstanceUID=SOPInstanceUID.decode(),
            context=context,
            chunks=chain([head], repeat(PIECE, mebibytes)),
        ).status


def send_all(port: int, sizes: list[int]) -> list[int]:
    """Their statuses, sent at the same time."""
    statuses = [-1] * len(sizes)

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            statuses[number] = send(port, number, sizes[number])

        return run

    threads = [threading.Thread(target=work(number)) for number in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


@pytest.mark.parametrize(
    "sizes",
    [
        [128],
        [24] * 8,
        pytest.param([3 * 1024], marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
        pytest.param([512] * 8, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
    ids=["128 MiB", "8 x 24 MiB", "3 GiB", "8 x 512 MiB"],
)
def test_memory_stays_small(ingress: Ingress, sizes: list[int]) -> None:
    assert send_all(ingress.port, sizes) == [0] * len(sizes)
    files = list((ingress.objects / "objects").rglob("*.dcm"))
    assert len(files) == len(sizes)
    for file, size in zip(sorted(files), sizes, strict=True):
        assert 0 < file.stat().st_size - size * MIB < 64 * 1024
        with file.open("rb") as content:
            content.seek(-len(PIECE), 2)
            assert content.read() == PIECE
        file.unlink()
    peak = ingress.peak_memory()
    print(f"{sizes[0]} MiB x {len(sizes)}: at most {peak / 10**6:.0f} MB resident in a process")
    assert peak < MOST_RESIDENT

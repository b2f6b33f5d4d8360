"""A full disk refuses with A700 and says so; when there is room again all goes on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from blackbox.datasets import studies
from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.run import Gantry
from blackbox.scu import Modality
from blackbox.stores import FolderStore
from blackbox.waiting import until

OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1


@pytest.fixture
def small_disk() -> Iterator[Gantry]:
    """A run whose objects lie in a file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    run = Gantry(
        config="objects: FOLDER/small\ningress: {store_patience: 1s, processes: 1}\n"
        "http: {processes: 1}\nquery: {processes: 1}\nworker: {processes: 1}\n"
    )
    folder = run.folder / "small"
    run.store = FolderStore(folder)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    try:
        if mounted.returncode != 0:
            pytest.skip("this machine does not let us mount a small file system")
        run.start()
        yield run
    finally:
        run.kill()
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
        run.clean()


@pytest.mark.long
@pytest.mark.slow
def test_a_full_store(small_disk: Gantry, tmp_path: Path) -> None:
    run, index = small_disk, Index(small_disk)
    devices = [Modality(run.port("dimse"), studies(tmp_path)).start() for _ in range(2)]
    until(lambda: all(device.acknowledged for device in devices), "images come in")
    filler = run.folder / "small" / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            pass
    until(lambda: all(device.refused for device in devices), "each device is refused")
    until(lambda: "full" in "".join(run.lacking("ingress")), "the ingress says what it lacks")
    filler.unlink()
    before = [len(device.acknowledged) for device in devices]
    until(
        lambda: all(
            len(device.acknowledged) > count + 3
            for device, count in zip(devices, before, strict=True)
        ),
        "images come in again",
    )
    for device in devices:
        device.stop()
        assert {answer.status for answer in device.refused} == {OUT_OF_RESOURCES}
    assert not any(run.restarts(service) for service in ("ingress", "worker", "query"))
    until(lambda: run.ready() and not any(run.lacking("ingress")), "all is well again")
    until(index.settled, "each key has its row")
    promised = {sample.SOPInstanceUID for device in devices for sample in device.acknowledged}
    assert set(Archive(run.http).found(promised)) == promised
    assert not run.store.begun()
    run.stop_cleanly()

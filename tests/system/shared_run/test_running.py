"""What a ready line says is so; commands speak to the run; another one runs beside it."""

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pynetdicom import build_context
from pynetdicom.sop_class import Verification

from blackbox.datasets import studies
from blackbox.dicomweb import Archive, dataset_of
from blackbox.index import Index
from blackbox.run import SERVICES, Gantry, refused
from blackbox.scu import Modality, associate
from blackbox.waiting import until

OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1


def test_ready_line_names_addresses_that_answer(gantry: Gantry) -> None:
    (line,) = [line for line in gantry.lines if line.startswith("gantry ready")]
    assert f"127.0.0.1:{gantry.port('dimse')}" in line
    assert f"http://127.0.0.1:{gantry.port('http')}/dicomweb" in line
    assert gantry.ready()
    assert gantry.http.get("/dicomweb/studies", params={"limit": 1}).status_code == 200


def test_the_front_door_answers_echo(gantry: Gantry) -> None:
    assoc = associate(gantry.port("dimse"), [build_context(Verification)])
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0
    assoc.release()


def test_listeners_are_on_loopback_alone(gantry: Gantry) -> None:
    pids = set(gantry.processes())
    own = {
        os.readlink(link)
        for pid in pids
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.is_symlink()
    }
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:  # LISTEN
                assert fields[1].startswith("0100007F:"), line


@pytest.mark.long
def test_a_second_run_beside_the_first_is_killed_started_again_and_stopped(
    gantry: Gantry, new_gantry: Callable[..., Gantry], tmp_path: Path
) -> None:
    other = new_gantry(config="sweep: {after: 4s, every: 1s}\n")
    other.start()
    device = Modality(other.port("dimse"), studies(tmp_path)).start()
    until(lambda: len(device.acknowledged) > 20, "images come in")
    other_archive, first_archive = Archive(other.http), Archive(gantry.http)
    first_image = device.acknowledged[0].SOPInstanceUID
    until(lambda: other_archive.found([first_image]), "the image is found")
    assert not first_archive.found([first_image])

    # kill -9 in the middle of everything: the engines and all else go down with it.
    assert other.up is not None
    before = other.processes()
    other.up.send_signal(signal.SIGKILL)
    other.up.wait(10)
    until(lambda: not any(seen.running() for seen in before.values()), "all are gone", seconds=30)
    assert not other.processes()
    assert gantry.ready()
    other.start()
    index = Index(other)
    count = len(device.acknowledged)
    until(lambda: len(device.acknowledged) > count + 20, "the device goes on")
    device.stop()
    until(index.settled, "each key has its row")
    promised = {sample.SOPInstanceUID for sample in device.acknowledged}
    assert set(other_archive.found(promised)) == promised

    # SIGTERM while a device sends: what was answered for is in the store.
    late = Modality(other.port("dimse"), studies(tmp_path)).start()
    until(lambda: len(late.acknowledged) > 20, "images come in")
    other.stop_cleanly()
    late.stop()
    stored = {
        hashlib.sha256(dataset_of(other.store.content(key))).digest()
        for key in index.stored_keys().values()
    }
    assert {sample.sha256 for sample in (*device.acknowledged, *late.acknowledged)} <= stored
    assert {answer.status for answer in late.refused} <= {OUT_OF_RESOURCES}
    assert gantry.ready()


def test_second_up_on_the_same_data_is_refused(
    gantry: Gantry, new_gantry: Callable[..., Gantry]
) -> None:
    other = new_gantry()
    line = refused(other.run("up", names={"GANTRY_DATA": str(gantry.data)}))
    assert str(gantry.data) in line
    assert gantry.ready()


def test_status_and_echo_of_a_run(gantry: Gantry) -> None:
    status = gantry.run("status")
    assert status.returncode == 0, status.stderr
    for service in SERVICES:
        assert service in status.stdout
    echo = gantry.run("echo", f"GANTRY@127.0.0.1:{gantry.port('dimse')}")
    assert echo.returncode == 0, echo.stderr

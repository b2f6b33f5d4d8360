"""One command starts everything; a user's mistake is one clear line; nothing stays behind."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pynetdicom import build_context
from pynetdicom.sop_class import Verification

from blackbox.datasets import studies
from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.run import SERVICES, Gantry
from blackbox.scu import associate, send
from blackbox.waiting import until

NewGantry = Callable[..., Gantry]


def refused(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a command says what the user did wrong."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("gantry: ")
    assert "Traceback" not in lines[0]
    return lines[0]


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


def test_two_runs_side_by_side_and_nothing_left_after_sigterm(
    gantry: Gantry, new_gantry: NewGantry, tmp_path: Path
) -> None:
    other = new_gantry()
    other.start()
    (sample,) = (next(studies(tmp_path)),)
    (answer,) = send(other.port("dimse"), [sample])
    assert answer.success
    until(lambda: Archive(other.http).found([sample.SOPInstanceUID]), "the image is found")
    assert not Archive(gantry.http).found([sample.SOPInstanceUID])

    other.stop_cleanly()
    assert gantry.ready()

    # What was stored is there again after the next start.
    other.start()
    assert Archive(other.http).found([sample.SOPInstanceUID])
    assert Index(other).stored_files()
    other.stop_cleanly()


def test_killed_up_leaves_no_process_and_starts_again(new_gantry: NewGantry) -> None:
    run = new_gantry()
    run.start()
    assert run.up is not None
    before = run.processes()
    run.up.send_signal(signal.SIGKILL)
    run.up.wait(10)
    until(lambda: not any(seen.running() for seen in before.values()), "all are gone", seconds=30)
    assert not run.processes()
    run.start()
    run.stop_cleanly()


def test_stop_during_the_start_leaves_nothing(new_gantry: NewGantry) -> None:
    run = new_gantry()
    with pytest.raises(AssertionError, match="ended with"):
        _interrupt_while_starting(run)
    assert not run.processes()


def _interrupt_while_starting(run: Gantry) -> None:
    def terminate_once_something_runs() -> bool:
        if len(run.processes()) < 3 or run.up is None:
            return False
        run.up.terminate()
        return True

    watcher = threading.Thread(
        target=until, args=(terminate_once_something_runs, "it begins to start"), daemon=True
    )
    watcher.start()
    try:
        run.start()
    finally:
        watcher.join()


def test_second_up_on_the_same_data_is_refused(gantry: Gantry, new_gantry: NewGantry) -> None:
    other = new_gantry()
    line = refused(other.run("up", names={"GANTRY_DATA": str(gantry.data)}))
    assert str(gantry.data) in line
    assert gantry.ready()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("partnerz: []\n", ("partnerz", "partners")),
        ("ingress: {max_asociations: 3}\n", ("ingress.max_asociations", "max_associations")),
        ("timezone: Mars/Olympus\n", ("timezone",)),
        ("ae_titles: [A_TITLE_OF_MORE_THAN_SIXTEEN]\n", ("ae_titles",)),
        ("partners: {\n", ("line",)),
        ("listen: {address: 0.0.0.0}\n", ("auth",)),
        ("database: postgresql://me:secret@db/gantry\n", ("database", "GANTRY_DATABASE_PASSWORD")),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    new_gantry: NewGantry, config: str, expected: tuple[str, ...]
) -> None:
    run = new_gantry(config=config)
    line = refused(run.run("up"))
    assert "gantry.yaml" in line
    for word in expected:
        assert word in line
    assert "secret" not in line
    assert not run.data.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GANTRY_DATTA", "/tmp"),
        ("GANTRY_PORT_BASE", "150"),
        ("GANTRY_PORT_BASE", "many"),
        ("GANTRY_PORT_BASE", "20100"),
        ("GANTRY_CONFIG", "/nowhere/gantry.yaml"),
    ],
)
def test_a_wrong_name_or_value_in_the_environment_is_refused(
    new_gantry: NewGantry, name: str, value: str
) -> None:
    line = refused(new_gantry().run("up", names={name: value}))
    assert name in line or value in line


@pytest.mark.parametrize("door", ["dimse", "http", "ingress", "worker", "query"])
def test_a_port_in_use_is_refused_before_anything_starts(new_gantry: NewGantry, door: str) -> None:
    run = new_gantry()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", run.port(door)))
        taken.listen()
        line = refused(run.run("up"))
    assert str(run.port(door)) in line
    assert "GANTRY_PORT_BASE" in line
    assert not run.processes()


def test_an_unreachable_database_is_one_line(new_gantry: NewGantry) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = nobody.getsockname()[1]
        run = new_gantry(config=f"database: postgresql://me@127.0.0.1:{port}/gantry\n")
        line = refused(run.run("up"))
    assert str(port) in line
    assert not run.processes()


@pytest.mark.parametrize(
    "arguments", [("upp",), ("up", "--demoo"), ("echo",), ("echo", "NOBODY"), ("status",)]
)
def test_a_wrong_command_is_one_line(new_gantry: NewGantry, arguments: tuple[str, ...]) -> None:
    ended = new_gantry().run(*arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("gantry: ")


def test_status_and_echo_of_a_run(gantry: Gantry) -> None:
    status = gantry.run("status")
    assert status.returncode == 0, status.stderr
    for service in SERVICES:
        assert service in status.stdout
    echo = gantry.run("echo", f"GANTRY@127.0.0.1:{gantry.port('dimse')}")
    assert echo.returncode == 0, echo.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_runs_as_an_ordinary_user(new_gantry: NewGantry, tmp_path: Path) -> None:
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
    run = new_gantry(prefix=become)
    os.chown(run.folder, 65534, 65534)
    run.names["HOME"] = str(run.folder)
    run.start()
    (sample,) = (next(studies(tmp_path)),)
    assert send(run.port("dimse"), [sample])[0].success
    until(lambda: Archive(run.http).found([sample.SOPInstanceUID]), "the image is found")
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in run.processes()}
    assert owners == {65534}
    run.stop_cleanly()

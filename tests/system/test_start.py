"""One command starts everything; a user's mistake is one clear line; nothing stays behind."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from blackbox.datasets import studies
from blackbox.dicomweb import Archive
from blackbox.run import Gantry, refused
from blackbox.scu import send
from blackbox.waiting import until

NewGantry = Callable[..., Gantry]


def finished(command: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """A command at its end."""
    with command:
        out, err = command.communicate(timeout=90)
    return subprocess.CompletedProcess(command.args, command.returncode, out, err)


@pytest.fixture(scope="module", autouse=True)
def without_database() -> Iterator[tuple[int, Gantry, subprocess.Popen[str]]]:
    """A run whose database nobody serves; it waits for it while other tests do their work."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = nobody.getsockname()[1]
        run = Gantry(config=f"database: postgresql://me@127.0.0.1:{port}/gantry\n")
        waiting = run.begin("up")
        try:
            yield port, run, waiting
        finally:
            if waiting.poll() is None:
                waiting.kill()
                waiting.communicate()
            run.clean()


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


WRONG_SETTINGS = {
    "partnerz: []\n": ("partnerz", "partners"),
    "ingress: {max_asociations: 3}\n": ("ingress.max_asociations", "max_associations"),
    "listen: {address: 0.0.0.0}\n": ("auth",),
    "database: postgresql://me:secret@db/gantry\n": ("database", "GANTRY_DATABASE_PASSWORD"),
}


def test_a_wrong_setting_is_refused_by_name(new_gantry: NewGantry) -> None:
    # A command takes its seconds to begin: all at once.
    runs = {config: new_gantry(config=config) for config in WRONG_SETTINGS}
    commands = {config: run.begin("up") for config, run in runs.items()}
    for config, expected in WRONG_SETTINGS.items():
        line = refused(finished(commands[config]))
        assert "gantry.yaml" in line
        for word in expected:
            assert word in line
        assert "secret" not in line
        assert not runs[config].data.exists()


WRONG_ENVIRONMENTS = {
    "GANTRY_DATTA": "/tmp",
    "GANTRY_PORT_BASE": "150",
    "GANTRY_CONFIG": "/nowhere/gantry.yaml",
}


def test_a_wrong_environment_is_refused_by_name(new_gantry: NewGantry) -> None:
    commands = {
        name: new_gantry().begin("up", names={name: value})
        for name, value in WRONG_ENVIRONMENTS.items()
    }
    for name, value in WRONG_ENVIRONMENTS.items():
        line = refused(finished(commands[name]))
        assert name in line or value in line


def test_a_port_in_use_is_refused_before_anything_starts(new_gantry: NewGantry) -> None:
    runs = {door: new_gantry() for door in ("dimse", "http", "worker")}
    with ExitStack() as stack:
        commands = {}
        for door, run in runs.items():
            taken = stack.enter_context(socket.socket())
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", run.port(door)))
            taken.listen()
            commands[door] = run.begin("up")
        for door, run in runs.items():
            line = refused(finished(commands[door]))
            assert str(run.port(door)) in line
            assert "GANTRY_PORT_BASE" in line
            assert not run.processes()


def test_a_wrong_command_is_one_line(new_gantry: NewGantry) -> None:
    wrong = [("upp",), ("up", "--demoo"), ("echo", "NOBODY"), ("status",)]
    commands = [new_gantry().begin(*arguments) for arguments in wrong]
    for command in commands:
        refused(finished(command))


def reachable_by_all(path: Path) -> bool:
    """Whether an ordinary user can come to a file."""
    real = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (real, *real.parents))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(
    not reachable_by_all(Path(sys.executable)),
    reason="this environment's Python lies in a private folder; test_clone.py has its own",
)
@pytest.mark.long
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


def test_an_unreachable_database_is_one_line(
    without_database: tuple[int, Gantry, subprocess.Popen[str]],
) -> None:
    port, run, waiting = without_database
    ended = finished(waiting)
    assert ended.returncode == 2
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert all(line.startswith("gantry: ") for line in lines), ended.stderr
    assert "database" in lines[-1]
    assert str(port) in lines[-1]
    assert not run.processes()

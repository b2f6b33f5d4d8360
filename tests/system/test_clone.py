"""A clean clone on a machine with no uv and no virtual environment: one command and it runs."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blackbox.datasets import studies
from blackbox.dicomweb import Archive
from blackbox.run import ROOT, Gantry
from blackbox.scu import send
from blackbox.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def clone(new_gantry: Callable[..., Gantry]) -> Iterator[Gantry]:
    """A run whose command is the start script of a fresh clone."""
    run = new_gantry()
    where = run.folder / "clone"
    cloned = subprocess.run(
        ["git", "clone", "--quiet", "--no-hardlinks", f"file://{ROOT}", str(where)],
        capture_output=True,
        text=True,
        check=False,
    )
    if cloned.returncode != 0:
        pytest.skip(f"git cannot clone this tree: {cloned.stderr.strip()}")
    run.command = where / "gantry"
    run.names["HOME"] = str(run.folder / "home")
    # Neither uv nor a virtual environment of ours can be found.
    run.names["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run.names["VIRTUAL_ENV"] = ""
    (run.folder / "home").mkdir()
    yield run
    shutil.rmtree(where, ignore_errors=True)


def test_a_clean_clone_starts(clone: Gantry, tmp_path: Path) -> None:
    _starts_and_stores(clone, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="the other test is of an ordinary user already")
def test_a_clean_clone_starts_for_an_ordinary_user(clone: Gantry, tmp_path: Path) -> None:
    ordinary = pwd.getpwnam("nobody")
    for path in (clone.folder, *clone.folder.rglob("*")):
        os.chown(path, ordinary.pw_uid, ordinary.pw_gid, follow_symlinks=False)
    clone.prefix = (
        "setpriv",
        f"--reuid={ordinary.pw_uid}",
        f"--regid={ordinary.pw_gid}",
        "--clear-groups",
        "--no-new-privs",
    )
    _starts_and_stores(clone, tmp_path)


def _starts_and_stores(run: Gantry, folder: Path) -> None:
    run.start(seconds=500)
    sample = next(studies(folder))
    assert send(run.port("dimse"), [sample])[0].success
    until(lambda: Archive(run.http).found([sample.SOPInstanceUID]), "the image is found")
    run.stop_cleanly()

"""`gantry verify` beside a run: silent while all is there, and by name what is not."""

from pathlib import Path

import pytest

from blackbox.datasets import image, write
from blackbox.index import Index
from blackbox.run import Gantry
from blackbox.scu import send
from blackbox.stores import FolderStore
from blackbox.waiting import until


def test_a_missing_object_is_named(gantry: Gantry, index: Index, tmp_path: Path) -> None:
    store = gantry.store
    if not isinstance(store, FolderStore):
        pytest.skip("it takes a file away")
    sample = write(image(), tmp_path)
    (answer,) = send(gantry.port("dimse"), [sample])
    assert answer.success
    until(index.settled, "it is indexed")
    done = gantry.run("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = index.objects_of(sample.SOPInstanceUID)
    key = store.keys()[row.id]
    (store.folder / key).rename(tmp_path / "away")
    try:
        done = gantry.run("verify", "--since", "2026-01-01")
    finally:
        (tmp_path / "away").rename(store.folder / key)
    assert done.returncode == 2
    assert f"missing {key}" in done.stdout.splitlines()
    assert done.stderr == "gantry: objects are damaged: 1 missing\n"

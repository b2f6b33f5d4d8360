"""Deleted over DICOMweb: gone at once, then taken back, or purged by a worker that is killed."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from blackbox.datasets import Sample, image, new_uid, write
from blackbox.index import Index
from blackbox.run import Gantry
from blackbox.scu import send
from blackbox.waiting import until

pytestmark = pytest.mark.long

CONFIG = """
delete: {enabled: true, purge_after: 1d}
sweep: {after: 5s, every: 2s}
http: {processes: 1}
query: {processes: 1}
ingress: {processes: 1}
worker: {processes: 1}
"""


@pytest.fixture
def gantry() -> Iterator[Gantry]:
    run = Gantry(config=CONFIG)
    try:
        run.start()
        yield run
    finally:
        run.clean()


def a_study(run: Gantry, folder: Path, number: int) -> tuple[str, list[Sample]]:
    study, series = new_uid(), new_uid()
    samples = [write(image(study=study, series=series, number=n), folder) for n in range(number)]
    assert all(answer.success for answer in send(run.port("dimse"), samples))
    until(lambda: shown(run, study) == number, "it is shown")
    return study, samples


def shown(run: Gantry, study: str) -> int:
    answer = run.http.get("/dicomweb/instances", params={"StudyInstanceUID": study})
    return len(answer.json())


def test_taken_back_or_purged_by_a_worker_that_dies(gantry: Gantry, tmp_path: Path) -> None:
    index = Index(gantry)
    kept, _ = a_study(gantry, tmp_path, 3)
    gone, samples = a_study(gantry, tmp_path, 12)
    assert gantry.http.delete(f"/dicomweb/studies/{gone}").status_code == 204
    assert shown(gantry, gone) == 0
    done = gantry.run("deleted", "restore", gone)
    assert (done.returncode, done.stdout) == (0, "1 deletions were taken back\n"), done.stderr
    until(lambda: shown(gantry, gone) == 12, "it is back")
    listed = gantry.run("deleted", "list").stdout.splitlines()[1].split()
    assert listed[:5] == [gone, "main", "study", "12", "restored"]

    # Deleted again, and this time nobody wants it back. What a device sends again follows.
    assert gantry.http.delete(f"/dicomweb/studies/{gone}").status_code == 204
    assert send(gantry.port("dimse"), samples[:1])[0].success
    until(index.settled, "what came again has its row")
    assert shown(gantry, gone) == 0
    deleted = "SELECT object_id FROM deleted_object ORDER BY object_id"
    ids = {row[0] for row in index.rows(deleted)}
    assert len(ids) == 13
    with index.connection() as connection, connection.transaction():
        # So the purge stands still where objects are out of the store and their rows are not out
        # of the index.
        connection.execute(
            "SELECT 1 FROM deleted_object WHERE object_id = %s FOR UPDATE", [max(ids)]
        )
        index.rows("UPDATE deletion SET deleted_at = now() - interval '2 d' RETURNING 1")
        until(lambda: not ids & index.stored_keys().keys(), "the objects are gone")
        assert {row[0] for row in index.rows(deleted)} == ids
        for process in gantry.children("worker"):
            process.send(signal.SIGKILL)
    until(lambda: index.rows(deleted) == [], "the rows are gone too", seconds=90)
    until(gantry.ready, "the worker is there again")
    until(index.settled, "store and index name the same objects")
    assert {row[0] for row in index.rows("SELECT state FROM deletion")} == {"purged", "restored"}
    assert (shown(gantry, gone), shown(gantry, kept)) == (0, 3)
    verified = gantry.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    events = gantry.http.get("/dicomweb/events", params={"limit": 1000}).json()["events"]
    told = [event["kind"] for event in events if event["StudyInstanceUID"] == gone]
    assert [kind for kind in told if kind not in ("indexed", "complete")] == [
        "received",
        "deleted",
        "received",
        "restored",
        "deleted",
        "purged",
    ]
    gantry.stop_cleanly()

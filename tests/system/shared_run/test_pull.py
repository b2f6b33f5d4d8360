"""`gantry pull` from archives as people have them: Orthanc and dcmqrscp."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from blackbox.datasets import Sample, image, new_uid, write
from blackbox.dicomweb import Archive
from blackbox.index import Index
from blackbox.peers import Peer, dcmqrscp, orthanc
from blackbox.run import Gantry
from blackbox.scu import association, store
from blackbox.waiting import until


def fill(peer: Peer, folder: Path, *, date: str, modality: str, images: int) -> list[Sample]:
    """A study that the peer holds."""
    study, series, samples = new_uid(), new_uid(), []
    for number in range(images):
        ds = image(study=study, series=series, number=number)
        ds.StudyDate, ds.Modality = date, modality
        samples.append(write(ds, folder))
    with association(peer.port, samples, called_ae=peer.ae_title) as assoc:
        assert all(store(assoc, sample).success for sample in samples)
    return samples


def pull(gantry: Gantry, peer: Peer, *options: str) -> CompletedProcess[str]:
    """One that must succeed."""
    done = gantry.run("pull", "--from", f"{peer.ae_title}@127.0.0.1:{peer.port}", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def found(archive: Archive, samples: list[Sample]) -> bool:
    uids = [sample.SOPInstanceUID for sample in samples]
    return set(archive.found(uids)) == set(uids)


def test_what_is_not_here_is_fetched_and_nothing_twice(
    gantry: Gantry, index: Index, archive: Archive, tmp_path: Path
) -> None:
    here = {"AET": "GANTRY", "Host": "127.0.0.1", "Port": gantry.port("dimse")}
    with orthanc(tmp_path / "peer", options={"DicomModalities": {"gantry": here}}) as peer:
        new_year = fill(peer, tmp_path, date="20260101", modality="CT", images=3)
        later = fill(peer, tmp_path, date="20260103", modality="CT", images=2)
        other = fill(peer, tmp_path, date="20260101", modality="MR", images=1)

        done = pull(gantry, peer, "--dry-run")
        *table, last = done.stdout.splitlines()
        assert last == "ORTHANC has 3 studies, 3 of them not here"
        assert [later[0].StudyInstanceUID, "20260103", "CT", "2"] in [row.split() for row in table]

        window = ["--since", "2026-01-01", "--until", "2026-01-02"]
        done = pull(gantry, peer, *window, "--modality", "CT")
        assert f"{new_year[0].StudyInstanceUID}: 3 instances" in done.stdout.splitlines()
        until(lambda: found(archive, new_year), "the study is found here")
        for sample in new_year:
            (row,) = index.objects_of(sample.SOPInstanceUID)
            assert index.stored_dataset(row.id) == sample.dataset_bytes

        done = pull(gantry, peer)
        assert done.stdout.splitlines()[0] == "ORTHANC has 3 studies, 2 of them not here"
        assert done.stdout.splitlines()[-1] == "2 studies came, 3 instances in all"
        until(lambda: found(archive, [*later, *other]), "the others are found here")


@pytest.mark.slow
def test_an_archive_that_counts_no_instances_is_asked_for_each(
    gantry: Gantry, archive: Archive, tmp_path: Path
) -> None:
    with dcmqrscp(tmp_path / "peer", knows={"GANTRY": gantry.port("dimse")}) as peer:
        samples = fill(peer, tmp_path, date="20260101", modality="CT", images=2)
        assert f"{samples[0].StudyInstanceUID}: 2 instances" in pull(gantry, peer).stdout
        until(lambda: found(archive, samples), "the study is found here")
        more = fill(peer, tmp_path, date="20260102", modality="CT", images=1)
        assert pull(gantry, peer).stdout.splitlines() == [
            "DCMQRSCP has 2 studies, 1 of them not here",
            f"{more[0].StudyInstanceUID}: 1 instance",
            "1 study came, 1 instance in all",
        ]


def test_an_archive_that_does_not_know_us_is_one_line(gantry: Gantry, tmp_path: Path) -> None:
    with orthanc(tmp_path / "peer") as peer:
        fill(peer, tmp_path, date="20260101", modality="CT", images=1)
        done = gantry.run("pull", "--from", f"ORTHANC@127.0.0.1:{peer.port}")
    assert done.returncode == 2
    # This one aborts where it does not know who asks.
    assert (
        done.stderr == "gantry: ORTHANC cannot be asked: the peer aborted the association (0/0)\n"
    )

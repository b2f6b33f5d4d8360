"""Deliveries into folders and buckets: whole files under lasting names, or none."""

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider
from gantry_archive.place_destinations import Place, PlaceAway, PlaceDestination
from gantry_archive.proving import find_instances
from gantry_domain.decisions import DecisionKind
from gantry_domain.deliveries import DeliveryState
from gantry_domain.object_place import Bucket
from gantry_stores.index import proofs
from gantry_stores.index.database import transaction
from gantry_stores.index.judged_studies import find_judged
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import LEASE, TIMEOUTS, ForwardingArchive
from gantry_testkit.stored import NO_POLICIES, image, new_uid, stage

SAMPLES = ("MR_small_bigendian.dcm", "JPEG2000.dcm", "image_dfl.dcm", "reportsi.dcm")


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


def folder_place(folder: Path) -> Place:
    (folder / "exports").mkdir()
    place = Place(folder / "exports")
    place.prepare()
    return place


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return folder_place(tmp_path)
    make_bucket: Callable[..., Bucket] = request.getfixturevalue("make_bucket")
    return Place(make_bucket(prefix="exports"))


def names(place: Place) -> list[str]:
    return [found.key for found in place.store().list("")]


def sample(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def correct(archive: ForwardingArchive, study: str, **values: str) -> None:
    with transaction(archive.engine) as connection:
        (found,) = find_judged(connection, study)
    Decider(store=archive.store, engine=archive.engine, policies=NO_POLICIES, feed=None).decide(
        found, DecisionKind.CORRECT, corrected=values, by="Dr Ho", reason="mistyped"
    )


def test_each_instance_becomes_one_file_that_replaces_itself(
    archive: ForwardingArchive, place: Place
) -> None:
    study, uids = archive.study(images=3)
    pk = archive.push(study)
    sending = archive.send_place(place)
    assert archive.line(pk).state is DeliveryState.DELIVERED, archive.items(pk)
    assert sending.associated
    written = names(place)
    assert sorted(name.rpartition("/")[2] for name in written) == sorted(f"{u}.dcm" for u in uids)
    first = {name: place.store().read(name) for name in written}
    for content in first.values():
        ds = pydicom.dcmread(io.BytesIO(content))
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.PixelData
        assert "SourceApplicationEntityTitle" not in ds.file_meta
    archive.push(study)
    archive.send_place(place)
    assert {name: place.store().read(name) for name in names(place)} == first
    correct(archive, study, PatientID="CORRECTED")
    archive.push(study)
    archive.send_place(place)
    assert names(place) == written
    for name in written:
        ds = pydicom.dcmread(io.BytesIO(place.store().read(name)))
        assert ds.PatientID == "CORRECTED"
        assert len(ds.OriginalAttributesSequence) == 1
        assert ds.PixelData


def test_a_large_object_is_there_whole_and_replaced_whole(
    archive: ForwardingArchive, place: Place
) -> None:
    ds = image()
    ds.PixelData = os.urandom(20 << 20)
    archive.index(stage(archive.store, ds))
    for _ in range(2):
        archive.push(str(ds.StudyInstanceUID))
        archive.send_place(place)
        (name,) = names(place)
        sent = pydicom.dcmread(io.BytesIO(place.store().read(name)))
        assert sent.PixelData == ds.PixelData


def test_every_syntax_is_written_as_it_is_stored(
    archive: ForwardingArchive, tmp_path: Path
) -> None:
    place = folder_place(tmp_path)
    for name in SAMPLES:
        pk = archive.push(archive.file(sample(name)))
        archive.send_place(place)
        assert archive.line(pk).state is DeliveryState.DELIVERED, archive.items(pk)
    written = [pydicom.dcmread(tmp_path / "exports" / name) for name in names(place)]
    stored = [pydicom.dcmread(sample(name)) for name in SAMPLES]
    expected = {str(ds.SOPInstanceUID): ds.file_meta.TransferSyntaxUID for ds in stored}
    assert {str(ds.SOPInstanceUID): ds.file_meta.TransferSyntaxUID for ds in written} == expected
    by_uid = {str(ds.SOPInstanceUID): ds for ds in written}
    for ds in stored:
        assert by_uid[str(ds.SOPInstanceUID)] == ds


def test_uids_behind_much_else_still_name_it(archive: ForwardingArchive, tmp_path: Path) -> None:
    place = folder_place(tmp_path)
    ds = image()
    ds.private_block(0x0009, "GANTRY TEST", create=True).add_new(1, "OB", bytes(3 << 20))
    archive.index(stage(archive.store, ds))
    archive.push(str(ds.StudyInstanceUID))
    archive.send_place(place)
    assert names(place) == [f"{ds.StudyInstanceUID}/{ds.SeriesInstanceUID}/{ds.SOPInstanceUID}.dcm"]


def test_what_is_listed_is_proved(archive: ForwardingArchive, place: Place) -> None:
    study, uids = archive.study(images=2)
    pk = archive.push(study)
    archive.send_place(place, prove="find")
    with transaction(archive.engine) as connection:
        proof = proofs.claim_proof(connection, lease=LEASE)
        assert proof is not None
        assert proof.delivery_pk == pk
        found = proofs.unproved(connection, pk)
    destination = PlaceDestination(ae_title="PEER", place=place, prove="find")

    def there() -> set[str]:
        return find_instances(proof, found, destination=destination, timeouts=TIMEOUTS)

    assert there() == set(uids)
    place.store().delete(next(name for name in names(place) if uids[0] in name))
    assert there() == {uids[1]}


def test_a_bucket_that_is_not_there_is_nobody(
    archive: ForwardingArchive, make_bucket: Callable[..., Bucket]
) -> None:
    place = Place(make_bucket(name="gantry-no-such-bucket"))
    with pytest.raises(PlaceAway, match="NoSuchBucket"):
        place.try_out()
    pk = archive.push(archive.study(images=1)[0])
    sending = archive.send_place(place)
    assert "cannot be used" in str(sending.nobody_there)
    assert archive.line(pk).state is DeliveryState.FAILED
    Place(make_bucket()).try_out()
    with pytest.raises(PlaceAway, match="no profile"):
        Place(make_bucket(profile="nobody")).try_out()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB that can be unmounted."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_fails_for_now_and_leaves_no_half_file(
    archive: ForwardingArchive, small_disk: Path
) -> None:
    place = Place(small_disk)
    place.prepare()
    study = new_uid()
    for _ in range(3):
        ds = image(StudyInstanceUID=study)
        ds.PixelData = os.urandom(1 << 20)
        archive.index(stage(archive.store, ds))
    pk = archive.push(study)
    sending = archive.send_place(place)
    assert "full (No space left on device" in str(sending.nobody_there)
    line = archive.line(pk)
    assert (line.state, line.sent) == (DeliveryState.FAILED, 2)
    assert {state for state, *_ in archive.items(pk).values()} == {"accepted", "failed"}
    assert len(names(place)) == 2
    assert os.listdir(small_disk / ".tmp") == []
    with pytest.raises(PlaceAway, match="full"):
        place.try_out()
    first = names(place)[0]
    place.store().delete(first)
    place.try_out()
    archive.due_now()
    archive.send_place(place)
    assert archive.line(pk).state is DeliveryState.DELIVERED
    assert len(names(place)) == 2


def test_nothing_is_written_where_nothing_is_mounted(
    archive: ForwardingArchive, small_disk: Path
) -> None:
    place = Place(small_disk)
    place.prepare()
    archive.push(archive.study(images=1)[0])
    archive.send_place(place)
    subprocess.run(["umount", str(small_disk)], check=True)
    pk = archive.push(archive.study(images=1)[0])
    sending = archive.send_place(place)
    assert "is it mounted?" in str(sending.nobody_there)
    assert archive.line(pk).state is DeliveryState.FAILED
    assert os.listdir(small_disk) == []
    with pytest.raises(PlaceAway, match="mounted"):
        place.try_out()

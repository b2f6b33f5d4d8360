"""The same SOP Instance UID again: one outcome, the designed one, however it arrives."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from blackbox.datasets import SECRET, Sample, copy_of, image, new_uid, write
from blackbox.dicomweb import Archive, dataset_of, value
from blackbox.index import Index, Row
from blackbox.run import Gantry
from blackbox.scu import send, send_together
from blackbox.waiting import until

Change = Callable[[Dataset], None]


def as_it_is(ds: Dataset) -> None:
    """The same bytes."""


def implicit(ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def rle(ds: Dataset) -> None:
    ds.compress(RLELossless, generate_instance_uid=False)


def demographics(ds: Dataset) -> None:
    ds.PatientName = f"{SECRET}^Other"
    ds.PatientBirthDate = "19710202"


def pixels(ds: Dataset) -> None:
    ds.PixelData = bytes(reversed(ds.PixelData))


def series(ds: Dataset) -> None:
    ds.SeriesInstanceUID = new_uid()


def study(ds: Dataset) -> None:
    ds.StudyInstanceUID = new_uid()


@dataclass(frozen=True, slots=True)
class Place:
    """A run, what can be seen of it, and a folder for what is sent."""

    gantry: Gantry
    index: Index
    archive: Archive
    folder: Path

    def file(self, original: Dataset, change: Change = as_it_is) -> Sample:
        ds = copy_of(original)
        change(ds)
        return write(ds, self.folder)

    def send(self, *samples: Sample, calling_ae: str = "CT01") -> None:
        answers = send(self.gantry.port("dimse"), samples, calling_ae=calling_ae)
        assert [answer.status for answer in answers] == [0] * len(samples)

    def outcome(self, uid: str, complete: Callable[[list[Row]], bool]) -> list[Row]:
        """The rows of a UID, oldest first, once they are complete and the index has settled."""

        def settled() -> list[Row] | None:
            # In this order: what is complete before all are indexed need not be so afterwards.
            if not self.index.settled():
                return None
            rows = self.index.objects_of(uid)
            return rows if complete(rows) else None

        return until(settled, "the objects of one UID, settled", seconds=60)

    def serves(self, sample: Sample) -> None:
        """A search finds the instance once, where `sample` says, and its bytes are `sample`'s."""
        found = self.archive.search("instances", SOPInstanceUID=sample.SOPInstanceUID)
        assert len(found) == 1
        where = self.archive.found([sample.SOPInstanceUID])[sample.SOPInstanceUID]
        assert where == (sample.StudyInstanceUID, sample.SeriesInstanceUID)
        part = self.archive.retrieve(*where, sample.SOPInstanceUID)
        if sample.TransferSyntaxUID == ImplicitVRLittleEndian:
            assert part.TransferSyntaxUID == ExplicitVRLittleEndian  # PS3.18 8.7.3
        else:
            assert part.TransferSyntaxUID == sample.TransferSyntaxUID
            assert dataset_of(part.content) == sample.dataset_bytes


@pytest.fixture
def place(gantry: Gantry, index: Index, archive: Archive, tmp_path: Path) -> Place:
    """The shared run."""
    return Place(gantry, index, archive, tmp_path)


@pytest.fixture
def original() -> Dataset:
    """An image that nobody sent yet."""
    return image()


def test_the_same_bytes_leave_one_object(place: Place, original: Dataset) -> None:
    first = place.file(original)
    place.send(first, first, first)
    # The extra objects are purged.
    (row,) = place.outcome(first.SOPInstanceUID, lambda rows: len(rows) == 1)
    assert (row.state, row.sha256) == ("primary", first.sha256)
    assert place.index.stored_dataset(row.id) == first.dataset_bytes
    place.serves(first)
    # And again later, when the first is long indexed.
    place.send(first)
    (again,) = place.outcome(first.SOPInstanceUID, lambda rows: len(rows) == 1)
    assert again == row


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (implicit, "duplicate"),
        (rle, "duplicate"),
        (demographics, "duplicate"),
        (pixels, "conflict"),
        (series, "conflict"),
        (study, "conflict"),
    ],
)
def test_other_bytes_never_overwrite(
    place: Place, original: Dataset, change: Change, state: str
) -> None:
    first, second = place.file(original), place.file(original, change)
    place.send(first, second)
    old, new = place.outcome(first.SOPInstanceUID, lambda rows: len(rows) == 2)
    assert (old.state, old.sha256) == ("primary", first.sha256)
    assert (new.state, new.sha256) == (state, second.sha256)
    assert new.reason
    for row, sample in ((old, first), (new, second)):
        assert place.index.stored_dataset(row.id) == sample.dataset_bytes
    place.serves(first)
    if change in (series, study):
        # Where the hidden newcomer claims to belong there is nothing to see.
        parent = f"studies/{second.StudyInstanceUID}/series/{second.SeriesInstanceUID}/instances"
        assert place.archive.search(parent) == []
        path = f"{place.archive.root}/{parent}/{second.SOPInstanceUID}"
        assert place.gantry.http.get(path).status_code == 404
    if change is study:
        assert place.archive.search("studies", StudyInstanceUID=second.StudyInstanceUID) == []


def test_the_first_encoding_stays_primary_whichever_it_was(place: Place, original: Dataset) -> None:
    samples = [place.file(original, change) for change in (rle, implicit, as_it_is)]
    place.send(*samples)
    rows = place.outcome(samples[0].SOPInstanceUID, lambda rows: len(rows) == 3)
    assert [row.state for row in rows] == ["primary", "duplicate", "duplicate"]
    place.serves(samples[0])


def test_demographics_of_a_partner_whose_last_word_counts(place: Place, original: Dataset) -> None:
    first, second = place.file(original), place.file(original, demographics)
    place.send(first, second, calling_ae="LASTWINS")
    old, new = place.outcome(first.SOPInstanceUID, lambda rows: len(rows) == 2)
    assert (old.state, new.state) == ("duplicate", "primary")
    place.serves(second)
    found = place.archive.search("studies", StudyInstanceUID=first.StudyInstanceUID)
    assert [value(item, "00100010") for item in found] == [{"Alphabetic": f"{SECRET}^Other"}]
    # Other pixels conflict, whoever sends them.
    place.send(place.file(original, pixels), calling_ae="LASTWINS")
    rows = place.outcome(first.SOPInstanceUID, lambda rows: len(rows) == 3)
    assert [row.state for row in rows] == ["duplicate", "primary", "conflict"]
    place.serves(second)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ([as_it_is] * 8, "duplicate"),
        ([as_it_is, implicit, rle, as_it_is] * 2, "duplicate"),
        ([as_it_is, demographics] * 4, "duplicate"),
        ([as_it_is, pixels] * 4, "conflict"),
        ([as_it_is, *[series] * 7], "conflict"),
    ],
    ids=["bytes", "encodings", "demographics", "pixels", "series"],
)
def test_at_once_over_eight_associations(
    place: Place, original: Dataset, changes: list[Change], state: str
) -> None:
    samples = [place.file(original, change) for change in changes]
    answers = send_together(place.gantry.port("dimse"), samples)
    assert [answer.status for answer in answers] == [0] * 8
    sent = {sample.sha256: sample for sample in samples}

    def complete(rows: list[Row]) -> bool:
        # Of each kind of bytes one object is left when the others are purged.
        kinds = Counter(row.sha256 for row in rows)
        return set(kinds) == set(sent) and set(kinds.values()) == {1}

    rows = place.outcome(original.SOPInstanceUID, complete)
    assert [row.state for row in rows] == ["primary"] + [state] * (len(rows) - 1)
    primary = rows[0]  # the lowest uuid
    assert primary.sha256
    assert hashlib.sha256(place.index.stored_dataset(primary.id)).digest() == primary.sha256
    place.serves(sent[primary.sha256])

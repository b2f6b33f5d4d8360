"""504 real files, odd and corrupt ones included: an honest status for each, and every byte back."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from blackbox.comparison import differences
from blackbox.datasets import Sample
from blackbox.dicomweb import Archive, dataset_of
from blackbox.index import Index
from blackbox.run import Gantry
from blackbox.samples import SHARED, RealFile, read_leniently, real_file, sample_files
from blackbox.scu import Answer, association, contexts_of, store, storescu
from blackbox.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

_AT_ONCE = 100  # presentation contexts of one association
# Seconds: pairs whose pixels are to be compared are decoded in processes of their own.
_SETTLING = 120
# Refused for what they are: the class is no storage class (PS3.4 Annex B) or the status says why.
_FAILURES = {0xA900, 0xC000, 0x0122}


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client sent, in order, what it was answered, and what it could not send."""

    answers: list[Answer]
    unsent: dict[Path, str]

    def first(self) -> dict[str, Sample]:
        """The first file that was taken for each SOP Instance UID: the one to be served."""
        taken: dict[str, Sample] = {}
        for answer in self.answers:
            if answer.success:
                taken.setdefault(answer.sample.SOPInstanceUID, answer.sample)
        return taken


@pytest.fixture(scope="module")
def files() -> list[RealFile]:
    """All that any client can read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [real_file(path) for path in sample_files()]
    return [file for file in found if file is not None]


@pytest.fixture(scope="module")
def sent(gantry: Gantry, files: list[RealFile]) -> Sent:
    """All files, sent by pynetdicom as they are."""
    result = Sent([], {})
    for group in _groups([file.sample for file in files]):
        waiting = list(group)
        while waiting:
            with association(gantry.port("dimse"), group) as assoc:
                while waiting and assoc.is_established:
                    sample = waiting.pop(0)
                    try:
                        answer = store(assoc, sample)
                    except (AttributeError, ValueError, NotImplementedError) as error:
                        result.unsent[sample.path] = str(error)
                    else:
                        result.answers.append(answer)
    return result


def _groups(samples: list[Sample]) -> Iterator[list[Sample]]:
    """Samples whose classes and syntaxes fit into one association."""
    group: list[Sample] = []
    for sample in samples:
        if not sample.SOPClassUID or not sample.TransferSyntaxUID:
            continue
        if len(contexts_of([*group, sample])) > _AT_ONCE:
            yield group
            group = []
        group.append(sample)
    yield group


def test_the_shared_collection_is_used() -> None:
    if not SHARED.is_dir():
        pytest.skip("../shared/data/dicom is absent: the files of the pydicom wheel stand in")
    assert len(sample_files()) == 504


def test_every_file_that_can_be_sent_gets_an_honest_status(
    sent: Sent, files: list[RealFile]
) -> None:
    fileable = {file.sample.path: file.fileable for file in files}
    assert len(sent.answers) > 0.9 * len(files)
    for answer in sent.answers:
        path = answer.sample.path
        assert answer.status is not None, f"no answer to {path}"
        if fileable[path]:
            assert answer.status == 0, f"{path}: {answer.status:04X} {answer.comment}"
        else:
            assert answer.status in _FAILURES, f"{path}: {answer.status:04X}"
            assert 0 < len(answer.comment) <= 64, path
    classes = {file.sample.path: file.sample.SOPClassUID for file in files}
    for path, why in sent.unsent.items():
        if "file meta information elements are missing" in why:
            continue  # this client does not know what to say of it
        # Media directories and private classes are not accepted; nothing else is turned away.
        turned_away = classes[path]
        assert turned_away == MediaStorageDirectoryStorage or turned_away.startswith("2.25."), path


def test_every_success_is_found_within_seconds(sent: Sent, index: Index, archive: Archive) -> None:
    until(index.settled, "each key has its row", seconds=_SETTLING, every=0.5)
    first = sent.first()
    found = archive.found(first)
    for uid in set(first) - set(found):
        rows = index.objects_of(uid)
        assert rows, f"{first[uid].path}: acknowledged, and no row"
        # What cannot be read honestly says so.
        assert all(row.state == "unreadable" and row.reason for row in rows), first[uid].path
    unreadable = index.rows("SELECT reason FROM object WHERE state = 'unreadable'")
    assert len(unreadable) <= 3, unreadable


def test_every_byte_comes_back(sent: Sent, index: Index, archive: Archive) -> None:
    until(index.settled, "each key has its row", seconds=_SETTLING, every=0.5)
    first = sent.first()
    found = archive.found(first)
    wrong: list[str] = []
    for uid, (study, series) in found.items():
        sample = first[uid]
        if (study, series) != (sample.StudyInstanceUID, sample.SeriesInstanceUID):
            wrong.append(f"{sample.path}: found under {study} {series}")
            continue
        part = archive.retrieve(study, series, uid)
        wrong += [f"{sample.path}: {what}" for what in _faults(sample, part.content)]
        if part.TransferSyntaxUID != _expected_syntax(sample):
            wrong.append(f"{sample.path}: comes as {part.TransferSyntaxUID}")
    assert not wrong, "\n".join(wrong[:30])


def _expected_syntax(sample: Sample) -> str:
    # PS3.18 8.7.3: these shall not be used on web services.
    if sample.TransferSyntaxUID in {ImplicitVRLittleEndian, ExplicitVRBigEndian}:
        return ExplicitVRLittleEndian
    return sample.TransferSyntaxUID


def _faults(sample: Sample, content: bytes) -> list[str]:
    if _expected_syntax(sample) == sample.TransferSyntaxUID:
        same = dataset_of(content) == sample.dataset_bytes
        return [] if same else [f"{sample.TransferSyntaxUID}: other bytes"]
    return differences(sample.path.read_bytes(), content)[:3]


def test_metadata_of_every_study_is_valid(sent: Sent, archive: Archive) -> None:
    for study in {place[0] for place in archive.found(sent.first()).values()}:
        items = archive.search(f"studies/{study}/metadata")
        assert items
        for item in items:
            _check_json(item)


def _check_json(item: dict[str, object]) -> None:
    """PS3.18 Annex F: no empty Value, no [null], nothing of group 0002."""
    for tag, element in item.items():
        assert len(tag) == 8
        assert tag == tag.upper()
        assert not tag.startswith("0002")
        assert isinstance(element, dict)
        assert len(element["vr"]) == 2
        assert sum(key in element for key in ("Value", "InlineBinary", "BulkDataURI")) <= 1
        values = element.get("Value")
        if values is not None:
            assert isinstance(values, list)
            assert values
            assert values != [None]
            if element["vr"] == "SQ":
                for nested in values:
                    if nested is not None:
                        _check_json(nested)


@pytest.mark.long
def test_dcmtk_sends_the_same_files(gantry: Gantry, files: list[RealFile], index: Index) -> None:
    samples = [file.sample for file in files]
    # dcmtk makes the command from the data set, so that the two cannot differ.
    fileable = {file.sample.path for file in files if file.named}
    answers = storescu(gantry.port("dimse"), samples, calling_ae="DCMTK")
    assert len(answers) > 0.85 * len(samples)
    refused = {path: said for path, said in answers.items() if said != "Success"}
    assert not fileable & set(refused), refused
    assert set(answers) - set(refused) <= fileable

    until(index.settled, "each key has its row", seconds=_SETTLING, every=0.5)
    archive = Archive(gantry.http, "dcmtk")
    first: dict[str, Sample] = {}
    for sample in samples:
        if answers.get(sample.path) == "Success":
            first.setdefault(sample.SOPInstanceUID, sample)
    found = archive.found(first)
    for uid in set(first) - set(found):
        assert all(row.state == "unreadable" for row in index.objects_of(uid, "dcmtk")), uid
    # dcmtk sends a data set as it would write it, so that values are compared, not bytes; and
    # group by group of syntaxes, so that the first of a UID is whichever the index says.
    wrong = []
    keys = index.stored_keys()
    primaries = index.rows(
        "SELECT sop_instance_uid, id, transfer_syntax_uid FROM object"
        " WHERE partition = 'dcmtk' AND state = 'primary'"
    )
    for uid, object_id, stored_syntax in primaries:
        part = archive.retrieve(*found[uid], uid)
        stored = index.run.store.content(keys[object_id])
        if part.TransferSyntaxUID == stored_syntax:
            if dataset_of(part.content) != dataset_of(stored):
                wrong.append(f"{uid}: other bytes than dcmtk sent")
        else:
            assert part.TransferSyntaxUID == ExplicitVRLittleEndian
            wrong += [f"{uid}: {what}" for what in differences(stored, part.content)[:3]]
    assert not wrong, "\n".join(wrong[:30])


def test_no_file_harmed_a_service(sent: Sent, gantry: Gantry) -> None:
    assert sent.answers
    for service in ("ingress", "worker", "query"):
        status, body = gantry.readiness(service)
        assert status == 200
        assert [process["restarts"] for process in body["processes"]] == [0] * len(
            body["processes"]
        )


def test_no_name_of_a_real_file_is_written_down(sent: Sent, gantry: Gantry) -> None:
    names = set()
    for answer in sent.answers:
        with contextlib.suppress(Exception):
            name = str(read_leniently(answer.sample.path).get("PatientName") or "")
            if "^" in name and len(name) > 8:
                names.add(name)
    assert len(names) > 10
    said = gantry.said()
    assert not [name for name in names if name in said]


def test_deflated_objects_are_served_deflated(sent: Sent, archive: Archive) -> None:
    deflated = [
        sample
        for sample in sent.first().values()
        if sample.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    ]
    if not deflated:
        pytest.skip("no deflated file in this collection came first")
    where = archive.found([deflated[0].SOPInstanceUID])[deflated[0].SOPInstanceUID]
    part = archive.retrieve(*where, deflated[0].SOPInstanceUID)
    assert part.TransferSyntaxUID == DeflatedExplicitVRLittleEndian

"""Workstations find over DIMSE what browsers find over DICOMweb."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from blackbox.datasets import SECRET, Sample, image, new_uid, write
from blackbox.dicomweb import Archive
from blackbox.findscu import findscu
from blackbox.run import Gantry
from blackbox.scu import associate, send
from blackbox.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("findscu") is None, reason="dcmtk is not installed")

UIDS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}

STUDY_KEYS = (
    "StudyInstanceUID",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
SERIES_KEYS = ("SeriesInstanceUID", "Modality", "SeriesNumber", "NumberOfSeriesRelatedInstances")
IMAGE_KEYS = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "Rows", "Columns")


def tree(folder: Path) -> list[Sample]:
    """Three studies of two series of three images, one of them of a Chinese patient."""
    samples = []
    names = [f"{SECRET}^Anna", f"{SECRET}^Siu Ming=陳^小明", f"{SECRET}^Jürgen"]
    for name in names:
        study = new_uid()
        for _ in range(2):
            series = new_uid()
            for number in range(1, 4):
                ds = image(study=study, series=series, name=name, number=number)
                samples.append(write(ds, folder))
    return samples


@pytest.fixture(scope="module")
def sent(
    gantry: Gantry, archive: Archive, tmp_path_factory: pytest.TempPathFactory
) -> list[Sample]:
    """The samples, found over DICOMweb."""
    samples = tree(tmp_path_factory.mktemp("tree"))
    assert all(answer.success for answer in send(gantry.port("dimse"), samples))
    uids = [sample.SOPInstanceUID for sample in samples]
    until(lambda: len(archive.found(uids)) == len(uids), "all are indexed and judged")
    return samples


def told(ds: Dataset, keyword: str) -> list[str]:
    """The values of an attribute of a C-FIND answer, as text."""
    element = ds[keyword]
    if element.VM == 0:
        return []
    values = element.value if element.VM > 1 else [element.value]
    return [str(value) for value in values]


def shown(item: dict[str, Any], keyword: str) -> list[str]:
    """The values of an attribute of a QIDO answer, as text."""
    tag = Dataset()
    setattr(tag, keyword, None)
    (element,) = tag
    values = item.get(f"{int(element.tag):08X}", {}).get("Value", [])
    groups = ("Alphabetic", "Ideographic", "Phonetic")
    return [
        "=".join(v.get(g, "") for g in groups).rstrip("=") if isinstance(v, dict) else str(v)
        for v in values
    ]


def by_uid(rows: list[Any], keyword: str, values: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    return {values(row, keyword)[0]: {key: values(row, key) for key in keys} for row in rows}


def same(
    gantry: Gantry, items: list[dict[str, Any]], level: str, keys: tuple[str, ...], *matched: str
) -> int:
    """Asserts that findscu finds the items of QIDO with the same values; how many there are."""
    asked = {key.partition("=")[0] for key in matched}
    wanted = [key for key in keys if key not in asked]
    found = findscu(gantry.port("find"), level, *wanted, *matched)
    assert found.status == "Success"
    for match in found.matches:
        match.decode()
        assert match.RetrieveAETitle == "GANTRY"
    uid = UIDS[level]
    assert by_uid(found.matches, uid, told, keys) == by_uid(items, uid, shown, keys)
    return len(found.matches)


def test_the_port_answers_echo_and_takes_no_images(gantry: Gantry) -> None:
    contexts = [build_context(Verification), build_context("1.2.840.10008.5.1.4.1.1.2")]
    assoc = associate(gantry.port("find"), contexts)
    assert assoc.is_established
    assert [str(c.abstract_syntax) for c in assoc.accepted_contexts] == [str(Verification)]
    assert assoc.send_c_echo().Status == 0
    assoc.release()


def test_studies(gantry: Gantry, archive: Archive, sent: list[Sample]) -> None:
    uids = ",".join(dict.fromkeys(sample.StudyInstanceUID for sample in sent))
    items = archive.search("studies", StudyInstanceUID=uids, includefield="all")
    listed = f"StudyInstanceUID={uids.replace(',', chr(92))}"
    assert same(gantry, items, "STUDY", STUDY_KEYS, listed) == 3


@pytest.mark.parametrize(
    ("question", "least"),
    [
        ("StudyDate=20260102", 3),
        ("StudyDate=20251231-20260131", 3),
        (f"PatientName={SECRET}^Siu*", 1),
        (f"PatientName={SECRET.upper()}*", 3),
        ("PatientName=*小*", 1),
        ("ModalitiesInStudy=CT", 3),
        ("ModalitiesInStudy=US", 0),
        (f"AccessionNumber={SECRET}?", 3),
    ],
)
def test_the_same_question_finds_the_same_studies(
    gantry: Gantry, archive: Archive, sent: list[Sample], question: str, least: int
) -> None:
    key, _, value = question.partition("=")
    items = archive.search("studies", **{key: value}, includefield="all", limit=5000)
    matched = [question, "SpecificCharacterSet=ISO_IR 192"]
    wanted = [other for other in STUDY_KEYS if other != key]
    found = findscu(gantry.port("find"), "STUDY", *wanted, *matched)
    for match in found.matches:
        match.decode()
    assert by_uid(found.matches, "StudyInstanceUID", told, STUDY_KEYS) == by_uid(
        items, "StudyInstanceUID", shown, STUDY_KEYS
    )
    assert len(items) >= least


def test_series_and_images(gantry: Gantry, archive: Archive, sent: list[Sample]) -> None:
    for study in dict.fromkeys(sample.StudyInstanceUID for sample in sent):
        of_study = f"StudyInstanceUID={study}"
        items = archive.search(f"studies/{study}/series", includefield="all")
        assert same(gantry, items, "SERIES", SERIES_KEYS, of_study) == 2
    for series in dict.fromkeys(sample.SeriesInstanceUID for sample in sent):
        study = next(s.StudyInstanceUID for s in sent if s.SeriesInstanceUID == series)
        path = f"studies/{study}/series/{series}/instances"
        items = archive.search(path, includefield="all")
        of_series = (f"StudyInstanceUID={study}", f"SeriesInstanceUID={series}")
        assert same(gantry, items, "IMAGE", IMAGE_KEYS, *of_series) == 3


def test_another_partition_is_another_archive(gantry: Gantry, sent: list[Sample]) -> None:
    key = f"StudyInstanceUID={sent[0].StudyInstanceUID}"
    assert len(findscu(gantry.port("find"), "STUDY", key).matches) == 1
    assert not findscu(gantry.port("find"), "STUDY", key, calling_ae="DCMTK").matches


def test_who_knows_one_port_alone_finds_and_retrieves_too(
    gantry: Gantry, sent: list[Sample], tmp_path: Path
) -> None:
    key = f"StudyInstanceUID={sent[0].StudyInstanceUID}"
    assert len(findscu(gantry.port("dimse"), "STUDY", key).matches) == 1
    assert not findscu(gantry.port("dimse"), "STUDY", key, calling_ae="DCMTK").matches
    command = ["getscu", "-S", "-aec", "GANTRY", "-od", str(tmp_path)]
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", key]
    subprocess.run(
        [*command, *keys, "127.0.0.1", str(gantry.port("dimse"))],
        env=os.environ | {"TCP_NODELAY": "1"},
        check=True,
        timeout=60,
    )
    of_study = [s for s in sent if s.StudyInstanceUID == sent[0].StudyInstanceUID]
    assert {str(dcmread(file).SOPInstanceUID) for file in tmp_path.iterdir()} == {
        sample.SOPInstanceUID for sample in of_study
    }
    passed = gantry.metrics("ingress").value(
        "gantry_ingress_associations_passed_on_total", service="query"
    )
    assert passed >= 3


def test_a_question_without_sense_is_refused(gantry: Gantry) -> None:
    found = findscu(gantry.port("find"), "SERIES", "SeriesInstanceUID")
    assert found.status == "Error: DataSetDoesNotMatchSOPClass"


def test_a_cancel_is_obeyed(gantry: Gantry, sent: list[Sample]) -> None:
    found = findscu(gantry.port("find"), "STUDY", "StudyInstanceUID", options=("--cancel", "1"))
    # So few matches may all be on their way before the cancel.
    assert found.status.startswith(("Success", "Cancel"))


def test_queries_are_counted(gantry: Gantry, sent: list[Sample]) -> None:
    labels = {"partner": "CT01", "level": "study", "status": "0000"}
    name = "gantry_query_finds_total"
    before = gantry.metrics("query").value(name, **labels)
    findscu(gantry.port("find"), "STUDY", f"PatientName={SECRET}*")
    until(
        lambda: gantry.metrics("query").value(name, **labels) == before + 1,
        "the query is counted",
    )
    assoc = associate(
        gantry.port("find"), [build_context(StudyRootQueryRetrieveInformationModelFind)]
    )
    assert assoc.is_established
    assert gantry.metrics("query").value("gantry_query_associations_active") >= 1
    assoc.release()

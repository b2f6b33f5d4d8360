"""C-FIND of the Patient Root and of Patient/Study Only: patients, and what lies below them."""

from collections.abc import Iterator

import pytest
from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from sqlalchemy.engine import Engine

from gantry_dimse.server import DimseServer
from gantry_domain.information_models import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.query_scu import answers, associated, identifier
from gantry_testkit.stored import image, rows, stage

MANY = 1300


@pytest.fixture(scope="module")
def engine(module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = make_engine(module_postgres_url, pool_size=8)
    archive = ForwardingArchive(engine, DirectoryStore(tmp_path_factory.mktemp("objects")))
    sent = [
        {"PatientID": "ONE", "PatientName": "CHAN^TAI", "StudyDate": "20240101"},
        {"PatientID": "ONE", "PatientName": "CHAN^TAI MAN", "StudyDate": "20240301"},
        {"PatientID": "ONE", "PatientName": "CHAN^TAI", "StudyDate": "20240201"},
        {
            "PatientID": "ONE",
            "PatientName": "SMITH^ANN",
            "StudyDate": "20230101",
            "IssuerOfPatientID": "ELSEWHERE",
        },
        {"PatientID": "TWO", "PatientName": "BUC^JEROME"},
        {"PatientID": "HIDDEN", "PatientName": "HIDDEN^ONE"},
    ]
    datasets = [image() for _ in sent]
    for ds, values in zip(datasets, sent, strict=True):
        for keyword, value in values.items():
            setattr(ds, keyword, value)
    archive.index(*(stage(archive.store, ds) for ds in datasets))
    rows(engine, "UPDATE study SET visible = false WHERE patient_id = 'HIDDEN' RETURNING pk")
    # The identities go on behind those of the rows above.
    fill(
        engine,
        [
            indexed(
                {
                    "StudyInstanceUID": f"1.7.{n}",
                    "SeriesInstanceUID": f"1.7.{n}.1",
                    "SOPInstanceUID": f"1.7.{n}.1.1",
                    "PatientID": f"MANY{n}",
                    "PatientName": "MANY^OF^THEM",
                }
            )
            for n in range(MANY)
        ],
    )
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def server(engine: Engine, serve_find) -> Iterator[DimseServer]:
    with serve_find(engine) as server:
        yield server


def asked(
    server: DimseServer, ds: Dataset, model: str = PATIENT_ROOT_FIND
) -> tuple[list[Dataset], list[Dataset]]:
    with associated(server.address, contexts=[build_context(model)]) as assoc:
        return answers(assoc, ds, model)


def find(server: DimseServer, ds: Dataset, model: str = PATIENT_ROOT_FIND) -> list[Dataset]:
    statuses, found = asked(server, ds, model)
    assert [s.Status for s in statuses] == [0xFF00] * len(found) + [0]
    return found


@pytest.mark.parametrize("model", [PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND])
def test_each_patient_once_as_its_newest_study_says(server: DimseServer, model: str) -> None:
    ds = identifier("PATIENT", PatientID="ONE", PatientName="", IssuerOfPatientID="")
    found = find(server, ds, model)
    assert [(str(p.PatientName), p.IssuerOfPatientID) for p in found] == [
        ("CHAN^TAI MAN", ""),
        ("SMITH^ANN", "ELSEWHERE"),
    ]
    assert found[0].QueryRetrieveLevel == "PATIENT"
    assert found[0].RetrieveAETitle == "GANTRY"
    by_name = find(server, identifier("PATIENT", PatientName="chan*", PatientID=""), model)
    assert [p.PatientID for p in by_name] == ["ONE"]


def test_patients_of_hidden_studies_are_not_there(server: DimseServer) -> None:
    assert find(server, identifier("PATIENT", PatientID="HIDDEN", PatientName="")) == []


def test_more_patients_than_a_page(server: DimseServer) -> None:
    found = find(server, identifier("PATIENT", PatientID="", PatientName="MANY^*"))
    assert sorted(p.PatientID for p in found) == sorted(f"MANY{n}" for n in range(MANY))
    everyone = find(server, identifier("PATIENT", PatientID=""))
    assert len(everyone) == MANY + 3


def test_below_a_patient(server: DimseServer) -> None:
    studies = find(
        server,
        identifier("STUDY", PatientID="ONE", StudyInstanceUID="", StudyDate=""),
    )
    assert [s.StudyDate for s in studies[:3]] == ["20240301", "20240201", "20240101"]
    assert len(studies) == 4
    study = studies[0].StudyInstanceUID
    (series,) = find(
        server, identifier("SERIES", PatientID="ONE", StudyInstanceUID=study, SeriesInstanceUID="")
    )
    (instance,) = find(
        server,
        identifier(
            "IMAGE",
            PatientID="ONE",
            StudyInstanceUID=study,
            SeriesInstanceUID=series.SeriesInstanceUID,
            SOPInstanceUID="",
        ),
    )
    assert instance.SOPInstanceUID


def test_below_any_patient_where_that_was_negotiated(server: DimseServer) -> None:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = PATIENT_ROOT_FIND
    item.service_class_application_information = bytes((1, 1, 1))
    with associated(
        server.address, contexts=[build_context(PATIENT_ROOT_FIND)], ext_neg=[item]
    ) as assoc:
        assert assoc.acceptor.sop_class_extended == {PATIENT_ROOT_FIND: b"\1\1\1"}
        for ds, number in (
            (identifier("STUDY", StudyDate="20240101-20240331", StudyInstanceUID=""), 3),
            (identifier("IMAGE", SOPInstanceUID="1.7.8.1.1", PatientID=""), 1),
            (identifier("SERIES", PatientName="CHAN*", SeriesInstanceUID=""), 3),
        ):
            statuses, found = answers(assoc, ds, PATIENT_ROOT_FIND)
            assert [s.Status for s in statuses] == [0xFF00] * number + [0]
            assert len(found) == number


def test_the_unique_keys_above_are_needed(server: DimseServer) -> None:
    (status,), _ = asked(server, identifier("STUDY", StudyInstanceUID=""))
    assert (status.Status, status.OffendingElement) == (0xA900, 0x00100020)
    ds = identifier("SERIES", PatientID="ONE", StudyInstanceUID="1.2")
    (status,), _ = asked(server, ds, PATIENT_STUDY_ONLY_FIND)
    assert (status.Status, status.OffendingElement) == (0xA900, 0x00080052)
    # A key of a lower level is not matched and comes back empty.
    ds = identifier("PATIENT", PatientID="TWO", StudyDate="20240101")
    statuses, (found,) = asked(server, ds)
    assert [s.Status for s in statuses] == [0xFF01, 0]
    assert found["StudyDate"].is_empty
